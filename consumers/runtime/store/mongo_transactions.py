"""Transactions in MongoDB: all or nothing, kept by a majority, their unknown ends found out."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pymongo import WriteConcern, timeout
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from events.errors import Outage, Overtaken
from events.mongo import named_errors

T = TypeVar("T")

_KEPT = WriteConcern("majority", j=True, wtimeout=8_000)
_ONE_MOMENT = ReadConcern("snapshot")
_UNKNOWN_FOR_S = 10.0
_ABORTED_WITHIN_S = 1.0
_TRIED_FOR_S = 10.0


@contextmanager
def transaction(session: ClientSession, what: str) -> Iterator[None]:
    """Write all that the block writes in this session, or nothing.

    Raises what `named_errors` does, and Overtaken for a key that is there already. An Outage may
    leave it unknown whether it was written: who comes again must look first.
    """
    with _overtaken(what), named_errors(what):
        session.start_transaction(_ONE_MOMENT, _KEPT)
        try:
            yield
        except BaseException:
            # Not for long: the next one in this session ends it also.
            with timeout(_ABORTED_WITHIN_S):
                session.abort_transaction()
            raise
        _end(session)


def _end(session: ClientSession) -> None:
    deadline = time.monotonic() + _UNKNOWN_FOR_S
    while True:
        try:
            session.commit_transaction()
        except PyMongoError as error:
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            if not unknown or time.monotonic() > deadline:
                raise
        else:
            return


@contextmanager
def _overtaken(what: str) -> Iterator[None]:
    try:
        yield
    except (DuplicateKeyError, BulkWriteError) as error:
        raise Overtaken(f"{what}: another writer was first.") from error


def in_transaction(session: ClientSession, what: str, write: Callable[[], T]) -> T:
    """Return what `write` does in a transaction, tried again where another one's came between.

    An Overtaken that `write` itself raises passes: it has looked. Raises Outage when it has come
    to nothing for ten seconds.
    """
    deadline = time.monotonic() + _TRIED_FOR_S
    while True:
        try:
            with transaction(session, what):
                return write()
        except Overtaken as overtaken:
            if not isinstance(overtaken.__cause__, PyMongoError):
                raise
            if time.monotonic() > deadline:
                raise Outage(f"{what}: others write the same all the time.") from overtaken
        time.sleep(random.uniform(0.001, 0.02))  # noqa: S311
