"""What a read sees of the documents in a consumer's SQLite file."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import msgspec

from consumers import Document
from events.sqlite import fetch, fetch_one, named_errors

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_KEY = ""  # ends every index; no field has this name


def column(name: str) -> str:
    """Return the expression of a top-level field of a document."""
    return f"""body ->> '$."{name}"'"""


def index_sql(generation: int, name: str, of: Sequence[str]) -> str:
    """Return the statement that makes an index of the documents that have all its fields."""
    parts = ", ".join(f"{column(part.lstrip('-'))}{_direction(part)}" for part in of)
    there = _there(of)
    table = f"documents_{generation:d}"
    # The prefix keeps a stranger's name apart from those of our own tables and indexes.
    return f'CREATE INDEX "by_{name}_{generation:d}" ON {table} ({parts}, key) WHERE {there}'


def _direction(part: str) -> str:
    return " DESC" if part.startswith("-") else ""


def _there(of: Sequence[str]) -> str:
    return " AND ".join(f"{column(part.lstrip('-'))} IS NOT NULL" for part in of)


class SqliteDocuments:
    """Documents of one generation."""

    def __init__(
        self,
        connection: apsw.Connection,
        what: str,
        generation: int,
        *,
        indexes: Mapping[str, Sequence[str]],
    ) -> None:
        self._db, self._what, self._indexes = connection, what, indexes
        self._table = f"documents_{generation:d}"

    def get(self, key: str) -> Document | None:
        """Return the document of a key, or None."""
        with named_errors(self._what):
            body = fetch_one(self._db, f"SELECT body FROM {self._table} WHERE key = ?", (key,))
        return None if body is None else _decode(body)

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""
        sql = (
            f"SELECT key, body FROM {self._table} WHERE key >= ? AND key <= ? ORDER BY key LIMIT ?"
        )
        with named_errors(self._what):
            rows = fetch(self._db, sql, (first, last, -1 if limit is None else limit))
        return [(key, _decode(body)) for key, body in rows]

    def listed(
        self,
        index: str,
        equals: Sequence[Any] = (),
        *,
        limit: int,
        after: str | None = None,
        skip: int = 0,
    ) -> tuple[list[tuple[str, Document]], str | None]:
        """Return a page of an index, and the cursor of the next page or None."""
        of = (*self._fields(index), _KEY)
        where, values = self._equal(index, equals)
        if after is not None:
            past, at = _beyond(of[len(equals) :], _read_cursor(after, index, equals, len(of)))
            where, values = f"{where} AND {past}", [*values, *at]
        # Not by what is equal anyway: SQLite would sort the whole list for one page.
        order = ", ".join(f"{_column(part)}{_direction(part)}" for part in of[len(equals) :])
        sql = f"SELECT key, body FROM {self._table} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        with named_errors(self._what):
            rows = fetch(self._db, sql, (*values, limit + 1, skip))
        found = [(key, _decode(body)) for key, body in rows]
        more = len(found) > limit
        return found[:limit], _cursor(index, of, *found[limit - 1]) if more else None

    def before(self, index: str, equals: Sequence[Any], values: Sequence[Any]) -> int:
        """Count the entries with these leading fields that sort before `values` of the next."""
        of = self._fields(index)[len(equals) : len(equals) + len(values)]
        where, leading = self._equal(index, equals)
        turned = [part[1:] if part.startswith("-") else f"-{part}" for part in of]
        earlier, at = _beyond(turned, values)
        sql = f"SELECT count(*) FROM {self._table} WHERE {where} AND {earlier}"
        with named_errors(self._what):
            return int(fetch_one(self._db, sql, (*leading, *at)))

    def _fields(self, index: str) -> Sequence[str]:
        if index not in self._indexes:
            known = ", ".join(self._indexes) or "none"
            raise ValueError(f"index {index!r} is not one of this consumer's: {known}")
        return self._indexes[index]

    def _equal(self, index: str, equals: Sequence[Any]) -> tuple[str, list[Any]]:
        of = self._fields(index)
        leading = [f"{_column(part)} = ?" for part in of[: len(equals)]]
        return " AND ".join([*leading, _there(of)]), list(equals)


def _column(part: str) -> str:
    return "key" if part == _KEY else column(part.lstrip("-"))


def _beyond(of: Sequence[str], values: Sequence[Any]) -> tuple[str, list[Any]]:
    """Return the condition "sorts after these values", written so that an index can seek to it."""
    ways: list[str] = []
    bound: list[Any] = []
    for place, part in enumerate(of):
        same = [f"{_column(earlier)} = ?" for earlier in of[:place]]
        sign = "<" if part.startswith("-") else ">"
        ways.append(" AND ".join([*same, f"{_column(part)} {sign} ?"]))
        bound += values[: place + 1]
    sign = "<=" if of[0].startswith("-") else ">="
    return f"{_column(of[0])} {sign} ? AND ({' OR '.join(ways)})", [values[0], *bound]


def _cursor(index: str, of: Sequence[str], key: str, document: Document) -> str:
    values = [key if part == _KEY else document[part.lstrip("-")] for part in of]
    return urlsafe_b64encode(msgspec.json.encode([index, *values])).decode().rstrip("=")


def _read_cursor(cursor: str, index: str, equals: Sequence[Any], length: int) -> list[Any]:
    """Return the values past `equals` and the key where a page ended; raises ValueError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        of, *values = msgspec.json.decode(urlsafe_b64decode(padded), type=list[int | str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError("cursor is not one that this list gave") from error
    same_list = (of, len(values), values[: len(equals)]) == (index, length, list(equals))
    if not same_list or not all(_storable(value) for value in values):
        raise ValueError("cursor is not one that this list gave")
    return values[len(equals) :]


def _storable(value: int | str) -> bool:
    return isinstance(value, str) or -(1 << 63) <= value < 1 << 63
