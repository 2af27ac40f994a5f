"""The kit for plug-in authors: what a consumer makes of events, and whether it keeps its contract.

`check(consumer, events)` raises NotConforming, or all is well; `folded(consumer, events)` gives the
documents; `read(consumer, "/users/ada/calories", events)` what a client would be answered.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from random import Random
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from consumers import Document, Projection
from consumers.memory import MemoryDocuments, canonical
from events.envelope import Event, from_bytes, seal
from events.schemas import load_workout
from events.topology import check_pattern, wanted


class NotConforming(AssertionError):
    """The consumer breaks its contract; the message says how, and with which events."""


class Query(dict[str, str]):
    """The parameters of a read, from path and query string, and the time as an argument."""

    def __init__(self, params: Mapping[str, str] = {}, *, now: datetime | None = None) -> None:
        super().__init__(params)
        self.now = now or datetime.now(UTC)


def folded(consumer: Projection, events: Iterable[Event], *, batch: int = 1) -> dict[str, Document]:
    """Return the documents after a fresh fold of the events that it is bound to, each id once.

    Between two batches the documents go through JSON, as the store's do.
    """
    return {key: json.loads(text) for key, text in _fold(consumer, events, batch=batch).items()}


def event(accepted_at: datetime | None = None, **posted: Any) -> Event:
    """Return the event of a workout as a consumer gets it; fields are named as they are posted.

    What is not said is of a run of half an hour by ada. Raises InvalidWorkout, as the door would.
    """
    workout = {
        "workout_id": "w-1",
        "user_id": "ada",
        "sport": "running",
        "started_at": "2026-11-24T07:30:00+01:00",
        "duration_s": 1800,
    }
    at = accepted_at or datetime(2026, 11, 25, tzinfo=UTC)
    return from_bytes(seal(load_workout(workout | posted), accepted_at=at).body)


def read(
    consumer: Projection,
    path: str,
    source: Mapping[str, Document] | Iterable[Event],
    *,
    now: datetime | None = None,
) -> Any:
    """Return what a client gets for a path such as "/users/ada/calories?from=2026-11-01".

    `source` is documents by key, or events. LookupError (404) and ValueError (422) come through.
    """
    held = source if isinstance(source, Mapping) else folded(consumer, source)
    documents = MemoryDocuments(held, getattr(consumer, "indexes", {}))
    reads: Mapping[str, Callable[..., Any]] = getattr(consumer, "reads", {})
    for template, answer in reads.items():
        if (params := _params(template, path)) is not None:
            return json.loads(canonical(answer(documents, Query(params, now=now))))
    raise NotConforming(f"{consumer.name} has no read for {path!r}, only {list(reads)}.")


def _params(template: str, path: str) -> dict[str, str] | None:
    """Return the parameters of a path by a template of RFC 6570, or None where it is another's."""
    given, (route, _, names) = urlsplit(path), template.partition("{?")
    route = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route)
    if (match := re.fullmatch(route, given.path)) is None:
        return None
    query = dict(parse_qsl(given.query, keep_blank_values=True))
    if unknown := query.keys() - set(names.removesuffix("}").split(",")):
        raise ValueError(f"{', '.join(sorted(unknown))} is no parameter of {template}")
    return query | {name: unquote(value) for name, value in match.groupdict().items()}


def check(consumer: Projection, events: Iterable[Event]) -> None:
    """Raise NotConforming unless the consumer keeps its contract over these events.

    Whatever the order, the batches and the duplicates: the documents are the same, JSON of whole
    numbers, and of a size that the store takes.
    """
    for pattern in consumer.bindings:
        check_pattern(pattern)
    given = list({event.id: event for event in events}.values())
    expected = _fold(consumer, given)
    for how, way in _WAYS.items():
        if way(consumer, given) != expected:
            raise NotConforming(_difference(consumer, given, how))


def _difference(consumer: Projection, events: list[Event], how: str) -> str:
    few, way = events, _WAYS[how]
    for event in events:
        fewer = [other for other in few if other is not event]
        if way(consumer, fewer) != _fold(consumer, fewer):
            few = fewer
    expected, found = _fold(consumer, few), way(consumer, few)
    key = next(key for key in expected | found if expected.get(key) != found.get(key))
    return (
        f"{consumer.name}: document {key!r} is {found.get(key)} when folded {how}, and "
        f"{expected.get(key)} when folded as given. {_named(few)}"
    )


def _fold(
    consumer: Projection, events: Iterable[Event], *, seed: int = 0, batch: int = 1, tries: int = 1
) -> dict[str, str]:
    new = type(consumer)()
    arriving = [event for event in events if wanted(new.bindings, event.routing_key)]
    if seed:  # sorted by id, so that some of them keep the order that they have among all
        arriving.sort(key=lambda event: Random(f"{seed} {event.id}").random())  # noqa: S311
    remaining = iter({event.id: event for event in arriving}.values())
    stored: dict[str, str] = {}
    while some := list(islice(remaining, batch)):
        stored |= [_commit(new, some, stored) for _ in range(tries)][-1]
    return stored


_WAYS: dict[str, Callable[[Projection, list[Event]], dict[str, str]]] = {
    "in the opposite order": lambda consumer, events: _fold(consumer, events[::-1]),
    **{f"in random order {seed}": partial(_fold, seed=seed) for seed in range(1, 6)},
    # A delivery that comes twice, or a commit that lost a race, is folded twice; one fold counts.
    "with every event twice": lambda consumer, events: _fold(consumer, events * 2, tries=2),
    "in batches of 3": partial(_fold, batch=3),
    "as one batch": partial(_fold, batch=sys.maxsize),
}


def _commit(consumer: Projection, events: list[Event], stored: dict[str, str]) -> dict[str, str]:
    loaded: dict[str, Document] = {}
    for event in events:
        before, given = repr(event), consumer.keys(event)
        if isinstance(given, str):
            raise NotConforming(f"{consumer.name} gives text from keys(), not a list: {given!r}.")
        keys = list(given)
        loaded |= {key: json.loads(stored.get(key, "{}")) for key in keys if key not in loaded}
        documents = {key: loaded[key] for key in keys}
        try:
            consumer.fold(event, documents)
        except Exception as error:
            error.add_note(f"{consumer.name} was folding this. {_named([event])}")
            raise
        loaded |= documents
        missteps = {
            "changes the event": repr(event) != before,
            "gives other keys when it is asked again": list(consumer.keys(event)) != keys,
            "adds or removes documents in its fold": documents.keys() != set(keys),
            "has a key that is not 1 to 512 bytes of printable text": not all(map(_is_key, keys)),
        }
        for misstep in (what for what, happened in missteps.items() if happened):
            raise NotConforming(f"{consumer.name} {misstep}. Keys: {keys}. {_named([event])}")
    for key, document in loaded.items():
        if flaw := _flaw(document):
            raise NotConforming(f"{consumer.name}: document {key!r} {flaw}. {_named(events)}")
    # A new document that stays empty holds nothing to store.
    return {key: canonical(doc) for key, doc in loaded.items() if doc or key in stored}


def _is_key(key: object) -> bool:
    return isinstance(key, str) and key.isprintable() and 0 < len(key.encode()) <= 512


def _flaw(document: Document) -> str | None:
    if odd := _odd(document):
        return f"holds {odd[0]!r:.80}: not text, a whole number of 64 bits, a list or an object"
    size = len(canonical(document).encode())
    return f"has {size:,} bytes of JSON, not under 1 MiB" if size >= 1024 * 1024 else None


def _odd(value: Any) -> list[Any]:
    match value:
        case dict() if all(isinstance(key, str) for key in value):
            return [odd for item in value.values() for odd in _odd(item)]
        case list():
            return [odd for item in value for odd in _odd(item)]
        case None | bool() | str():
            return []
    return [] if isinstance(value, int) and -(2**63) <= value < 2**63 else [value]


def _named(events: Sequence[Event]) -> str:
    return f"Events: {', '.join(event.id for event in events[:5])}{', ...' * (len(events) > 5)}."
