"""The outbox for those who only read it: the relay (it is a source), the status page and audit."""

from pathlib import Path
from threading import local
from typing import NamedTuple

import apsw

from events.envelope import Sealed, id_bytes, id_text
from events.sources import Bookmark, Row
from events.sqlite import connect_reader, named_errors


class Remembered(NamedTuple):
    """What the outbox still knows of an event."""

    row: int
    accepted_at: int
    body: bytes | None


class OutboxReader:
    """Any thread may use it; each has a connection of its own."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._path, self._vfs = path, vfs
        self._threads = local()
        self.source_id = str(self._db.execute("SELECT source_id FROM identity").get)

    @property
    def _db(self) -> apsw.Connection:
        if not hasattr(self._threads, "db"):
            self._threads.db = connect_reader(self._path, vfs=self._vfs)
        return self._threads.db  # type: ignore[no-any-return]  # local() has no types

    def rows(self, after: int, *, limit: int) -> list[Row]:
        """Return the next rows whose payload is still there."""
        sql = (
            "SELECT row, id, digest, body FROM outbox WHERE row > ? AND body IS NOT NULL"
            " ORDER BY row LIMIT ?"
        )
        with named_errors(f"outbox {self._path}"):
            return [
                Row(row, Sealed(id_text(key), digest, body))
                for row, key, digest, body in self._db.execute(sql, (after, limit))
            ]

    def event_id_at(self, row: int) -> str | None:
        """Return the event's id of a row, or None where there is no such row."""
        with named_errors(f"outbox {self._path}"):
            found = self._db.execute("SELECT id FROM outbox WHERE row = ?", (row,)).get
        return id_text(found) if found else None

    def passed(self, mark: Bookmark | None) -> int:
        """Return up to which row a bookmark shows that the relay is; 0 for one of another past."""
        known = mark is not None and self.event_id_at(mark.row) == mark.event_id
        return mark.row if mark is not None and known else 0

    def remembered(self, event_id: str) -> Remembered | None:
        """Return what is known of an event, or None."""
        sql = "SELECT row, accepted_at, body FROM outbox WHERE id = ?"
        with named_errors(f"outbox {self._path}"):
            row = self._db.execute(sql, (id_bytes(event_id),)).fetchone()
        return Remembered(*row) if row else None

    def ids(self) -> list[tuple[int, str]]:
        """Return row and event id of all that is remembered."""
        with named_errors(f"outbox {self._path}"):
            rows = self._db.execute("SELECT row, id FROM outbox ORDER BY row")
            return [(row, id_text(key)) for row, key in rows]
