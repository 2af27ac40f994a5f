"""What a read sees of the documents in a consumer's MongoDB database, and how they are indexed."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from bson.max_key import MaxKey
from bson.min_key import MinKey
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.client_session import ClientSession

from consumers import Document
from events.mongo import MongoDatabase, named_errors

Indexes = Mapping[str, Sequence[str]]
CurrentSession = Callable[[], ClientSession | None]

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_KEY = "_id"
_FIRST_TEXT, _FIRST_NUMBER = "", float("-inf")


def index_models(indexes: Indexes) -> list[IndexModel]:
    """Return what makes an index of the documents that have all its fields, for each."""
    return [
        IndexModel(
            _pattern(place, of),
            name=_name(place),
            # An entry is written whole or not at all, so its first field tells.
            partialFilterExpression={_path(place, 0): {"$exists": True}},
        )
        for place, of in enumerate(_in_order(indexes).values())
    ]


def entries(indexes: Indexes, body: bytes) -> dict[str, dict[str, Any]]:
    """Return what a document's row has for the indexes: a stranger's names are never in it.

    MongoDB gives a meaning to dots and dollars in names, so fields stand under their places.
    """
    document = _decode(body) if indexes else {}
    found = {}
    for place, of in enumerate(_in_order(indexes).values()):
        values = [_value(document.get(part.removeprefix("-"))) for part in of]
        if None not in values:
            found[_name(place)] = {f"f{field}": value for field, value in enumerate(values)}
    return found


def _in_order(indexes: Indexes) -> Indexes:
    return dict(sorted(indexes.items()))


def _name(place: int) -> str:
    return f"x{place}"


def _path(place: int, field: int) -> str:
    return f"index.x{place}.f{field}"


def _pattern(place: int, of: Sequence[str]) -> list[tuple[str, int]]:
    """Return the fields of an index and their directions; the key ends every index."""
    return [*((_path(place, at), _direction(part)) for at, part in enumerate(of)), (_KEY, 1)]


def _direction(part: str) -> int:
    return DESCENDING if part.startswith("-") else ASCENDING


def _value(value: Any) -> int | float | str | None:
    """Return a field as it sorts: numbers before texts, lists and objects as their JSON."""
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return int(value) if _storable(value) else float(value)
    return _encode(value).decode()


def _storable(value: int | str) -> bool:
    return isinstance(value, str) or -(1 << 63) <= value < 1 << 63


class MongoDocuments:
    """Documents of one generation."""

    def __init__(
        self,
        database: MongoDatabase,
        what: str,
        generation: int,
        *,
        indexes: Indexes,
        session: CurrentSession,
    ) -> None:
        self._what, self._session = what, session
        self._indexes = _in_order(indexes)
        self._rows = database[f"documents_{generation:d}"]

    def get(self, key: str) -> Document | None:
        """Return the document of a key, or None."""
        with named_errors(self._what):
            row = self._rows.find_one({_KEY: key}, {"body": 1}, session=self._session())
        return None if row is None else _decode(row["body"])

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""
        if limit == 0:  # which is no limit to MongoDB
            return []
        between = {_KEY: {"$gte": first, "$lte": last}}
        with named_errors(self._what):
            rows = self._rows.find(between, {"body": 1}, session=self._session())
            return [(row[_KEY], _decode(row["body"])) for row in rows.sort(_KEY).limit(limit or 0)]

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
        place, of = self._index(index)
        leading = [_value(value) for value in equals]
        start = None if after is None else _read_cursor(after, index, leading, len(of) + 1)
        if None in leading:
            return [], None
        with named_errors(self._what):
            rows = list(
                # Bounds of the index itself, because a comparison sees values of one type only.
                self._rows.find({_path(place, 0): {"$exists": True}}, session=self._session())
                .hint(_name(place))
                .min(_bound(place, of, leading if start is None else start, first=True))
                .max(_bound(place, of, leading, first=False))
                .sort(_pattern(place, of))
                .skip(skip)
                .limit(limit + 1)
            )
        found = [(row[_KEY], _decode(row["body"])) for row in rows[:limit]]
        return found, _cursor(index, place, rows[limit - 1]) if len(rows) > limit else None

    def before(self, index: str, equals: Sequence[Any], values: Sequence[Any]) -> int:
        """Count the entries with these leading fields that sort before `values` of the next."""
        place, of = self._index(index)
        leading, at = ([_value(value) for value in some] for some in (equals, values))
        if None in leading or None in at:
            return 0
        alternatives = _earlier(place, of, leading, at)
        if not alternatives:
            return 0
        count: list[Document] = [{"$match": {"$or": alternatives}}, {"$count": "n"}]
        with named_errors(self._what):
            told = self._rows.aggregate(count, hint=_name(place), session=self._session())
            return next((int(row["n"]) for row in told), 0)

    def _index(self, name: str) -> tuple[int, Sequence[str]]:
        if name not in self._indexes:
            known = ", ".join(self._indexes) or "none"
            raise ValueError(f"index {name!r} is not one of this consumer's: {known}")
        return list(self._indexes).index(name), self._indexes[name]


def _bound(
    place: int, of: Sequence[str], values: Sequence[Any], *, first: bool
) -> list[tuple[str, Any]]:
    """Return where the entries begin or end that start with these values."""
    low, high = (MinKey(), MaxKey()) if first else (MaxKey(), MinKey())
    pattern = _pattern(place, of)
    rest = [low if direction == ASCENDING else high for _, direction in pattern[len(values) :]]
    return [(path, value) for (path, _), value in zip(pattern, [*values, *rest], strict=True)]


def _earlier(
    place: int, of: Sequence[str], equals: Sequence[Any], values: Sequence[Any]
) -> list[Document]:
    """Return the alternatives of "sorts before these values", each one stretch of the index."""
    same: Document = {_path(place, at): value for at, value in enumerate(equals)}
    found = []
    for at, (part, value) in enumerate(zip(of[len(equals) :], values, strict=False), len(equals)):
        found += [{**same, _path(place, at): stretch} for stretch in _before(part, value)]
        same[_path(place, at)] = value
    return found


def _before(part: str, value: Any) -> list[Document]:
    text = isinstance(value, str)
    if part.startswith("-"):
        return [{"$gt": value}] if text else [{"$gt": value}, {"$gte": _FIRST_TEXT}]
    return [{"$lt": value}, {"$gte": _FIRST_NUMBER}] if text else [{"$lt": value}]


def _cursor(index: str, place: int, row: Document) -> str:
    # MongoDB's own kind of integer is none that can be encoded.
    fields = [
        int(value) if isinstance(value, int) else value
        for value in row["index"][_name(place)].values()
    ]
    return urlsafe_b64encode(_encode([index, *fields, row[_KEY]])).decode().rstrip("=")


def _read_cursor(cursor: str, index: str, equals: Sequence[Any], length: int) -> list[Any]:
    """Return the values and the key just past where a page ended; raises ValueError."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        of, *values = msgspec.json.decode(urlsafe_b64decode(padded), type=list[int | str])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError("cursor is not one that this list gave") from error
    same_list = (of, len(values), values[: len(equals)]) == (index, length, list(equals))
    if not same_list or not all(_storable(value) for value in values):
        raise ValueError("cursor is not one that this list gave")
    *fields, key = values
    return [*fields, f"{key}\0"]  # no text comes between the two
