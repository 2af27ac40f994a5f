"""A consumer's SQLite file for those who only read it: query, audit and the commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from consumers.runtime.fates import APPLIED, Fate, State
from consumers.runtime.store import Generation, Phase
from consumers.runtime.store.sqlite_documents import SqliteDocuments
from consumers.runtime.store.sqlite_facts import SqliteFacts
from events.log import Position
from events.sqlite import connect_reader, fetch, fetch_one, named_errors, one_moment, places

# A position is one 64-bit key: the relay's small number above, the stamp's number below.
NUMBER_BITS = 40
RUNNING, SOURCE = "running", "source"
STATES = {State.APPLIED: 0, State.RETRYING: 1, State.DEAD: 2, State.DISCARDED: 3}
_BY_NUMBER = {number: state for state, number in STATES.items()}
_fates = msgspec.json.Decoder(Fate)
_lists = msgspec.json.Decoder()


class SqliteStoreReader:
    """Reads of a store; each call sees one moment."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._db = connection
        self._what = f"store {path}"
        self._small: dict[str, int] = {}
        self._relays: dict[int, str] = {}

    @classmethod
    def open(cls, path: Path, *, vfs: str | None = None) -> "SqliteStoreReader":
        """Open a store that a worker has made; raises Outage where none has yet."""
        return cls(connect_reader(path, vfs=vfs), path)

    def generations(self) -> list[Generation]:
        """Return all generations, by number."""
        with named_errors(self._what):
            rows = fetch(self._db, "SELECT * FROM generations ORDER BY number")
        return [_generation(*row) for row in rows]

    def live(self) -> Generation | None:
        """Return the generation that readers see."""
        with named_errors(self._what):
            rows = fetch(self._db, "SELECT * FROM generations WHERE phase = 'live'")
        return _generation(*rows[0]) if rows else None

    def watermarks(self, generation: int) -> dict[str, int]:
        """Return how far each relay's rows were looked at."""
        sql = (
            "SELECT relay, number FROM watermarks JOIN relays USING (small)"
            " WHERE generation = ? ORDER BY small"
        )
        with named_errors(self._what):
            return dict(fetch(self._db, sql, (generation,)))

    def highest(self, generation: int) -> dict[str, int]:
        """Return the highest number of each relay that has a row or was looked at."""
        sql = (
            "SELECT relay, max(coalesce((SELECT number FROM watermarks"
            "   WHERE generation = ? AND small = relays.small), 0),"
            f" coalesce((SELECT max(position) FROM fates_{generation:d}"
            f"   WHERE position > (relays.small << {NUMBER_BITS})"
            f"   AND position < ((relays.small + 1) << {NUMBER_BITS}))"
            f"   - (relays.small << {NUMBER_BITS}), 0)) FROM relays"
        )
        with named_errors(self._what):
            return {relay: top for relay, top in fetch(self._db, sql, (generation,)) if top}

    def fates(self, generation: int, positions: Sequence[Position]) -> dict[Position, Fate]:
        """Return the fates of those positions that have a row."""
        keys = {self._key(position): position for position in positions}
        sql = (
            f"SELECT position, detail FROM fates_{generation:d}"
            f" WHERE position IN ({places(len(keys))})"
        )
        with named_errors(self._what):
            rows = fetch(self._db, sql, tuple(keys))
        return {keys[key]: _fate(detail) for key, detail in rows}

    def open_fates(
        self,
        generation: int,
        state: State,
        *,
        due_ms: int | None = None,
        after: Position | None = None,
        limit: int = 1_000_000,
    ) -> list[tuple[Position, Fate]]:
        """Return the rows of a state other than applied, earliest due first; or only the due.

        With `after` they come by position, past that one.
        """
        only, values = "", [STATES[state]]
        if due_ms is not None:
            only, values = " AND due <= ?", [*values, due_ms]
        if after is not None:
            only, values = f"{only} AND position > ?", [*values, self._key(after)]
        order = "due, position" if after is None else "position"
        sql = (
            f"SELECT position, detail FROM fates_{generation:d}"
            f" WHERE state = ? AND state <> 0{only} ORDER BY {order} LIMIT ?"
        )
        with named_errors(self._what):
            rows = fetch(self._db, sql, (*values, limit))
            return [(self._position(key), _fate(detail)) for key, detail in rows]

    def rows(
        self, generation: int, relay: str, after: int, through: int | None
    ) -> dict[int, State]:
        """Return number and state of every row of a relay with after < number <= through."""
        base = self._key(Position(relay, 0))
        through = (1 << NUMBER_BITS) - 1 if through is None else through
        sql = (
            f"SELECT position, state FROM fates_{generation:d} WHERE position > ? AND position <= ?"
        )
        with named_errors(self._what):
            rows = fetch(self._db, sql, (base + after, base + through))
            return {key - base: _BY_NUMBER[state] for key, state in rows}

    def counts(self, generation: int) -> dict[State, int]:
        """Return how many rows of each state there are."""
        sql = (
            f"SELECT state, count(*) FROM fates_{generation:d} WHERE state <> 0 GROUP BY state"
            " UNION ALL SELECT 0, applied FROM generations WHERE number = ?"
        )
        with named_errors(self._what):
            counts = {_BY_NUMBER[state]: n for state, n in fetch(self._db, sql, (generation,))}
        return {state: counts.get(state, 0) for state in State}

    def documents(self, generation: int) -> SqliteDocuments:
        """Return what a read sees."""
        found = next((one for one in self.generations() if one.number == generation), None)
        return SqliteDocuments(
            self._db, self._what, generation, indexes=found.indexes if found else {}
        )

    def facts(self) -> SqliteFacts | None:
        """Return the facts of what readers see; None where nothing is live, or never reacted."""
        live, source = self.live(), self.mark(SOURCE)
        if live is None or source is None:
            return None
        return SqliteFacts(self._db, self._what, live.number, f"{source}-{live.number}")

    def mark(self, name: str) -> str | None:
        """Return a small fact about this consumer."""
        with named_errors(self._what):
            found = fetch_one(self._db, "SELECT value FROM marks WHERE name = ?", (name,))
        return None if found is None else str(found)

    def running(self) -> bool:
        """Say whether the process that wrote the mark is there; after a crash only the mark is."""
        pid = self.mark(RUNNING)
        return pid is not None and pid.isdecimal() and Path(f"/proc/{pid}").exists()

    def _key(self, position: Position) -> int:
        if position.relay not in self._small:
            self._learn_relays()
        # A relay that this store has never heard of has no rows: 0 is nobody's number.
        return (self._small.get(position.relay, 0) << NUMBER_BITS) + position.number

    def _position(self, key: int) -> Position:
        small = key >> NUMBER_BITS
        if small not in self._relays:
            self._learn_relays()
        return Position(self._relays[small], key & ((1 << NUMBER_BITS) - 1))

    def _learn_relays(self) -> None:
        self._small = dict(fetch(self._db, "SELECT relay, small FROM relays"))
        self._relays = {small: relay for relay, small in self._small.items()}

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all reads in the block see the same moment of the store."""
        with one_moment(self._db, self._what):
            yield

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


def _generation(number: int, phase: str, version: int, code: str, *rest: Any) -> Generation:
    bindings, indexes, applied, rate, committed_ms, *since_ms = rest  # an older file has none
    return Generation(
        number=number,
        phase=Phase(phase),
        version=version,
        code=code,
        bindings=tuple(_lists.decode(bindings)),
        indexes={name: tuple(of) for name, of in _lists.decode(indexes).items()},
        since_ms=since_ms[0] if since_ms else 0,
        applied=applied,
        rate=rate,
        committed_ms=committed_ms,
    )


def _fate(detail: str | None) -> Fate:
    return APPLIED if detail is None else _fates.decode(detail)
