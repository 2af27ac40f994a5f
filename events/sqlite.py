"""How every SQLite file is opened, written in one transaction, and its errors named."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from events.errors import Outage, PacelineError, Refused

# Versions 3.7.0 to 3.51.2 can corrupt a WAL file that two connections use, in a rare race.
SAFE_VERSION = (3, 51, 3)
BUSY_MS = 10_000
FORMAT = 1
_LOOK_S = 0.01
_OUTAGES = (
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
)


def check_version() -> None:
    """Raise PacelineError where the SQLite that is linked in can corrupt a WAL file."""
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < SAFE_VERSION:
        raise PacelineError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a file that two processes read; "
            "install the pinned apsw: make .venv"
        )


def connect(path: Path, *, vfs: str | None = None, cache_kib: int = 2_000) -> apsw.Connection:
    """Open or make a file for its one writing process: WAL, and each commit synced to disk."""
    check_version()
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _opened(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, vfs)
    with named_errors(str(path)):
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL").fetchall()
        connection.execute(f"PRAGMA cache_size=-{cache_kib}").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint=4000").fetchall()
    # Each time, because whoever made the file may have been killed before it came to this.
    _sync_folder(path.parent)
    return connection


def _write_ahead(connection: apsw.Connection) -> None:
    """Switch to WAL; waits for another process that is just making or leaving the same file.

    SQLite answers busy at once here: its busy timeout does not hold for this switch.
    """
    deadline = time.monotonic() + BUSY_MS / 1_000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_S)
        else:
            return


def connect_reader(
    path: Path, *, vfs: str | None = None, busy_ms: int = BUSY_MS
) -> apsw.Connection:
    """Open a file that another process writes, for reading; raises Outage where it is not there."""
    check_version()
    connection = _opened(path, apsw.SQLITE_OPEN_READONLY, vfs, busy_ms)
    if fetch_one(connection, "PRAGMA user_version") != FORMAT:
        connection.close()
        raise Outage(f"{path} is just being made, or by another version of this program.")
    return connection


def _opened(path: Path, flags: int, vfs: str | None, busy_ms: int = BUSY_MS) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
        connection.set_busy_timeout(busy_ms)
        connection.execute("PRAGMA schema_version").fetchall()
    except apsw.Error as error:
        raise Outage(_why_not(path, error)) from error
    return connection


def make(connection: apsw.Connection, schema: str, what: str) -> None:
    """Make the tables where they are not yet, all at once, so that a reader finds all or none."""
    found = fetch_one(connection, "PRAGMA user_version")
    if found > FORMAT:
        raise PacelineError(
            f"{what} was made by a newer version of this program; upgrade this one."
        )
    with writing(connection, what):
        connection.execute(schema).fetchall()
        connection.execute(f"PRAGMA user_version={FORMAT}").fetchall()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why_not(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"There is no {path}: has the platform ever run with this data folder?"
    return f"{path} cannot be opened: {error}."


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """Turn SQLite's errors into ours: Outage where waiting helps, Refused for the content."""
    try:
        yield
    except _OUTAGES as error:
        raise Outage(f"{what}: {error}. Is the disk full or another process writing?") from error
    except (apsw.TooBigError, apsw.MismatchError, apsw.ConstraintError) as error:
        raise Refused(f"{what}: {error}.") from error


@contextmanager
def writing(connection: apsw.Connection, what: str) -> Iterator[None]:
    """One transaction that holds the write lock from its start; all of it is synced, or none."""
    with named_errors(what):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def one_moment(connection: apsw.Connection, what: str) -> Iterator[None]:
    """Reads that all see the same moment of the file."""
    with named_errors(what):
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")


def fetch(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """Return all rows of a statement."""
    return connection.execute(sql, values).fetchall()


def fetch_columns(connection: apsw.Connection, table: str) -> list[str]:
    """Return the names of a table's columns."""
    return [row[1] for row in fetch(connection, f"PRAGMA table_info({table})")]


def fetch_one(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
    """Return the first column of the first row of a statement, or None."""
    return connection.execute(sql, values).get


def places(count: int) -> str:
    """Return `?,?,…` for an IN list."""
    return ",".join("?" * count)
