"""The event log in one SQLite file, written by the relay and read by everyone."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import apsw

from events.envelope import Envelope, Sealed, id_bytes, id_text, read_envelope, same_fact
from events.log import Appended, Conflict, Logged, Outcome, Position, Selection
from events.sources import Bookmark, Stuck
from events.sqlite import connect, connect_reader, make, named_errors, places, writing
from events.topology import wanted

_SCHEMA = """
CREATE TABLE IF NOT EXISTS relays (
    small INTEGER PRIMARY KEY, relay TEXT NOT NULL UNIQUE, settled INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS routing_keys (
    small INTEGER PRIMARY KEY, routing_key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, relay INTEGER NOT NULL,
    routing_key INTEGER NOT NULL, user_id TEXT NOT NULL, accepted_at INTEGER NOT NULL,
    digest BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user_id);
CREATE INDEX IF NOT EXISTS events_by_routing_key ON events (routing_key);
CREATE INDEX IF NOT EXISTS events_by_acceptance ON events (accepted_at);
CREATE TABLE IF NOT EXISTS conflicts (
    id BLOB NOT NULL, digest BLOB NOT NULL, source TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (id, digest));
CREATE TABLE IF NOT EXISTS bookmarks (
    source TEXT PRIMARY KEY, row INTEGER NOT NULL, event_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stuck (
    source TEXT NOT NULL, row INTEGER NOT NULL, event_id TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (source, row));
"""
_COLUMNS = "e.number, e.id, r.relay, k.routing_key, e.body"
_TABLES = (
    "events e JOIN relays r ON r.small = e.relay JOIN routing_keys k ON k.small = e.routing_key"
)


class SqliteLogReader:
    """The log for those who only read it."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._db = connection
        self._what = f"event log {path}"

    @classmethod
    def open(cls, path: Path, *, vfs: str | None = None) -> "SqliteLogReader":
        """Open a log that a relay has made; raises Outage where none has yet."""
        return cls(connect_reader(path, vfs=vfs), path)

    def get(self, event_id: str) -> Logged | None:
        """Return the event of an id, or None."""
        rows = self.scan(Selection(ids=(event_id,)), limit=1)
        return rows[0] if rows else None

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        """Return up to `limit` rows past `selection.after`, in the order of their numbers."""
        with named_errors(self._what):
            where, values = self._where(selection)
            sql = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE {where} ORDER BY e.number LIMIT ?"
            return [
                Logged(Position(relay, number), id_text(event_id), key, body)
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

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        """Return the conflicting events, of one id or all."""
        only = "WHERE id = ?" if event_id else ""
        values = (id_bytes(event_id),) if event_id else ()
        with named_errors(self._what):
            rows = self._db.execute(f"SELECT id, source, body FROM conflicts {only}", values)
            return [Conflict(id_text(key), source, body) for key, source, body in rows]

    def load(self, source: str) -> Bookmark | None:
        """Return the relay's bookmark in a source."""
        with named_errors(self._what):
            row = self._db.execute("SELECT * FROM bookmarks WHERE source = ?", (source,)).fetchone()
        return Bookmark(*row) if row else None

    def stuck(self, source: str) -> list[Stuck]:
        """Return the rows of a source that the log refused."""
        with named_errors(self._what):
            rows = self._db.execute("SELECT * FROM stuck WHERE source = ? ORDER BY row", (source,))
            return [Stuck(*row) for row in rows]

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
            yield "e.accepted_at >= ?", (_ms(selection.accepted_from),)
        if selection.accepted_to is not None:
            yield "e.accepted_at < ?", (_ms(selection.accepted_to),)

    def _routing_keys(self, selection: Selection) -> list[int]:
        return [
            small
            for small, key, kind in self._db.execute("SELECT * FROM routing_keys")
            if (selection.kind is None or kind == selection.kind)
            and (selection.bindings is None or wanted(selection.bindings, key))
        ]

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


class SqliteEventLog(SqliteLogReader):
    """The log for its one writer, the relay; bookmarks and stuck rows live in the same file."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file; the caller holds its lock."""
        super().__init__(connect(path, vfs=vfs, cache_kib=16_000), path)
        make(self._db, _SCHEMA, self._what)
        self._relay = uuid4().hex
        self._keys: dict[str, int] = {}

    def append(self, events: Sequence[Sealed], *, source: str) -> list[Appended]:
        """Store what is new, synced with how far it is settled, and answer in order."""
        envelopes = [read_envelope(event.body) for event in events]
        with writing(self._db, self._what):
            known = self._known(events)
            fresh: list[tuple[object, ...]] = []
            answers = []
            number = self._last_number()
            for event, envelope in zip(events, envelopes, strict=True):
                stored = known.get(event.id)
                if stored is None:
                    number += 1
                    position = Position(self._relay, number)
                    key = envelope.routingkey
                    answers.append(Appended(Outcome.NEW, position, key, event.body))
                    known[event.id] = (event.digest, answers[-1])
                    fresh.append(self._row(number, event, envelope))
                else:
                    answers.append(self._again(event, source, *stored))
            self._insert(fresh, number)
        return answers

    def _known(self, events: Sequence[Sealed]) -> dict[str, tuple[bytes, Appended]]:
        ids = [id_bytes(event.id) for event in events]
        sql = f"SELECT {_COLUMNS}, e.digest FROM {_TABLES} WHERE e.id IN ({places(len(ids))})"
        return {
            id_text(event_id): (
                digest,
                Appended(Outcome.DUPLICATE, Position(relay, number), key, body),
            )
            for number, event_id, relay, key, body, digest in self._db.execute(sql, ids)
        }

    def _last_number(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(number), 0) FROM events").get)

    def _row(self, number: int, event: Sealed, envelope: Envelope) -> tuple[object, ...]:
        key = self._small_key(envelope)
        accepted = _ms(envelope.acceptedat)
        event_id = id_bytes(event.id)
        return (number, event_id, key, envelope.subject, accepted, event.digest, event.body)

    def _small_key(self, envelope: Envelope) -> int:
        key = envelope.routingkey
        if key not in self._keys:
            sql = (
                "INSERT INTO routing_keys (routing_key, kind) VALUES (?, ?) ON CONFLICT DO NOTHING"
            )
            self._db.execute(sql, (key, envelope.type))
            found = self._db.execute("SELECT small FROM routing_keys WHERE routing_key = ?", (key,))
            self._keys[key] = int(found.get)
        return self._keys[key]

    def _again(self, event: Sealed, source: str, digest: bytes, stored: Appended) -> Appended:
        again = stored._replace(outcome=Outcome.DUPLICATE)
        if event.digest == digest or same_fact(event.body, stored.body):
            return again
        sql = "INSERT INTO conflicts VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self._db.execute(sql, (id_bytes(event.id), event.digest, source, event.body))
        return again._replace(outcome=Outcome.CONFLICT)

    def _insert(self, fresh: list[tuple[object, ...]], settled: int) -> None:
        if not fresh:
            return
        sql = (
            "INSERT INTO relays (relay, settled) VALUES (?, ?)"
            " ON CONFLICT (relay) DO UPDATE SET settled = excluded.settled RETURNING small"
        )
        small = self._db.execute(sql, (self._relay, settled)).get
        sql = f"INSERT INTO events VALUES (?, ?, {small}, ?, ?, ?, ?, ?)"
        self._db.executemany(sql, fresh)

    def save(self, bookmark: Bookmark) -> None:
        """Write how far the relay is in a source."""
        with writing(self._db, self._what):
            self._db.execute("INSERT OR REPLACE INTO bookmarks VALUES (?, ?, ?)", bookmark)

    def set_aside(self, stuck: Stuck) -> None:
        """Write that the log refuses a row of a source for itself."""
        with writing(self._db, self._what):
            self._db.execute("INSERT OR REPLACE INTO stuck VALUES (?, ?, ?, ?)", stuck)


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
