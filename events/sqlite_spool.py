"""The spool: a loaded history on its way to the relay, a source in a file of its own."""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import apsw

from events.envelope import Sealed, id_bytes, id_text
from events.errors import Held, Outage
from events.lock import FileLock
from events.settings import Settings
from events.sources import Bookmark, Row, Source
from events.sqlite import connect, connect_reader, fetch_one, make, named_errors, writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (source_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spool (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, known INTEGER NOT NULL,
    digest BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS spool_by_id ON spool (id);
INSERT INTO identity SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM identity);
"""
_INSERT = (
    "INSERT INTO spool (id, known, digest, body)"
    " VALUES (?1, ?2 OR EXISTS (SELECT 1 FROM spool WHERE id = ?1), ?3, ?4)"
)


class Spooled(NamedTuple):
    """A row of a spool; `known` where the log or an earlier row had its id when it was written."""

    row: int
    known: bool
    event: Sealed


class SpoolReader:
    """A spool for who only reads it; for one thread."""

    def __init__(self, path: Path) -> None:
        """Open a spool; raises Outage where it is not there, or is being made."""
        self._use(connect_reader(path), path)

    def _use(self, db: apsw.Connection, path: Path) -> None:
        self._db, self._path, self._what = db, path, f"spool {path}"
        self.source_id = str(fetch_one(db, "SELECT source_id FROM identity"))

    def rows(self, after: int, *, limit: int) -> list[Row]:
        """Return the next rows."""
        return [Row(one.row, one.event) for one in self.spooled(after, limit=limit)]

    def spooled(self, after: int, *, limit: int) -> list[Spooled]:
        """Return the next rows, with what was known of them."""
        sql = "SELECT row, known, id, digest, body FROM spool WHERE row > ? ORDER BY row LIMIT ?"
        with named_errors(self._what):
            return [
                Spooled(row, bool(known), Sealed(id_text(key), digest, body))
                for row, known, key, digest, body in self._db.execute(sql, (after, limit))
            ]

    def event_id_at(self, row: int) -> str | None:
        """Return the event's id of a row, or None where there is no such row."""
        with named_errors(self._what):
            found = fetch_one(self._db, "SELECT id FROM spool WHERE row = ?", (row,))
        return id_text(found) if found else None

    def last(self) -> int:
        """Return the number of the last row, 0 where there is none."""
        with named_errors(self._what):
            return int(fetch_one(self._db, "SELECT coalesce(max(row), 0) FROM spool"))

    def passed(self, mark: Bookmark | None) -> int:
        """Return up to which row a bookmark shows that the relay is."""
        known = mark is not None and self.event_id_at(mark.row) == mark.event_id
        return mark.row if mark is not None and known else 0

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


class Spool(SpoolReader):
    """A spool for who fills it; it is this process's until it is closed."""

    def __init__(self, folder: Path) -> None:
        """Make a file with a name of its own."""
        path = folder / f"{uuid4().hex}.db"
        self._lock = FileLock(path)
        db = connect(path)
        make(db, _SCHEMA, f"spool {path}")
        self._use(db, path)

    def add(self, events: Iterable[Sealed], *, known: Collection[str]) -> None:
        """Append events, synced; `known` are the ids that the log has."""
        rows = [(id_bytes(one.id), one.id in known, one.digest, one.body) for one in events]
        with writing(self._db, self._what):
            self._db.executemany(_INSERT, rows)

    def close(self) -> None:
        """Let the file go; the relay carries on what it holds."""
        super().close()
        self._lock.release()

    def remove(self) -> None:
        """Close it and take it away: the relay has carried all of it on."""
        super().close()
        _unlink(self._path)
        self._lock.release()


def spool_folder(settings: Settings) -> Path:
    """Return the folder of the spools of this host."""
    return settings.data_dir / "loads"


class LoadedSources:
    """The spools of this host as sources for its relay, however they come and go."""

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self._folder = spool_folder(settings)
        self._open: dict[Path, SpoolReader] = {}

    def __call__(self) -> list[Source]:
        """Return those that there are now, the same objects as long as they are there."""
        there = set(self._folder.glob("*.db"))
        for path in self._open.keys() - there:
            self._open.pop(path).close()
        for path in sorted(there - self._open.keys()):
            with suppress(Outage):  # it is just being made, or just taken away
                self._open[path] = SpoolReader(path)
        return list(self._open.values())


def remove_left(settings: Settings, is_over: Callable[[SpoolReader], bool]) -> None:
    """Take spools away whose load ended before the relay had carried them on, and now it has."""
    for path in sorted(spool_folder(settings).glob("*.db")):
        with suppress(Held, Outage), FileLock(path):
            reader = SpoolReader(path)
            over = is_over(reader)
            reader.close()
            if over:
                _unlink(path)


def _unlink(path: Path) -> None:
    # The file itself first: who finds it without its log would miss what was committed last.
    for ending in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
