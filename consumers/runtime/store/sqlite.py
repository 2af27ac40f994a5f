"""A consumer's store in one SQLite file, written by its one worker."""

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from uuid import uuid4

import apsw
import msgspec

from consumers.runtime.fates import Fate, State
from consumers.runtime.store import Change, Commit, Lead, Stored, Written
from consumers.runtime.store.limits import LARGEST, TooLarge
from consumers.runtime.store.sqlite_facts import facts_sql, insert_facts
from consumers.runtime.store.sqlite_generations import SqliteGenerations
from consumers.runtime.store.sqlite_reader import NUMBER_BITS, RUNNING, SOURCE, STATES
from events.errors import Gone, Overtaken
from events.log import Position, Watermarks
from events.sqlite import connect, fetch_columns, make, named_errors, places, writing

_SINCE = "since INTEGER NOT NULL DEFAULT 0"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS relays (small INTEGER PRIMARY KEY, relay TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS generations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, phase TEXT NOT NULL, version INTEGER NOT NULL,
    code TEXT NOT NULL, bindings TEXT NOT NULL, indexes TEXT NOT NULL, applied INTEGER NOT NULL,
    rate REAL NOT NULL, committed_ms INTEGER NOT NULL, since INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS one_live ON generations (phase) WHERE phase = 'live';
CREATE TABLE IF NOT EXISTS watermarks (
    generation INTEGER NOT NULL, small INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (generation, small)) WITHOUT ROWID;
"""
_encode = msgspec.json.Encoder().encode
_KEYS_AT_ONCE = 10_000  # a statement has 32,766 places


class SqliteStore(SqliteGenerations):
    """The writing side; the caller holds the file's lock."""

    shared = False

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file."""
        super().__init__(connect(path, vfs=vfs, cache_kib=16_384), path)
        self._db.execute("PRAGMA wal_autocheckpoint=32000").fetchall()
        make(self._db, _SCHEMA, self._what)
        with writing(self._db, self._what):
            if "since" not in fetch_columns(self._db, "generations"):  # an older file
                self._db.execute(f"ALTER TABLE generations ADD COLUMN {_SINCE}")
            for generation in self.generations():
                self._db.execute(facts_sql(generation.number))
            sql = "INSERT INTO marks VALUES (?, ?) ON CONFLICT DO NOTHING"
            self._db.execute(sql, (SOURCE, uuid4().hex))
        self._leads = False

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
            if len(body) > LARGEST:
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
        insert_facts(self._db, generation, commit.facts)
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
            raise Gone(f"Generation {generation} of {self._what} is gone.")

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

    def lead(self) -> Lead:
        """Return whether the last run ended cleanly, once; the file's lock is the lease."""
        if self._leads:
            return Lead.HELD
        unclean = self.mark(RUNNING) is not None
        self.set_mark(RUNNING, str(os.getpid()))
        self._leads = True
        return Lead.INHERITED if unclean else Lead.TAKEN

    def leave(self) -> None:
        """Say that this process ends, and cleanly."""
        self.set_mark(RUNNING, None)
        self._leads = False


def _columns(fate: Fate) -> tuple[int, int | None, str | None]:
    if fate.state is State.APPLIED:
        return 0, None, None
    # Without defaults, so that a field that comes later leaves the old rows as they are written.
    told = {
        of.name: value for of in fields(fate) if (value := getattr(fate, of.name)) != of.default
    }
    return STATES[fate.state], fate.due_ms, _encode(told).decode()
