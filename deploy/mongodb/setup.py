"""Makes a fresh MongoDB ready: the replica set, and users with no more rights than they need.

    python setup.py URL USERS.json [MEMBER ...]

With members (HOST:PORT, the same on every node) the set is made of them, if there is none yet.
Where the URL names no user, `root` is made first: MongoDB allows that once, and only from its
own host. It may be run again at any time, and after every change of the users.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

Client = MongoClient[dict[str, Any]]

_UP_WITHIN_S = 120.0
_ALREADY_THERE = (51003, 51002)  # a user, a role


def set_up(url: str, wanted: dict[str, Any], members: list[str]) -> None:
    """Make the set and its users what they shall be; raises PyMongoError where that fails."""
    with MongoClient[dict[str, Any]](url, directConnection=bool(members)) as client:
        _until_primary(client, members)
        if parse_uri(url)["username"] is not None:
            _write(client, wanted)
            return
        _make_root(client, url, wanted["root"])
    signed_in = MongoClient[dict[str, Any]](
        url, directConnection=bool(members), username="root", password=wanted["root"]
    )
    with signed_in as client:
        _write(client, wanted)


def _until_primary(client: Client, members: list[str]) -> None:
    deadline = time.monotonic() + _UP_WITHIN_S
    while True:
        try:
            hello = client.admin.command("hello")
            if hello.get("isWritablePrimary"):
                return
            if members and hello.get("isreplicaset"):
                _initiate(client, members)
        except PyMongoError:
            # It is still starting, or electing.
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise TimeoutError(f"no primary after {_UP_WITHIN_S:.0f} s; run it on the primary")
        time.sleep(0.5)


def _initiate(client: Client, members: list[str]) -> None:
    rows = [{"_id": number, "host": host} for number, host in enumerate(members)]
    client.admin.command("replSetInitiate", {"_id": "rs0", "members": rows})


def _make_root(client: Client, url: str, password: str) -> None:
    try:
        client.admin.command("createUser", "root", pwd=password, roles=["root"])
    except OperationFailure:
        # Any user closes this door; then the password that is known must be the right one.
        with MongoClient[dict[str, Any]](
            url, directConnection=True, username="root", password=password
        ) as again:
            again.admin.command("ping")


def _write(client: Client, wanted: dict[str, Any]) -> None:
    for role in wanted["roles"]:
        _put(client, "Role", role["role"], {key: role[key] for key in ("privileges", "roles")})
    for user in wanted["users"]:
        _put(client, "User", user["user"], {key: user[key] for key in ("pwd", "roles")})


def _put(client: Client, kind: str, name: str, content: dict[str, Any]) -> None:
    try:
        client.admin.command(f"create{kind}", name, **content)
    except OperationFailure as error:
        if error.code not in _ALREADY_THERE:
            raise
        client.admin.command(f"update{kind}", name, **content)


def main() -> None:
    """Read the command line, and say in one line what went wrong."""
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} URL USERS.json [MEMBER ...]")
    url, file, *members = sys.argv[1:]
    try:
        set_up(url, json.loads(Path(file).read_text()), members)
    except (PyMongoError, TimeoutError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
