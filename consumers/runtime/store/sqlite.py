"""A consumer's store in one SQLite file, written by its one worker."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import apsw
import msgspec

from consumers.runtime.fates import Fate, State
from consumers.runtime.store import Change, Commit, Generation, Phase, Stored, Written
from consumers.runtime.store.sqlite_documents import index_sql
from consumers.runtime.store.sqlite_reader import NUMBER_BITS, STATES, SqliteStoreReader
from events.errors import Overtaken, Refused
from events.log import Position, Watermarks
from events.sqlite import connect, make, named_errors, places, writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS relays (small INTEGER PRIMARY KEY, relay TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS generations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, phase TEXT NOT NULL, version INTEGER NOT NULL,
    code TEXT NOT NULL, bindings TEXT NOT NULL, indexes TEXT NOT NULL, applied INTEGER NOT NULL,
    rate REAL NOT NULL, committed_ms INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_live ON generations (phase) WHERE phase = 'live';
CREATE TABLE IF NOT EXISTS watermarks (
    generation INTEGER NOT NULL, small INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (generation, small)) WITHOUT ROWID;
"""
_encode = msgspec.json.Encoder().encode
_LARGEST = 1 << 20
_KEYS_AT_ONCE = 10_000  # a statement has 32,766 places


class TooLarge(Refused):
    """A document is over 1 MiB."""

    permanent = True

    def __init__(self, key: str, size: int) -> None:
        super().__init__(f"Document {key} has {size} bytes; at most {_LARGEST} are stored.")


class SqliteStore(SqliteStoreReader):
    """The writing side; the caller holds the file's lock."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file."""
        super().__init__(connect(path, vfs=vfs, cache_kib=65_536), path)
        self._db.execute("PRAGMA wal_autocheckpoint=32000").fetchall()
        make(self._db, _SCHEMA, self._what)

    def begin(
        self,
        *,
        version: int,
        code: str,
        bindings: Sequence[str],
        indexes: Mapping[str, Sequence[str]],
    ) -> Generation:
        """Make an empty generation beside the live one, in place of one that was being built."""
        with writing(self._db, self._what):
            live = self.live()
            for built in self.generations():
                if built.phase is Phase.BUILDING:
                    self._drop(built.number)
            phase = Phase.BUILDING if live else Phase.LIVE
            texts = [_encode(list(bindings)).decode(), _encode(dict(indexes)).decode()]
            row = (phase, version, code, *texts, 0, 0.0, 0)
            # Numbered by SQLite, which gives no number twice: a worker of a generation that was
            # dropped must not find another one under its number.
            self._db.execute(f"INSERT INTO generations VALUES (NULL, {places(8)})", row)
            number = self._db.last_insert_rowid()
            self._make_tables(number, indexes)
            if live:
                self._take_over_discarded(number, live.number)
        return next(one for one in self.generations() if one.number == number)

    def _make_tables(self, number: int, indexes: Mapping[str, Sequence[str]]) -> None:
        self._db.execute(
            f"CREATE TABLE documents_{number} (key TEXT PRIMARY KEY, revision INTEGER NOT NULL,"
            " body TEXT NOT NULL)"
        )
        self._db.execute(
            f"CREATE TABLE fates_{number} (position INTEGER PRIMARY KEY, state INTEGER NOT NULL,"
            " due INTEGER, detail TEXT)"
        )
        self._db.execute(
            f"CREATE INDEX open_{number} ON fates_{number} (state, due) WHERE state <> 0"
        )
        for name, of in indexes.items():
            self._db.execute(index_sql(number, name, of))

    def _drop(self, number: int) -> None:
        self._db.execute("DELETE FROM generations WHERE number = ?", (number,))
        self._db.execute("DELETE FROM watermarks WHERE generation = ?", (number,))
        self._db.execute(f"DROP TABLE documents_{number:d}")
        self._db.execute(f"DROP TABLE fates_{number:d}")

    def abandon(self, generation: int) -> None:
        """Drop a generation that is being built; what is live or kept stays."""
        with writing(self._db, self._what):
            for one in self.generations():
                if one.number == generation and one.phase is Phase.BUILDING:
                    self._drop(one.number)

    def swap(self, generation: int, *, expected: int) -> None:
        """Make a built generation live and the live one old; drop the one that was old."""
        with writing(self._db, self._what):
            for one in self.generations():
                if one.phase is Phase.OLD:
                    self._drop(one.number)
            self._move(expected, Phase.LIVE, Phase.OLD)
            self._move(generation, Phase.BUILDING, Phase.LIVE)
            self._take_over_discarded(generation, expected)

    def _take_over_discarded(self, generation: int, before: int) -> None:
        sql = (
            f"INSERT INTO fates_{generation:d} SELECT * FROM fates_{before:d} WHERE state = ?"
            " ON CONFLICT (position) DO UPDATE"
            " SET state = excluded.state, due = excluded.due, detail = excluded.detail"
            f" WHERE fates_{generation:d}.state <> 0"
        )
        self._db.execute(sql, (STATES[State.DISCARDED],))

    def _move(self, generation: int, before: Phase, after: Phase) -> None:
        sql = "UPDATE generations SET phase = ? WHERE number = ? AND phase = ?"
        self._db.execute(sql, (after, generation, before))
        if not self._db.changes():
            raise Overtaken(f"Generation {generation} of {self._what} is not {before} any more.")

    def load(self, generation: int, keys: Sequence[str]) -> dict[str, Stored]:
        """Return the documents that exist, with their revisions."""
        sql = f"SELECT key, revision, body FROM documents_{generation:d} WHERE key IN "
        found: dict[str, Stored] = {}
        with named_errors(self._what):
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                rows = self._db.execute(f"{sql} ({places(len(some))})", some)
                found |= {key: Stored(revision, body.encode()) for key, revision, body in rows}
        return found

    def commit(self, generation: int, commit: Commit) -> None:
        """Write everything or nothing, synced."""
        for key, _, body in commit.documents:
            if len(body) > _LARGEST:
                raise TooLarge(key, len(body))
        try:
            with writing(self._db, self._what):
                self._learn(commit)
                self._write(generation, commit)
        except BaseException:
            # A relay that this transaction had numbered has lost its number with it.
            self._small, self._relays = {}, {}
            raise

    def _write(self, generation: int, commit: Commit) -> None:
        self._count(generation, commit)
        self._write_documents(generation, commit.documents)
        self._write_applied(generation, commit.applied)
        for change in commit.changes:
            self._write_change(generation, change)
        self._move_watermarks(generation, commit.through)

    def _learn(self, commit: Commit) -> None:
        relays = {position.relay for position in commit.applied} | set(commit.through)
        relays |= {change.position.relay for change in commit.changes}
        for relay in relays - self._small.keys():
            self._db.execute(
                "INSERT INTO relays (relay) VALUES (?) ON CONFLICT DO NOTHING", (relay,)
            )
        if relays - self._small.keys():
            self._learn_relays()

    def _count(self, generation: int, commit: Commit) -> None:
        applied = len(commit.applied)
        for _, before, after in commit.changes:
            applied += after.state is State.APPLIED
            applied -= before is not None and before.state is State.APPLIED
        sql = (
            "UPDATE generations SET applied = applied + ?, rate = ?,"
            " committed_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE number = ?"
        )
        self._db.execute(sql, (applied, commit.rate, generation))
        if not self._db.changes():
            raise Overtaken(f"Generation {generation} of {self._what} is gone.")

    def _write_documents(self, generation: int, documents: Sequence[Written]) -> None:
        table = f"documents_{generation:d}"
        new = [(key, body.decode()) for key, revision, body in documents if not revision]
        changed = [(body.decode(), key, at) for key, at, body in documents if at]
        before = self._db.total_changes()
        self._db.executemany(f"INSERT INTO {table} VALUES (?, 1, ?) ON CONFLICT DO NOTHING", new)
        self._db.executemany(
            f"UPDATE {table} SET body = ?, revision = revision + 1 WHERE key = ? AND revision = ?",
            changed,
        )
        if self._db.total_changes() - before != len(documents):
            raise Overtaken(f"A document of {self._what} was changed by another writer.")

    def _write_applied(self, generation: int, applied: Sequence[Position]) -> None:
        small, bits = self._small, NUMBER_BITS
        rows = [((small[relay] << bits) + number,) for relay, number in applied]
        try:
            self._db.executemany(
                f"INSERT INTO fates_{generation:d} VALUES (?, 0, NULL, NULL)", rows
            )
        except apsw.ConstraintError as error:
            raise Overtaken(f"An event of {self._what} has a fate already.") from error

    def _write_change(self, generation: int, change: Change) -> None:
        key = self._key(change.position)
        table = f"fates_{generation:d}"
        row: tuple[object, ...]
        if change.before is None:
            row = (key, *_columns(change.after))
            sql = f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        else:
            row = (*_columns(change.after), key, *_columns(change.before))
            same = "state = ? AND due IS ? AND detail IS ?"
            sql = f"UPDATE {table} SET state = ?, due = ?, detail = ? WHERE position = ? AND {same}"
        self._db.execute(sql, row)
        if not self._db.changes():
            raise Overtaken(f"The fate of {change.position} is not what it was.")

    def _move_watermarks(self, generation: int, through: Watermarks) -> None:
        sql = (
            "INSERT INTO watermarks VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET number = max(number, excluded.number)"
        )
        for relay, number in through.items():
            self._db.execute(sql, (generation, self._small[relay], number))

    def set_mark(self, name: str, value: str | None) -> None:
        """Write a small fact about this consumer, or take it away."""
        with writing(self._db, self._what):
            if value is None:
                self._db.execute("DELETE FROM marks WHERE name = ?", (name,))
            else:
                self._db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, value))


def _columns(fate: Fate) -> tuple[int, int | None, str | None]:
    if fate.state is State.APPLIED:
        return 0, None, None
    # Without defaults, so that a field that comes later leaves the old rows as they are written.
    told = {
        of.name: value for of in fields(fate) if (value := getattr(fate, of.name)) != of.default
    }
    return STATES[fate.state], fate.due_ms, _encode(told).decode()
