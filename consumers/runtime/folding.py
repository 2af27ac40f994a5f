"""Folding a batch: strangers' pure code, run so that a bad event costs its neighbours nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec

from consumers import Document, Projection
from consumers.runtime.guard import Guard
from consumers.runtime.store import Stored, Written
from events.envelope import Event, Sealed

_LONGEST_KEY = 512  # bytes
_decode = msgspec.json.Decoder(dict[str, Any]).decode
# Sorted, so that the same document is the same bytes in whatever order events arrived.
_encode = msgspec.json.Encoder(order="deterministic").encode
Load = Callable[[Sequence[str]], dict[str, Stored]]
FoldOne = Callable[
    [Event, Sequence[str], dict[str, Document], Mapping[str, Stored]],
    tuple[dict[str, Document], list[Sealed]],
]


class Act(Protocol):
    """What a worker does with a batch: it folds events, or calls a handler for each."""

    def __call__(
        self, events: Sequence[Event], load: Load, *, guard: Guard, deadline_s: float
    ) -> "Folded":
        """Return what it came to; a failing event is left out as if it were not there."""


class BadFold(Exception):
    """A consumer's code broke the contract; the message says how."""

    permanent = True


class Folded(NamedTuple):
    """What a batch came to: changed documents, by place the events that failed, and new facts."""

    documents: list[Written]
    failures: dict[int, BaseException]
    facts: list[Sealed]


# What a consumer says of one event, with its documents before and after; raises BadFold.
React = Callable[[Event, dict[str, Document], dict[str, Document]], list[Sealed]]


def fold_batch(
    consumer: Projection,
    events: Sequence[Event],
    load: Load,
    *,
    guard: Guard,
    deadline_s: float,
    react: React | None = None,
) -> Folded:
    """Fold events in their order; a failing one is left out as if it were not there.

    Only the consumer's own code runs against the deadline; loading does not.
    """
    with guard.deadline(deadline_s):
        keys, failures = _keys(consumer, events)
    stored = load(list({key for of in keys for key in of}))
    with guard.deadline(deadline_s):
        places = [place for place in range(len(events)) if place not in failures]
        one = partial(_fold_one, consumer, react)
        together = _fold_all(one, events, keys, places, stored)
        bodies, facts = together or _fold_each(one, events, keys, places, stored, failures)
    return Folded(list(_changed(bodies, stored)), failures, facts)


def _keys(
    consumer: Projection, events: Sequence[Event]
) -> tuple[list[Sequence[str]], dict[int, BaseException]]:
    keys: list[Sequence[str]] = []
    failures: dict[int, BaseException] = {}
    for place, event in enumerate(events):
        try:
            keys.append(checked_keys(consumer.keys(event)))
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit too is this event's own
            keys.append(())
            failures[place] = error
    return keys, failures


def checked_keys(keys: Iterable[str]) -> list[str]:
    """Return what keys() gave as a list; raises BadFold for what are no keys."""
    # A text would be taken for a list of its letters.
    if isinstance(keys, str) or not hasattr(keys, "__iter__"):
        raise BadFold(f"keys() gave {keys!r:.80}; write a list of keys")
    found = list(keys)
    for key in found:
        if key.__class__ is not str:
            kind = type(key).__name__
            raise BadFold(f"keys() gave {key!r:.80}, of type {kind}; write its .value or its str()")
        if not is_key(key):
            raise BadFold(
                f"keys() gave {key!r:.80}; a key is 1 to {_LONGEST_KEY} bytes of printable text"
            )
    return found


def is_key(text: str) -> bool:
    """Say whether a text may be a key."""
    return text.isprintable() and 0 < len(text.encode()) <= _LONGEST_KEY


def _fold_all(
    fold_one: FoldOne,
    events: Sequence[Event],
    keys: Sequence[Sequence[str]],
    places: Sequence[int],
    stored: Mapping[str, Stored],
) -> tuple[dict[str, bytes], list[Sealed]] | None:
    """Return bodies and facts after all events, or None where one failed: all is done again."""
    documents: dict[str, Document] = {}
    facts: list[Sealed] = []
    try:
        for place in places:
            facts += fold_one(events[place], keys[place], documents, stored)[1]
        return {key: _encode(document) for key, document in documents.items()}, facts
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001  # found again, and given to its event, by _fold_each
        return None


def _fold_one(
    consumer: Projection,
    react: React | None,
    event: Event,
    keys: Sequence[str],
    documents: dict[str, Document],
    stored: Mapping[str, Stored],
) -> tuple[dict[str, Document], list[Sealed]]:
    touched = {}
    for key in keys:
        if key not in documents:
            documents[key] = _decode(stored[key].body) if key in stored else {}
        touched[key] = documents[key]
    before = {key: _copy(document) for key, document in touched.items()} if react else {}
    consumer.fold(event, touched)
    if touched.keys() != set(keys):
        raise BadFold("fold() added or removed documents; it may only change those of keys()")
    for key, document in touched.items():
        if not isinstance(document, dict):
            raise BadFold(f"fold() put {document!r:.80} in place of document {key!r}; change that")
    documents.update(touched)
    if react is None:
        return touched, []
    after = {key: _copy(document) for key, document in touched.items()}
    return touched, react(event, before, after)


def _copy(document: Document) -> Document:
    return _decode(_encode(document))


def _fold_each(
    fold_one: FoldOne,
    events: Sequence[Event],
    keys: Sequence[Sequence[str]],
    places: Sequence[int],
    stored: Mapping[str, Stored],
    failures: dict[int, BaseException],
) -> tuple[dict[str, bytes], list[Sealed]]:
    """Fold with what each event touches encoded after it, so that a failure can be undone."""
    bodies: dict[str, bytes] = {}
    facts: list[Sealed] = []
    for place in places:
        documents = {key: _decode(bodies[key]) for key in keys[place] if key in bodies}
        try:
            touched, told = fold_one(events[place], keys[place], documents, stored)
            encoded = {key: _encode(document) for key, document in touched.items()}
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  # as in _keys
            failures[place] = error
        else:
            bodies.update(encoded)
            facts += told
    return bodies, facts


def _changed(bodies: Mapping[str, bytes], stored: Mapping[str, Stored]) -> Iterable[Written]:
    for key, body in bodies.items():
        before = stored.get(key)
        if before is None:
            if body != b"{}":
                yield Written(key, 0, body)
        elif body != before.body:
            yield Written(key, before.revision, body)
