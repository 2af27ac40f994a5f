"""Documents in memory, as truthful as the stored ones: a fake that passes their contract."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from consumers import Document


class MemoryDocuments:
    """The documents that a read sees (`consumers.Documents`), held in memory."""

    def __init__(
        self, documents: Mapping[str, Document], indexes: Mapping[str, Sequence[str]] = {}
    ) -> None:
        self._texts = {key: canonical(documents[key]) for key in sorted(documents, key=str.encode)}
        self._indexes = indexes

    def get(self, key: str) -> Document | None:
        """Return the document of a key, or None."""
        return json.loads(self._texts[key]) if key in self._texts else None

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""
        keys = (key for key in self._texts if first.encode() <= key.encode() <= last.encode())
        return [(key, json.loads(self._texts[key])) for key in islice(keys, limit)]

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
        entries = self._entries(index, equals)
        if after is not None:
            passed = self._place(index, *_opened(after, index, equals))
            entries = [entry for entry in entries if self._place(index, *entry) > passed]
        entries = entries[skip:]
        page = [(key, json.loads(self._texts[key])) for _, key in entries[:limit]]
        last = json.dumps([index, *entries[limit - 1]]) if len(entries) > limit else ""
        return page, urlsafe_b64encode(last.encode()).decode() or None

    def before(self, index: str, equals: Sequence[Any], values: Sequence[Any]) -> int:
        """Count the entries with these leading fields that sort before `values` of the next."""
        place = self._place(index, [*equals, *values])
        entries = self._entries(index, equals)
        return sum(self._place(index, *entry)[: len(place)] < place for entry in entries)

    def _entries(self, index: str, equals: Sequence[Any]) -> list[tuple[list[Any], str]]:
        fields = [field.removeprefix("-") for field in self._indexes[index]]
        documents = ((key, json.loads(text)) for key, text in self._texts.items())
        entries = [([doc.get(field) for field in fields], key) for key, doc in documents]
        inside = [e for e in entries if None not in e[0] and e[0][: len(equals)] == [*equals]]
        return sorted(inside, key=lambda entry: self._place(index, *entry))

    def _place(self, index: str, values: Sequence[Any], key: str | None = None) -> list[Any]:
        signs = [-1 if field.startswith("-") else 1 for field in self._indexes[index]]
        place = [_sortable(value, sign) for value, sign in zip(values, signs, strict=False)]
        return place if key is None else [*place, _sortable(key, 1)]


def _sortable(value: str | int, sign: int) -> tuple[int, list[int]]:
    if isinstance(value, str):  # the 0 ends a text, so that "ab" comes before "abc", or after it
        return sign, [*(sign * (byte + 1) for byte in value.encode()), 0]
    return 0, [sign * value]


def _opened(cursor: str, index: str, equals: Sequence[Any]) -> tuple[list[Any], str]:
    try:
        of, values, key = json.loads(urlsafe_b64decode(cursor))
        same_list = of == index and values[: len(equals)] == [*equals]
    except (TypeError, ValueError):
        values, key, same_list = [], "", False
    if not same_list:
        raise ValueError(f"cursor {cursor[:80]!r} is not of this list; take the last page's `next`")
    return values, key


def canonical(value: Any) -> str:
    """Return the one JSON text of a value; raises for what is no JSON."""
    return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False)
