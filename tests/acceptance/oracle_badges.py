"""Badges and personal bests, found by looking at the whole history for each of them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from fractions import Fraction
from math import floor
from typing import Any

from tests.acceptance.done import Done, best_of, by_sport, row_until

SINGLES = {"5km": 5, "10km": 10, "21.0975km": 21.0975, "42.195km": 42.195, "100km": 100}
SINGLE_SPORTS = {"running": "run", "cycling": "ride"}
TOTALS_KM = (100, 500, 1_000, 5_000)
STREAKS = (3, 7, 30, 100, 365)
Badge = tuple[str, date, str | None]  # its name, the day, and the workout where one alone did it


def badges(done: Sequence[Done]) -> list[Badge]:
    """All badges of a history."""
    return [*_single(done), *_totals(done), *_streaks({one.day for one in done})]


def _single(done: Sequence[Done]) -> Iterator[Badge]:
    earliest = best_of(done, lambda one: 0)
    yield "first-workout", earliest.day, earliest.id
    for sport, name in SINGLE_SPORTS.items():
        for label, km in SINGLES.items():
            metres = Fraction(str(km)) * 1000
            enough = [one for one in done if one.sport == sport and one.distance >= metres]
            if enough:
                earliest = best_of(enough, lambda one: 0)
                yield f"{name}-{label}", earliest.day, earliest.id


def _totals(done: Sequence[Done]) -> Iterator[Badge]:
    for sport, of in by_sport(done):
        for km in TOTALS_KM:
            for day in sorted({one.day for one in of}):
                if sum(one.distance for one in of if one.day <= day) >= km * 1000:
                    yield f"total-{sport}-{km}km", day, None
                    break


def _streaks(days: set[date]) -> Iterator[Badge]:
    for length in STREAKS:
        ends = [day for day in days if row_until(day, days) >= length]
        if ends:
            yield f"streak-{length}-days", min(ends), None


def bests(done: Sequence[Done]) -> dict[str, Any]:
    """The personal bests in one sport."""
    found = {"longest_duration": _shown(done, lambda one: -one.duration, "duration_s")}
    far = [one for one in done if one.distance]
    if far:
        found["longest_distance"] = _shown(far, lambda one: -one.distance, "distance_m")
    for km in (5, 10):
        enough = [one for one in far if one.sport == "running" and one.distance >= km * 1000]
        if enough:
            # In whole ms: who is not faster by one of them has not beaten the record.
            found[f"fastest_{km}km"] = _shown(
                enough,
                lambda one: Fraction(floor(one.duration * 1_000_000 / one.distance), 1000),
                "pace_s_per_km",
            )
    return found


def _shown(done: Sequence[Done], mark: Callable[[Done], Fraction], name: str) -> dict[str, Any]:
    best = best_of(done, mark)
    return {name: float(abs(mark(best))), "reached_on": f"{best.day}", "workout_id": best.id}
