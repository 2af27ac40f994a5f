"""People and their workouts, and the badges that they have earned, found by counting."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from random import Random
from typing import NamedTuple

DAY = timedelta(days=1)
NEW_YEARS_EVE = datetime(2024, 12, 31, 22, 30)  # noqa: DTZ001 - a local time; its offset is drawn
OFFSETS = ("Z", "+01:00", "-08:00", "+05:45", "+14:00")
KM = 1_000_000  # mm
SINGLES = {
    "5km": 5_000_000,
    "10km": 10_000_000,
    "21.0975km": 21_097_500,
    "42.195km": 42_195_000,
    "100km": 100_000_000,
}


class Workout(NamedTuple):
    """One workout; a distance of 0 is none."""

    id: str
    user: str
    sport: str
    started_at: str
    distance_mm: int

    @property
    def day(self) -> date:
        return date.fromisoformat(self.started_at[:10])

    def posted(self, origin: str = "live") -> dict[str, object]:
        """The body of a post."""
        body: dict[str, object] = {
            "workout_id": self.id,
            "user_id": self.user,
            "sport": self.sport,
            "started_at": self.started_at,
            "duration_s": 14_400,
            "origin": origin,
        }
        return body | ({"distance_m": self.distance_mm / 1000} if self.distance_mm else {})


def history(group: str) -> list[Workout]:
    """200 workouts of four people; two groups differ in nothing but the names.

    Many distances are exactly what a badge asks for, or a millimetre less.
    """
    random = Random(7)
    daily = [_on(random, day, "running", _about(random, 5 * KM)) for day in range(101)]
    daily += [_on(random, day, "running", _about(random, 42_195_000)) for day in (3, 4, 50, 90)]
    rides = [_on(random, 2 * day, "cycling", _about(random, 100 * KM)) for day in range(52)]
    swims = [_on(random, day, "swimming", 4 * KM) for day in (*range(2), *range(3, 32))]
    walks = (33_333_333, 33_333_334, 33_333_333)  # 100 km, and not a millimetre more
    seldom = [
        _on(random, 11 * number + 2 * place, sport, distance)
        for number, walk in enumerate(walks)
        for place, (sport, distance) in enumerate(
            [("yoga", 0), ("running", 0), ("walking", walk), ("running", 5 * KM - 1)]
        )
    ]
    people = {"daily": daily, "rider": rides, "swimmer": swims, "seldom": seldom}
    return [
        Workout(f"w-{number}", f"{group}-{name}", *what)
        for name, many in people.items()
        for number, what in enumerate(many)
    ]


def _on(random: Random, day: int, sport: str, distance_mm: int) -> tuple[str, str, int]:
    start = NEW_YEARS_EVE + day * DAY
    return sport, start.isoformat() + random.choice(OFFSETS), distance_mm


def _about(random: Random, distance_mm: int) -> int:
    return distance_mm - random.choice((0, 1))


def badges(workouts: Sequence[Workout]) -> set[tuple[str, str]]:
    """Every (user, badge) that these workouts have earned."""
    return {
        (user, badge)
        for user in {one.user for one in workouts}
        for badge in _of([one for one in workouts if one.user == user])
    }


def _of(done: Sequence[Workout]) -> Iterable[str]:
    yield "first-workout"
    for one in done:
        for kind in {"running": ("run",), "cycling": ("ride",)}.get(one.sport, ()):
            yield from (f"{kind}-{name}" for name, mm in SINGLES.items() if one.distance_mm >= mm)
    for sport in {one.sport for one in done}:
        total = sum(one.distance_mm for one in done if one.sport == sport)
        yield from (f"total-{sport}-{km}km" for km in (100, 500, 1000, 5000) if total >= km * KM)
    days = {one.day for one in done}
    for length in (3, 7, 30, 100, 365):
        if any(all(day + n * DAY in days for n in range(length)) for day in days):
            yield f"streak-{length}-days"
