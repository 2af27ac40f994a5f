"""How a document grows: by the days of a person, by a workout or three on each, and by people."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

from consumers import Document, Projection
from consumers.generated import crowd, two_years
from consumers.memory import canonical
from consumers.trying import NotConforming
from events.envelope import Event
from events.topology import wanted
from events.workouts import Sport

MOST_PER_DAY = 256
"""Bytes of JSON for each active day; so ten years of days stay under the store's 1 MiB."""

_LOOKS = 8
_LONG = 60  # active days; a document of fewer, such as a month's, does not grow for ever
_EXTRA = 8.0  # bytes a day that wider numbers may take
_PEOPLE, _A_PERSON = 200, 1.0  # the bytes that a hundred of them may bring each


class Growth(NamedTuple):
    """How many bytes a document had at some numbers of active days."""

    days: list[int]
    sizes: list[int]

    def rates(self) -> list[float]:
        """Return the bytes that each active day brought, from look to look."""
        steps = zip(pairwise(self.days), pairwise(self.sizes), strict=True)
        return [(size - before) / (day - since) for (since, day), (before, size) in steps]


def check_growth(consumer: Projection, events: Sequence[Event]) -> str:
    """Say how fast documents grow; raises NotConforming where one grows for ever, and too fast."""
    sport = next((one for one in Sport if _is_wanted(consumer, one)), None)
    if sport is None:
        return "bound to no workout, so not looked at"
    plain = _growths(consumer, two_years((sport,), 1))
    busy = _growths(consumer, two_years((sport,), 3))
    for key, growth in busy.items():
        if flaw := _flaw(growth, plain.get(key)):
            raise NotConforming(f"{consumer.name}: document {key!r} {flaw}.")
    _check_crowd(consumer, crowd(sport.value, _PEOPLE))
    fastest = max((max(growth.rates()) for growth in busy.values()), default=0.0)
    return f"at most {fastest:.0f} bytes for each active day in documents that go on for ever"


def _check_crowd(consumer: Projection, people: Sequence[Event]) -> None:
    """Raise NotConforming where a document grows with each person: its room would end one day."""
    new, documents, half = type(consumer)(), defaultdict[str, Document](dict), len(people) // 2
    sizes = []
    for some in (people[:half], people[half:]):
        for event in some:
            _fold(new, event, documents)
        sizes.append({key: _size(document) for key, document in documents.items()})
    for key, before in sizes[0].items():
        if (grown := (sizes[1][key] - before) / half) > _A_PERSON:
            raise NotConforming(
                f"{consumer.name}: document {key!r} grows by {grown:.0f} bytes for each person; "
                "make a document for each."
            )


def _fold(
    consumer: Projection, event: Event, documents: dict[str, Document]
) -> dict[str, Document]:
    touched = {key: documents[key] for key in consumer.keys(event)}
    consumer.fold(event, touched)
    documents |= touched
    return touched


def _size(document: Document) -> int:
    return len(canonical(document).encode())


def _is_wanted(consumer: Projection, sport: Sport) -> bool:
    return wanted(consumer.bindings, f"workout.completed.{sport}")


def _flaw(busy: Growth, plain: Growth | None) -> str | None:
    first, *_, last = busy.rates()
    if last > MOST_PER_DAY:
        return (
            f"grows by {last:.0f} bytes for each active day, over {MOST_PER_DAY}; keep less, or "
            "make a document for each day or month"
        )
    if _is_more(last, first):
        return f"grows faster and faster: {first:.0f} bytes a day at first, {last:.0f} later"
    alone = plain.rates()[-1] if plain else last
    if _is_more(last, alone):
        return (
            f"grows by a piece for each workout: {alone:.0f} bytes a day with one workout a day, "
            f"{last:.0f} with three"
        )
    return None


def _is_more(rate: float, than: float) -> bool:
    return rate - than > max(than, _EXTRA)


def _growths(consumer: Projection, history: Sequence[Event]) -> dict[str, Growth]:
    """Return how each document grew that lives for long and was looked at three times or more."""
    new = type(consumer)()
    documents: dict[str, Document] = defaultdict(dict)
    active: dict[str, set[date]] = defaultdict(set)
    grown: dict[str, Growth] = defaultdict(lambda: Growth([], []))
    part = len(history) // _LOOKS
    for start in range(0, len(history), part):
        for event in history[start : start + part]:
            for key in _fold(new, event, documents):
                active[key].add(event.data.local_date)
        _look(documents, active, grown)
    return {
        key: growth
        for key, growth in grown.items()
        if len(growth.days) > 2 and growth.days[-1] - growth.days[0] >= _LONG
    }


def _look(
    documents: dict[str, Document], active: dict[str, set[date]], grown: dict[str, Growth]
) -> None:
    for key, document in documents.items():
        days, growth = len(active[key]), grown[key]
        if not growth.days or days > growth.days[-1]:
            growth.days.append(days)
            growth.sizes.append(_size(document))
