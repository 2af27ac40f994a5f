"""Trying a consumer in memory: its events are folded as the platform would, each step looked at."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from random import Random
from typing import Any, NamedTuple, TypeVar

from consumers import Document, Projection
from consumers.memory import canonical
from consumers.runtime.folding import BadFold, checked_keys, is_key
from events.envelope import Event
from events.schemas import load_reaction
from events.topology import wanted

_MOST_BYTES = 1024 * 1024
T = TypeVar("T")
Told = set[tuple[str, str]]
"""User and key of each fact that was told; a second one under them changes nothing."""


class NotConforming(AssertionError):
    """The consumer breaks its contract; the message says how, and with which `events`, by id."""

    __module__ = "consumers.testing"  # where authors find it

    def __init__(self, message: str, events: Iterable[Event] = ()) -> None:
        self.events = [event.id for event in events]
        few = ", ".join(self.events[:5]) + ", ..." * (len(self.events) > 5)
        super().__init__(f"{message} Events: {few}." if self.events else message)


class Tried(NamedTuple):
    """What a consumer made of events: documents as their one JSON text, and facts."""

    documents: dict[str, str]
    told: Told


def tried(
    consumer: Projection,
    events: Iterable[Event],
    *,
    seed: int = 0,
    batch: int = 1,
    tries: int = 1,
    restarts: bool = False,
) -> Tried:
    """Return what a new consumer of this class makes of the events that it wants, each id once.

    They come in their order, or in one that `seed` gives. Between two batches the documents go
    through JSON, as the store's do; with `restarts` each batch meets a new consumer. Of several
    `tries` at each batch only the last one counts. Raises NotConforming.
    """
    new = type(consumer)()
    arriving = [event for event in events if wanted(new.bindings, event.routing_key)]
    if seed:  # sorted by id, so that some of them keep the order that they have among all
        arriving.sort(key=lambda event: Random(f"{seed} {event.id}").random())  # noqa: S311
    remaining = iter({event.id: event for event in arriving}.values())
    so_far = Tried({}, set())
    while some := list(islice(remaining, batch)):
        new = type(consumer)() if restarts else new
        step = [_committed(new, some, so_far) for _ in range(tries)][-1]
        so_far.documents.update(step.documents)
        so_far.told.update(step.told)
    return so_far


def _committed(consumer: Projection, events: Sequence[Event], so_far: Tried) -> Tried:
    loaded: dict[str, Document] = {}
    told: Told = set()
    for event in events:
        keys = _keys(consumer, event)
        for key in keys:
            if key not in loaded:
                loaded[key] = json.loads(so_far.documents.get(key, "{}"))
        documents = {key: loaded[key] for key in keys}
        reacts = hasattr(consumer, "react")
        before = deepcopy(documents) if reacts else {}
        _folded(consumer, event, documents)
        loaded |= documents
        if reacts:
            facts = _reacted(consumer, event, before, documents)
            told |= {(event.user_id, key) for key, _ in facts}
    for key, document in loaded.items():
        if flaw := _flaw(document):
            raise NotConforming(f"{consumer.name}: document {key!r} {flaw}.", events)
    # A new document that stays empty holds nothing to store.
    stored = {key: canonical(one) for key, one in loaded.items() if one or key in so_far.documents}
    return Tried(stored, told)


def _keys(consumer: Projection, event: Event) -> list[str]:
    def asked() -> list[str]:
        return checked_keys(consumer.keys(event))

    keys = _noted(consumer, event, asked)
    again = _noted(consumer, event, asked)
    _blame(consumer, event, {"gives other keys when it is asked again": again != keys}, keys)
    return keys


def _folded(consumer: Projection, event: Event, documents: dict[str, Document]) -> None:
    keys, before = list(documents), repr(event)
    _noted(consumer, event, consumer.fold, event, documents)
    _blame(
        consumer,
        event,
        {
            "changes the event": repr(event) != before,
            "adds or removes documents in its fold": documents.keys() != set(keys),
            "puts another thing in place of a document": not all(
                isinstance(one, dict) for one in documents.values()
            ),
        },
        keys,
    )


def _reacted(
    consumer: Projection, event: Event, before: dict[str, Document], after: dict[str, Document]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the facts that a consumer tells; raises NotConforming for what is none."""
    was = repr((event, before, after))
    told = _noted(consumer, event, _told, consumer, event, before, after)
    if repr((event, before, after)) != was:
        raise NotConforming(f"{consumer.name} changes in react() what it was given.", [event])
    for one in told:
        match one:
            case (str() as key, Mapping() as fact) if is_key(key):
                try:
                    load_reaction(fact)
                except ValueError as error:
                    message = f"{consumer.name} tells under {key!r} what is no fact: {error}."
                    raise NotConforming(message, [event]) from error
            case _:
                message = f"{consumer.name} yields {one!r:.80} from react(), not (key, fact)."
                raise NotConforming(message, [event])
    return told


def _told(
    consumer: Any, event: Event, before: dict[str, Document], after: dict[str, Document]
) -> list[Any]:
    told = consumer.react(event, before, after) or ()
    if not isinstance(told, Iterable):
        raise BadFold(f"react() gave {told!r:.80}; yield a key and a mapping with its type")
    return list(told)


def _noted(consumer: Projection, event: Event, function: Callable[..., T], *arguments: Any) -> T:
    try:
        return function(*arguments)
    except BadFold as bad:
        raise NotConforming(f"{consumer.name}: {bad}.", [event]) from bad
    except Exception as error:
        error.add_note(f"{consumer.name} was folding this. Events: {event.id}.")
        raise


def _blame(
    consumer: Projection, event: Event, missteps: Mapping[str, bool], keys: Sequence[object]
) -> None:
    for misstep in (what for what, happened in missteps.items() if happened):
        raise NotConforming(f"{consumer.name} {misstep}. Keys: {keys}.", [event])


def _flaw(document: Document) -> str | None:
    if odd := _odd(document):
        return f"holds {odd[0]!r:.80}: not text, a whole number of 64 bits, a list or an object"
    size = len(canonical(document).encode())
    return f"has {size:,} bytes of JSON, not under 1 MiB" if size >= _MOST_BYTES else None


def _odd(value: Any) -> list[Any]:
    match value:
        case dict() if all(isinstance(key, str) for key in value):
            return [odd for item in value.values() for odd in _odd(item)]
        case list():
            return [odd for item in value for odd in _odd(item)]
        case None | bool() | str():
            return []
    return [] if isinstance(value, int) and -(2**63) <= value < 2**63 else [value]
