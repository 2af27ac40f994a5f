"""Folding a batch: strangers' pure code, run so that a bad event costs its neighbours nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from consumers import Document, Projection
from consumers.runtime.guard import Guard
from consumers.runtime.store import Stored, Written
from events.envelope import Event

_LONGEST_KEY = 512  # bytes
_decode = msgspec.json.Decoder(dict[str, Any]).decode
# Sorted, so that the same document is the same bytes in whatever order events arrived.
_encode = msgspec.json.Encoder(order="deterministic").encode
Load = Callable[[Sequence[str]], dict[str, Stored]]


class BadFold(Exception):
    """A consumer's code broke the contract; the message says how."""

    permanent = True


class Folded(NamedTuple):
    """What a batch came to: documents that changed, and by place the events that failed."""

    documents: list[Written]
    failures: dict[int, BaseException]


def fold_batch(
    consumer: Projection,
    events: Sequence[Event],
    load: Load,
    *,
    guard: Guard,
    deadline_s: float,
) -> Folded:
    """Fold events in their order; a failing one is left out as if it were not there.

    Only the consumer's own code runs against the deadline; loading does not.
    """
    with guard.deadline(deadline_s):
        keys, failures = _keys(consumer, events)
    stored = load(list({key for of in keys for key in of}))
    with guard.deadline(deadline_s):
        places = [place for place in range(len(events)) if place not in failures]
        bodies = _fold_all(consumer, events, keys, places, stored)
        if bodies is None:
            bodies = _fold_each(consumer, events, keys, places, stored, failures)
    return Folded(list(_changed(bodies, stored)), failures)


def _keys(
    consumer: Projection, events: Sequence[Event]
) -> tuple[list[Sequence[str]], dict[int, BaseException]]:
    keys: list[Sequence[str]] = []
    failures: dict[int, BaseException] = {}
    for place, event in enumerate(events):
        try:
            keys.append(_checked(consumer.keys(event)))
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit too is this event's own
            keys.append(())
            failures[place] = error
    return keys, failures


def _checked(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str):
        # It would be taken for a list of its letters.
        raise BadFold(f"keys() gave the text {keys!r:.80}; write a list of keys")
    found = list(keys)
    for key in found:
        if key.__class__ is not str or not key.isprintable() or not _fits(key):
            raise BadFold(
                f"keys() gave {key!r:.80}; a key is 1 to {_LONGEST_KEY} bytes of printable text"
            )
    return found


def _fits(key: str) -> bool:
    return 0 < len(key.encode()) <= _LONGEST_KEY


def _fold_all(
    consumer: Projection,
    events: Sequence[Event],
    keys: Sequence[Sequence[str]],
    places: Sequence[int],
    stored: Mapping[str, Stored],
) -> dict[str, bytes] | None:
    """Return the bodies after all events, or None where one failed and all must be done again."""
    documents: dict[str, Document] = {}
    try:
        for place in places:
            _fold_one(consumer, events[place], keys[place], documents, stored)
        return {key: _encode(document) for key, document in documents.items()}
    except MemoryError:
        raise
    except BaseException:  # noqa: BLE001  # found again, and given to its event, by _fold_each
        return None


def _fold_one(
    consumer: Projection,
    event: Event,
    keys: Sequence[str],
    documents: dict[str, Document],
    stored: Mapping[str, Stored],
) -> dict[str, Document]:
    touched = {}
    for key in keys:
        if key not in documents:
            documents[key] = _decode(stored[key].body) if key in stored else {}
        touched[key] = documents[key]
    consumer.fold(event, touched)
    if touched.keys() != set(keys):
        raise BadFold("fold() added or removed documents; it may only change those of keys()")
    for key, document in touched.items():
        if not isinstance(document, dict):
            raise BadFold(f"fold() put {document!r:.80} in place of document {key!r}; change that")
    documents.update(touched)
    return touched


def _fold_each(
    consumer: Projection,
    events: Sequence[Event],
    keys: Sequence[Sequence[str]],
    places: Sequence[int],
    stored: Mapping[str, Stored],
    failures: dict[int, BaseException],
) -> dict[str, bytes]:
    """Fold with what each event touches encoded after it, so that a failure can be undone."""
    bodies: dict[str, bytes] = {}
    for place in places:
        documents = {key: _decode(bodies[key]) for key in keys[place] if key in bodies}
        try:
            touched = _fold_one(consumer, events[place], keys[place], documents, stored)
            encoded = {key: _encode(document) for key, document in touched.items()}
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  # as in _keys
            failures[place] = error
        else:
            bodies.update(encoded)
    return bodies


def _changed(bodies: Mapping[str, bytes], stored: Mapping[str, Stored]) -> Iterable[Written]:
    for key, body in bodies.items():
        before = stored.get(key)
        if before is None:
            if body != b"{}":
                yield Written(key, 0, body)
        elif body != before.body:
            yield Written(key, before.revision, body)
