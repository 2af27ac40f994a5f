"""The facts of one generation in a consumer's SQLite file, as a source of the relay."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import apsw

from events.envelope import Sealed, id_bytes, id_text
from events.errors import Outage
from events.sources import Row
from events.sqlite import fetch, fetch_one


def facts_sql(generation: int) -> str:
    """Return the statement that makes the table of a generation's facts."""
    return (
        f"CREATE TABLE IF NOT EXISTS facts_{generation:d} (row INTEGER PRIMARY KEY AUTOINCREMENT,"
        " id BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, body BLOB NOT NULL)"
    )


def insert_facts(db: apsw.Connection, generation: int, facts: Sequence[Sealed]) -> None:
    """Write facts in a transaction of the caller's; of one id the first stands."""
    sql = (
        f"INSERT INTO facts_{generation:d} (id, digest, body) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING"
    )
    db.executemany(sql, [(id_bytes(fact.id), fact.digest, fact.body) for fact in facts])


class SqliteFacts:
    """Facts in the order in which they were committed."""

    def __init__(self, db: apsw.Connection, what: str, generation: int, source_id: str) -> None:
        self._db, self._what = db, what
        self._table = f"facts_{generation:d}"
        self.source_id = source_id

    def rows(self, after: int, *, limit: int) -> list[Row]:
        """Return the next rows."""
        sql = f"SELECT row, id, digest, body FROM {self._table} WHERE row > ? ORDER BY row LIMIT ?"
        with _readable(self._what):
            found = fetch(self._db, sql, (after, limit))
        return [Row(row, Sealed(id_text(key), digest, body)) for row, key, digest, body in found]

    def event_id_at(self, row: int) -> str | None:
        """Return the event's id of a row, or None where there is no such row."""
        with _readable(self._what):
            key = fetch_one(self._db, f"SELECT id FROM {self._table} WHERE row = ?", (row,))
        return None if key is None else id_text(key)


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Name every error an Outage: a file in pieces, or a generation that was just dropped, too.

    The relay reads the facts of all consumers, and goes on with those that can be read.
    """
    try:
        yield
    except apsw.Error as error:
        raise Outage(f"The facts of {what} cannot be read: {error}.") from error
