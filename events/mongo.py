"""How MongoDB is connected to, what its databases are called, and its errors named."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
)
from pymongo.uri_parser import parse_uri

from events.errors import Outage, Overtaken, PacelineError, Refused

Document = dict[str, Any]
Client = MongoClient[Document]
MongoDatabase = Database[Document]

DUPLICATE_KEY = 11000
WRITE_CONFLICT = 112
_PREFIX = "paceline"
_THEIR_OWN = ("admin", "local", "config")
_LONGEST_NAME = 63
_SNAPSHOT_READS = 13  # the wire version of MongoDB 5.0
_OPTIONS: Document = {
    "appname": "paceline",
    "tz_aware": True,
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 10_000,
    "waitQueueTimeoutMS": 10_000,
    # Below the socket's, so that the server says that it is late, before we stop to listen.
    "wTimeoutMS": 8_000,
    "w": "majority",
    "journal": True,
    "readConcernLevel": "majority",
    "readPreference": "primary",
    # A write is not repeated behind our back: whoever made it knows whether it may be.
    "retryWrites": False,
    "retryReads": True,
}
_NO_ACCESS = {13, 18}  # Unauthorized, AuthenticationFailed
_OUTAGES = {
    *{6, 7, 89, 9001},  # the network between the servers
    *{91, 11600},  # shutting down
    *{189, 10107, 11602, 13435, 13436},  # not the primary, or not any more
    *{24, 50, 202, 262, 11601},  # late, or interrupted
    *{43, 175, 237},  # a cursor that a restart or a dropped collection has ended
    *{133, 134, 239, 246},  # nobody to read from, or not at that moment
    *{225, 251, 256, 290},  # a transaction that is not there any more
    14031,  # out of disk
}
_ONE_NODE = (
    "To make a replica set of one, start it with `mongod --replSet rs0`, then run `rs.initiate()` "
    "once in mongosh."
)


def connect(url: str) -> Client:
    """Return a client whose writes are kept by a majority, and whose calls end in bounded time.

    Raises PacelineError for what cannot serve us, such as a standalone server, a wrong URL or a
    wrong password, and Outage where nobody answers.
    """
    where, client = _client(url)
    try:
        _check(client, where)
    except BaseException:
        client.close()
        raise
    return client


def _client(url: str) -> tuple[str, Client]:
    try:
        nodes = parse_uri(url)["nodelist"]
        where = ", ".join(f"{host}:{port}" if port else host for host, port in nodes)
        return f"MongoDB at {where}", MongoClient(url, **_OPTIONS)
    except (InvalidURI, ValueError):
        # Not what pymongo says: it may quote a part of the password.
        raise PacelineError(
            "The store's URL is not one of MongoDB, or an option in it is wrong: write "
            "mongodb://HOST:PORT, or mongodb://USER:PASSWORD@HOST:PORT with what is special in "
            "the password percent-encoded."
        ) from None
    except ConfigurationError as error:
        raise PacelineError(f"The store's URL cannot be used: {error}.") from None


def _check(client: Client, where: str) -> None:
    try:
        with named_errors(where):
            hello = client.admin.command("hello")
    except Outage as outage:
        # A client that was told the name of a replica set forgets servers that are in none.
        if not client.topology_description.server_descriptions():
            named = "is not in the replica set that the store's URL names"
            raise PacelineError(f"{where} {named}. {_ONE_NODE}") from outage
        raise
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise PacelineError(f"{where} is a standalone, without transactions. {_ONE_NODE}")
    if hello["maxWireVersion"] < _SNAPSHOT_READS:
        raise PacelineError(f"{where} is too old; it must be MongoDB 5.0 or later.")


def database_name(client: Client, consumer: str | None = None) -> str:
    """Return the name of a consumer's database, or of the one for the log and control.

    The database that the URL names takes the place of `paceline`, so that installations can share
    a server. Raises PacelineError for a name that MongoDB has for itself or cannot have.
    """
    prefix = client.get_default_database(default=_PREFIX).name
    if prefix in _THEIR_OWN:
        raise PacelineError(
            f"The store's URL names the database {prefix}, which is MongoDB's own; where users "
            f"are kept in it, write mongodb://…/{_PREFIX}?authSource={prefix}."
        )
    name = f"{prefix}-{consumer}" if consumer else prefix
    if len(name.encode()) > _LONGEST_NAME:
        raise PacelineError(f"A database cannot be called {name}: MongoDB allows 63 bytes.")
    return name


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Turn MongoDB's errors into ours.

    Outage where waiting helps and where nobody knows what became of a write, Overtaken where
    another transaction came first, Refused for the content, PacelineError where we may not. A
    duplicate key is the caller's to judge and passes unchanged.
    """
    try:
        yield
    except (BSONError, OverflowError, UnicodeEncodeError) as error:
        raise Refused(f"{what}: {_short(str(error))}.") from error
    except PyMongoError as error:
        kind = kind_of(error)
        if kind is None:
            raise
        raise kind(_line(what, error)) from error


def kind_of(error: PyMongoError) -> type[PacelineError] | None:
    """Return what `named_errors` makes of an error, or None where it passes unchanged."""
    codes = codes_of(error)
    if isinstance(error, ConnectionFailure) or codes & _OUTAGES or _unknown(error):
        return Outage
    if WRITE_CONFLICT in codes:
        return Overtaken
    if error.has_error_label("TransientTransactionError"):
        return Outage
    if codes and codes <= {DUPLICATE_KEY}:
        return None
    if isinstance(error, WriteError | BulkWriteError) and not codes & _NO_ACCESS:
        return Refused
    return PacelineError if isinstance(error, OperationFailure | ConfigurationError) else None


def codes_of(error: PyMongoError) -> set[int]:
    """Return the server's codes for all that went wrong in one call."""
    details = getattr(error, "details", None) or {}
    each = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    code = getattr(error, "code", None)
    # pymongo's own code of a bulk write says only that it was one.
    own = [] if code is None or isinstance(error, BulkWriteError) else [code]
    return {*own, *(one["code"] for one in each if "code" in one)}


def _unknown(error: PyMongoError) -> bool:
    """Whether something was written, or may have been, and is not known to be kept."""
    if isinstance(error, WriteConcernError):
        return True
    details = getattr(error, "details", None) or {}
    unconfirmed = details.get("writeConcernErrors") or details.get("writeConcernError")
    return bool(unconfirmed) or error.has_error_label("UnknownTransactionCommitResult")


def _line(what: str, error: PyMongoError) -> str:
    if codes_of(error) & _NO_ACCESS:
        return f"{what}: {_said(error)}. Check the user, the password, authSource and the roles."
    return f"{what}: {_said(error)}."


def _said(error: PyMongoError) -> str:
    details = getattr(error, "details", None) or {}
    # A bulk write's own text quotes its documents.
    each = [*details.get("writeConcernErrors", ()), *details.get("writeErrors", ())]
    told = next((one["errmsg"] for one in each if "errmsg" in one), details.get("errmsg"))
    return _short(str(told or error).split(", Timeout: ")[0])


def _short(text: str) -> str:
    text = text.rstrip(".")
    return text if len(text) <= 300 else f"{text[:300]}…"
