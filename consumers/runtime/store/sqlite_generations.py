"""The generations in a consumer's SQLite file: begun, swapped, dropped."""

from collections.abc import Mapping, Sequence

import msgspec

from consumers.runtime.fates import State
from consumers.runtime.store import Generation, Phase
from consumers.runtime.store.sqlite_documents import index_sql
from consumers.runtime.store.sqlite_facts import facts_sql
from consumers.runtime.store.sqlite_reader import STATES, SqliteStoreReader
from events.errors import Overtaken
from events.sqlite import places, writing

_encode = msgspec.json.Encoder().encode


class SqliteGenerations(SqliteStoreReader):
    """What begins and ends a whole state of a consumer."""

    def begin(
        self,
        *,
        version: int,
        code: str,
        bindings: Sequence[str],
        indexes: Mapping[str, Sequence[str]],
        since_ms: int = 0,
    ) -> Generation:
        """Make an empty generation beside the live one, in place of one that was being built."""
        with writing(self._db, self._what):
            live = self.live()
            for built in self.generations():
                if built.phase is Phase.BUILDING:
                    self._drop(built.number)
            phase = Phase.BUILDING if live else Phase.LIVE
            texts = [_encode(list(bindings)).decode(), _encode(dict(indexes)).decode()]
            row = (phase, version, code, *texts, 0, 0.0, 0, since_ms)
            # Numbered by SQLite, which gives no number twice: a worker of a generation that was
            # dropped must not find another one under its number.
            self._db.execute(f"INSERT INTO generations VALUES (NULL, {places(9)})", row)
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
        self._db.execute(facts_sql(number))
        for name, of in indexes.items():
            self._db.execute(index_sql(number, name, of))

    def _drop(self, number: int) -> None:
        self._db.execute("DELETE FROM generations WHERE number = ?", (number,))
        self._db.execute("DELETE FROM watermarks WHERE generation = ?", (number,))
        self._db.execute(f"DROP TABLE documents_{number:d}")
        self._db.execute(f"DROP TABLE fates_{number:d}")
        self._db.execute(f"DROP TABLE facts_{number:d}")

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
