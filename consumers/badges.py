"""The rules of achievements: what one workout is enough for, and what a history has reached."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from consumers import Document
from events.workouts import Sport, WorkoutCompleted

KILOMETRE = 1_000_000  # in mm, the unit of a fact's distance
SINGLE_MM = {
    "5km": 5_000_000,
    "10km": 10_000_000,
    "21.0975km": 21_097_500,
    "42.195km": 42_195_000,
    "100km": 100_000_000,
}
SINGLE_SPORTS = {Sport.RUNNING: "run", Sport.CYCLING: "ride"}
TOTAL_KM = (100, 500, 1_000, 5_000)
STREAK_DAYS = (3, 7, 30, 100, 365)
PACE_KM = (5, 10)
ONE_DAY = timedelta(days=1)


def enough_for(workout: WorkoutCompleted) -> Iterator[str]:
    """Yield the badges that this one workout is enough for."""
    yield "first-workout"
    name = SINGLE_SPORTS.get(workout.sport)
    if name and workout.distance_mm:
        for distance, goal in SINGLE_MM.items():
            if workout.distance_mm >= goal:
                yield f"{name}-{distance}"


def competes_for(workout: WorkoutCompleted) -> Iterator[tuple[str, int]]:
    """Yield the personal bests that it competes for, with a mark of which the lowest is the best.

    A longest is minus ms or mm; a pace is whole ms per km over the whole run, rounded down: two
    runs that differ by less are equal, and the earlier one keeps the record.
    """
    yield "longest_duration", -workout.duration_ms
    if workout.distance_mm:
        yield "longest_distance", -workout.distance_mm
        for km in PACE_KM if workout.sport is Sport.RUNNING else ():
            if workout.distance_mm >= km * KILOMETRE:
                yield f"fastest_{km}km", workout.duration_ms * KILOMETRE // workout.distance_mm


def with_day(days: str, day: date) -> str:
    """Return a year's active days with one more: a bitmap as hex digits, bit 0 is 1 January."""
    return f"{int(days, 16) | 1 << (day - day.replace(month=1, day=1)).days:x}"


def active_days(years: Mapping[str, str]) -> Iterator[date]:
    """Yield the active days of all years' bitmaps in the order of the calendar."""
    for year in sorted(years):
        first, bits = date(int(year), 1, 1), int(years[year], 16)
        yield from (first + i * ONE_DAY for i in range(bits.bit_length()) if bits >> i & 1)


def streaks(days: Iterator[date]) -> dict[date, int]:
    """Return for each active day how many days in a row there were, up to and with it."""
    lengths: dict[date, int] = {}
    for day in days:
        lengths[day] = lengths.get(day - ONE_DAY, 0) + 1
    return lengths


def reached(
    summary: Document, years: Mapping[str, Document], lengths: Mapping[date, int]
) -> dict[str, tuple[str, str | None]]:
    """Return the badges of a history: the day each was reached, and the workout if one did it."""
    earned: dict[str, tuple[str, str | None]] = {
        badge: (day, workout_id) for badge, (_, workout_id, day) in summary["firsts"].items()
    }
    earned |= {badge: (day, None) for badge, day in _totals(summary["distance_mm"], years)}
    for day, length in lengths.items():
        if length in STREAK_DAYS:
            earned.setdefault(f"streak-{length}-days", (day.isoformat(), None))
    return earned


def _totals(
    sums: Mapping[str, Mapping[str, int]], years: Mapping[str, Document]
) -> Iterator[tuple[str, str]]:
    for sport, by_year in sums.items():
        for km in TOTAL_KM:
            for year, missing in _crossing(by_year, km * KILOMETRE):
                for day, _ in _crossing(years[year][sport], missing):
                    yield f"total-{sport}-{km}km", f"{year}-{day}"


def _crossing(sums: Mapping[str, int], goal: int) -> Sequence[tuple[str, int]]:
    """Return the first period, in order, that reaches the goal, and what it lacked before.

    There is one or none. Of the years' sums it is the year, and of that year's days the day.
    """
    for period in sorted(sums):
        if sums[period] >= goal:
            return [(period, goal)]
        goal -= sums[period]
    return []
