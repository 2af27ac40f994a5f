"""The event log in one SQLite file, written by the relay and read by everyone."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from events.envelope import Envelope, Sealed, id_bytes, id_text, read_envelope, same_fact
from events.errors import NewerVersion, Undecodable
from events.log import Appended, Outcome, Position
from events.log.sqlite_bookmarks import BOOKMARKS, BookmarksWriter
from events.log.sqlite_reader import COLUMNS, TABLES, SqliteLogReader, in_ms
from events.sqlite import connect, make, places, writing

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
"""


class SqliteEventLog(SqliteLogReader, BookmarksWriter):
    """The log for its one writer, the relay; bookmarks and stuck rows live in the same file."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file; the caller holds its lock."""
        super().__init__(connect(path, vfs=vfs, cache_kib=16_000), path)
        make(self._db, _SCHEMA + BOOKMARKS, self._what)
        self._relay = uuid4().hex
        self._keys: dict[str, int] = {}

    def append(self, events: Sequence[Sealed], *, source: str) -> list[Appended]:
        """Store what is new, synced with how far it is settled, and answer in order."""
        envelopes = [read_envelope(event.body) for event in events]
        try:
            return self._append(events, envelopes, source)
        except BaseException:
            # What was learned in a transaction that was undone is not so.
            self._keys.clear()
            raise

    def _append(
        self, events: Sequence[Sealed], envelopes: Sequence[Envelope], source: str
    ) -> list[Appended]:
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
        sql = f"SELECT {COLUMNS}, e.digest FROM {TABLES} WHERE e.id IN ({places(len(ids))})"
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
        accepted = in_ms(envelope.acceptedat)
        event_id = id_bytes(event.id)
        return (number, event_id, key, envelope.subject, accepted, event.digest, event.body)

    def _small_key(self, envelope: Envelope) -> int:
        key = envelope.routingkey
        if key not in self._keys:
            sql = (
                "INSERT INTO routing_keys (routing_key, kind) VALUES (?, ?) ON CONFLICT DO NOTHING"
            )
            self._db.execute(sql, (key, envelope.type))
            self._keys = dict(self._db.execute("SELECT routing_key, small FROM routing_keys"))
        return self._keys[key]

    def _again(self, event: Sealed, source: str, digest: bytes, stored: Appended) -> Appended:
        again = stored._replace(outcome=Outcome.DUPLICATE)
        if event.digest == digest or _same(event.body, stored.body):
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

    def settle_former(self, source: str) -> None:
        """Nothing is left to settle: each commit says how far it is settled."""


def _same(body: bytes, stored: bytes) -> bool:
    try:
        return same_fact(body, stored)
    except (NewerVersion, Undecodable):
        return False  # nobody can tell here, so both are kept: a conflict is seen and not applied
