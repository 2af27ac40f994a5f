"""How long a consumer takes for an event: its own code alone, without load and commit."""

import json
from collections.abc import Sequence
from time import perf_counter

from consumers import Projection
from consumers.memory import canonical
from consumers.trying import NotConforming
from events.envelope import Event
from events.topology import wanted

SLOW_MS, TOO_SLOW_MS = 1.0, 50.0
_AGAIN = 5


def check_time(consumer: Projection, events: Sequence[Event]) -> str:
    """Say how long an event takes; raises NotConforming where one takes more than 50 ms."""
    new = type(consumer)()
    stored: dict[str, str] = {}
    took: list[tuple[float, Event]] = []
    for event in events:
        if not wanted(new.bindings, event.routing_key):
            continue
        ms = _once(new, event, stored)
        if ms > SLOW_MS:  # another process may have had its turn: what it takes is the least
            ms = min(ms, *(_once(new, event, dict(stored)) for _ in range(_AGAIN)))
        took.append((ms, event))
        if ms > TOO_SLOW_MS:
            raise NotConforming(
                f"{consumer.name} takes {ms:.0f} ms for an event, over {TOO_SLOW_MS:.0f}.", [event]
            )
    mean = sum(ms for ms, _ in took) / max(len(took), 1)
    slow = f"; that is slow, over {SLOW_MS:.0f} ms" if mean > SLOW_MS else ""
    return f"{mean:.3f} ms an event{slow}"


def _once(consumer: Projection, event: Event, stored: dict[str, str]) -> float:
    start = perf_counter()
    keys = list(consumer.keys(event))
    asked = perf_counter()
    documents = {key: json.loads(stored.get(key, "{}")) for key in keys}
    loaded = perf_counter()
    consumer.fold(event, documents)
    ended = perf_counter()
    stored.update({key: canonical(one) for key, one in documents.items()})
    return 1000 * (ended - loaded + asked - start)
