"""Differences between two states of documents: what is added, gone or changed, key by key."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from consumers import Document

LAST_KEY = "\U0010ffff"  # no key holds it and none sorts after it
EXAMPLES = 100
_PAGE = 100
_LONGEST_VALUE = 200
_MOST_FIELDS = 20
_SIDES = ("before", "after")


class What(StrEnum):
    """What became of a document from one state to the other."""

    ADDED = "added"
    GONE = "gone"
    CHANGED = "changed"


class Difference(NamedTuple):
    """A document that is not the same; each field that differs, by its sides.

    A side that has no such field has no entry: `{"ms": {"before": 3}}` says that `ms` is gone.
    """

    key: str
    what: What
    fields: dict[str, dict[str, Any]]

    def told(self) -> dict[str, Any]:
        """Return it as JSON, whole."""
        return {"key": self.key, "what": str(self.what), "fields": self.fields}

    def example(self) -> dict[str, Any]:
        """Return it as JSON of some kilobytes, however large the documents are."""
        some = dict(sorted(self.fields.items())[:_MOST_FIELDS])
        fields = {
            name[:_LONGEST_VALUE]: {side: _cut(value) for side, value in sides.items()}
            for name, sides in some.items()
        }
        more = len(self.fields) - len(some)
        return self.told() | {"fields": fields} | ({"more_fields": more} if more else {})


class Ranged(Protocol):
    """Documents that can be read in the order of their keys, as `consumers.Documents` can."""

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""


class Stretch(NamedTuple):
    """Both sides of a range of keys; `through` is its last key, None at the end of all keys."""

    before: dict[str, Document]
    after: dict[str, Document]
    through: str | None

    def differences(self) -> Iterator[Difference]:
        """Yield what differs, by key."""
        for key in sorted(self.before.keys() | self.after.keys()):
            found = difference(key, self.before.get(key), self.after.get(key))
            if found is not None:
                yield found


def stretch(before: Ranged, after: Ranged, *, past: str, limit: int = _PAGE) -> Stretch:
    """Return the next keys past `past` ("" at the start) with both sides' documents."""
    first = f"{past}\0"  # the least text after it
    pages = [side.range(first, LAST_KEY, limit=limit) for side in (before, after)]
    # Past the end of a full page nobody has looked yet on that side.
    through = min((page[-1][0] for page in pages if len(page) == limit), default=None)
    ours, theirs = (
        {key: document for key, document in page if through is None or key <= through}
        for page in pages
    )
    return Stretch(ours, theirs, through)


def difference(key: str, before: Document | None, after: Document | None) -> Difference | None:
    """Return what differs between two documents of a key, None where nothing does.

    A document that is empty is one that is not there: the platform stores none.
    """
    if not before and not after:
        return None
    ours, theirs = before or {}, after or {}
    fields = {
        name: {
            side: document[name]
            for side, document in zip(_SIDES, (ours, theirs), strict=True)
            if name in document
        }
        for name in sorted(ours.keys() | theirs.keys())
        if (name in ours) != (name in theirs) or _json(ours[name]) != _json(theirs[name])
    }
    if not fields:
        return None
    what = What.ADDED if not ours else What.CHANGED if theirs else What.GONE
    return Difference(key, what, fields)


@dataclass(slots=True)
class Figures:
    """How far two states were compared, and what was found; `through` is the last key, or None.

    `failing` is how many events have failed in the new one, and `failing_before` in the live one.
    """

    before: int = 0
    after: int = 0
    added: int = 0
    gone: int = 0
    changed: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    through: str | None = ""
    failing_before: int = 0
    failing: int = 0

    @property
    def differing(self) -> int:
        """How many documents are not the same."""
        return self.added + self.gone + self.changed

    def passed(self, over: Stretch) -> None:
        """Count the documents of a stretch."""
        self.before += len(over.before)
        self.after += len(over.after)
        self.through = over.through

    def found(self, one: Difference) -> None:
        """Count a difference, and keep it if it is one of the first."""
        setattr(self, one.what, getattr(self, one.what) + 1)
        if len(self.examples) < EXAMPLES:
            self.examples.append(one.example())

    def told(self) -> dict[str, Any]:
        """Return all of it as JSON of at most a megabyte or so."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the counts in words."""
        differ = (
            f"{self.differing} of {max(self.before, self.after)} documents differ: "
            f"{self.added} added, {self.gone} gone, {self.changed} changed."
        )
        fail = f" {self.failing} events fail in the new one, {self.failing_before} in the live one."
        return differ + fail if self.failing else differ


def compare(before: Ranged, after: Ranged, figures: Figures) -> Iterator[Difference]:
    """Yield all differences by key, some pages in memory at a time; the figures go with it."""
    while figures.through is not None:
        here = stretch(before, after, past=figures.through)
        figures.passed(here)
        for one in here.differences():
            figures.found(one)
            yield one


def bound(text: str) -> tuple[Fraction, bool]:
    """Return how much may change, and whether that is a share; raises ValueError.

    `5%` and `0.5%` are shares of the documents that are live, `100` is so many documents.
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)%|([0-9]{1,12})", text)
    if match is None:
        raise ValueError(f"{text!r:.40} is no bound; write a share such as 5%, or a count")
    return Fraction(match[1] or match[2]), match[1] is not None


def is_beyond(figures: Figures, text: str) -> bool:
    """Say whether more differs than a bound allows; of nothing, every share is nothing."""
    most, share = bound(text)
    allowed = most / 100 * figures.before if share else most
    return figures.differing > allowed


def rows(examples: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return examples as they are shown to people, one line for each."""
    return [
        {"what": one["what"], "key": one["key"], "fields": _fields_text(one)} for one in examples
    ]


def _fields_text(one: Mapping[str, Any]) -> str:
    texts = [f"{name}: {_sides_text(sides)}" for name, sides in one["fields"].items()]
    if more := one.get("more_fields"):
        texts.append(f"and {more} more")
    return ", ".join(texts)


def _sides_text(sides: Mapping[str, Any]) -> str:
    before, after = (_cut_text(_json(sides[side]), 60) if side in sides else "" for side in _SIDES)
    return f"{before} -> {after}".strip()


def _cut(value: Any) -> Any:
    text = _json(value)
    return value if len(text) <= _LONGEST_VALUE else _cut_text(text, _LONGEST_VALUE)


def _cut_text(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _json(value: Any) -> str:
    # As text, because in Python 1, 1.0 and True are equal.
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
