"""The event log's SQLite file for those who only read it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw

from events.envelope import id_bytes, id_text, is_id
from events.log import Conflict, Logged, Position, Selection
from events.log.sqlite_bookmarks import BookmarksReader
from events.sqlite import connect_reader, named_errors, places
from events.topology import wanted

COLUMNS = "e.number, e.id, r.relay, k.routing_key, e.body"
TABLES = (
    "events e JOIN relays r ON r.small = e.relay JOIN routing_keys k ON k.small = e.routing_key"
)


class SqliteLogReader(BookmarksReader):
    """The log for those who only read it."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        super().__init__(connection, path, what="event log")
        self._inode = path.stat().st_ino if path.exists() else None

    @classmethod
    def open(cls, path: Path, *, vfs: str | None = None) -> "SqliteLogReader":
        """Open a log that a relay has made; raises Outage where none has yet."""
        return cls(connect_reader(path, vfs=vfs), path)

    def replaced(self) -> bool:
        """Say whether another file stands at our path: what we read is not the log any more."""
        return self._path.exists() and self._path.stat().st_ino != self._inode

    def get(self, event_id: str) -> Logged | None:
        """Return the event of an id, or None."""
        if not is_id(event_id):
            return None
        rows = self.scan(Selection(ids=(event_id,)), limit=1)
        return rows[0] if rows else None

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        """Return up to `limit` rows past `selection.after`, in the order of their places."""
        with named_errors(self._what):
            where, values = self._where(selection)
            sql = f"SELECT {COLUMNS} FROM {TABLES} WHERE {where} ORDER BY e.number LIMIT ?"
            return [
                Logged(Position(relay, number), id_text(event_id), key, body, number)
                for number, event_id, relay, key, body in self._db.execute(sql, (*values, limit))
            ]

    def count(self, selection: Selection) -> int:
        """Count the rows that `scan` would return without its limit."""
        with named_errors(self._what):
            where, values = self._where(selection)
            return int(self._db.execute(f"SELECT count(*) FROM events e WHERE {where}", values).get)

    def settled(self) -> dict[str, int]:
        """Return how far each relay's rows are settled, oldest relay first."""
        with named_errors(self._what):
            return dict(self._db.execute("SELECT relay, settled FROM relays ORDER BY small"))

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        """Return nothing: here rows and how far they are settled are one commit."""
        return []

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        """Return the conflicting events, of one id or all."""
        only = "WHERE id = ?" if event_id else ""
        values = (id_bytes(event_id),) if event_id else ()
        with named_errors(self._what):
            rows = self._db.execute(f"SELECT id, source, body FROM conflicts {only}", values)
            return [Conflict(id_text(key), source, body) for key, source, body in rows]

    def _where(self, selection: Selection) -> tuple[str, list[object]]:
        clauses = list(self._clauses(selection))
        return (
            " AND ".join(clause for clause, _ in clauses),
            [value for _, values in clauses for value in values],
        )

    def _clauses(self, selection: Selection) -> Iterator[tuple[str, Sequence[object]]]:
        yield "e.number > ?", (selection.after,)
        if selection.through is not None:
            yield "e.number <= ?", (selection.through,)
        if selection.relay is not None:
            small = "SELECT small FROM relays WHERE relay = ?"
            yield f"e.relay = ({small})", (selection.relay,)
        if selection.bindings is not None or selection.kind is not None:
            keys = self._routing_keys(selection)
            # The unary plus keeps the number's order: with `after`, that is the better index.
            column = "+e.routing_key" if selection.relay is not None else "e.routing_key"
            yield f"{column} IN ({places(len(keys))})", keys
        if selection.user_id is not None:
            yield "e.user_id = ?", (selection.user_id,)
        if selection.ids is not None:
            ids = [id_bytes(event_id) for event_id in selection.ids]
            yield f"e.id IN ({places(len(ids))})", ids
        if selection.accepted_from is not None:
            yield "e.accepted_at >= ?", (in_ms(selection.accepted_from),)
        if selection.accepted_to is not None:
            yield "e.accepted_at < ?", (in_ms(selection.accepted_to),)

    def _routing_keys(self, selection: Selection) -> list[int]:
        return [
            small
            for small, key, kind in self._db.execute("SELECT * FROM routing_keys")
            if (selection.kind is None or kind == selection.kind)
            and (selection.bindings is None or wanted(selection.bindings, key))
        ]


def in_ms(moment: datetime) -> int:
    """Return an aware time as ms since 1970."""
    return int(moment.astimezone(UTC).timestamp() * 1000)
