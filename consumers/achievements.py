"""Achievements: badges, personal bests and streaks, the same in whatever order a history arrives.

`{user}` is a person's summary: `distance_mm`, sport -> year -> sum; `days`, year -> bitmap of the
active days; `firsts`, badge -> [end in ms since 1970, workout, day] of the earliest workout that
was enough for it; `bests`, sport -> record -> [mark, end, workout, day]. `{user}/{year}` is sport
-> day (`11-24`) -> sum in mm: it tells on which day a total was reached.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
ONE_DAY = timedelta(days=1)
EARLIEST_ON_EARTH = timedelta(hours=14)  # UTC+14, where a day begins first
LATEST_ON_EARTH = timedelta(hours=-12)

KILOMETRE = 1_000_000  # in mm, the unit of a fact's distance
SINGLES_MM = {
    "5km": 5_000_000,
    "10km": 10_000_000,
    "21.0975km": 21_097_500,
    "42.195km": 42_195_000,
    "100km": 100_000_000,
}
SINGLE_SPORTS = {"running": "run", "cycling": "ride"}
TOTALS_KM = (100, 500, 1_000, 5_000)
STREAKS = (3, 7, 30, 100, 365)  # days
PACES_KM = (5, 10)
BEST_IN = {"longest_duration": "duration_s", "longest_distance": "distance_m"}


def _achievements(documents: Any, query: Any) -> dict[str, Any]:
    """A person's badges by day, personal bests and distance per sport, and streak."""
    user = query["user"]
    summary = documents.get(user)
    if summary is None:
        raise LookupError(f"there are no workouts of {user[:64]!r} yet")
    years = {key[-4:]: sums for key, sums in documents.range(f"{user}/0000", f"{user}/9999")}
    badges = sorted((day, badge, by) for badge, (day, by) in reached(summary, years).items())
    lengths = _streaks(summary["days"])
    return {
        "user_id": user,
        "badges": [
            {"badge": badge, "reached_on": day, "workout_id": by} for day, badge, by in badges
        ],
        "personal_bests": {sport: _shown(bests) for sport, bests in summary["bests"].items()},
        "totals": {
            sport: {"distance_m": sum(sums.values()) / 1000}
            for sport, sums in summary["distance_mm"].items()
        },
        "streak": {
            "longest_days": max(lengths.values()),
            "current_days": _current(lengths, query.now),
        },
    }


def _shown(bests: Mapping[str, tuple[int, int, str, str]]) -> dict[str, Any]:
    return {
        record: {
            BEST_IN.get(record, "pace_s_per_km"): abs(mark) / 1000,
            "reached_on": day,
            "workout_id": workout_id,
        }
        for record, (mark, _, workout_id, day) in bests.items()
    }


def _current(lengths: Mapping[date, int], now: datetime) -> int:
    """Return the streak that still runs: until the day after its last is over everywhere."""
    newest, oldest = (now + EARLIEST_ON_EARTH).date(), (now + LATEST_ON_EARTH).date()
    last = max((day for day in lengths if day <= newest), default=date.min)
    return lengths[last] if last >= oldest - ONE_DAY else 0


def reached(
    summary: dict[str, Any], years: Mapping[str, dict[str, Any]]
) -> dict[str, tuple[str, str | None]]:
    """Return the badges of a history: the day each was reached, and the workout if one did it."""
    earned: dict[str, tuple[str, str | None]] = {
        badge: (day, workout_id) for badge, (_, workout_id, day) in summary["firsts"].items()
    }
    earned |= {badge: (day, None) for badge, day in _totals(summary["distance_mm"], years)}
    for day, length in _streaks(summary["days"]).items():
        if length in STREAKS:
            earned.setdefault(f"streak-{length}-days", (day.isoformat(), None))
    return earned


def _totals(
    sums: Mapping[str, Mapping[str, int]], years: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    for sport, by_year in sums.items():
        for km in TOTALS_KM:
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


def _streaks(years: Mapping[str, str]) -> dict[date, int]:
    """Return for each active day, in order, how many in a row there were up to and with it."""
    lengths: dict[date, int] = {}
    for year in sorted(years):
        first, bits = date(int(year), 1, 1), int(years[year], 16)
        for day in (first + i * ONE_DAY for i in range(bits.bit_length()) if bits >> i & 1):
            lengths[day] = lengths.get(day - ONE_DAY, 0) + 1
    return lengths


class Achievements:
    """Folds workouts into a person's summary and the distances of a year."""

    name = "achievements"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 2
    reads: Mapping[str, Callable[..., Any]] = {"/users/{user}/achievements": _achievements}

    def keys(self, event: Any) -> list[str]:
        """Return the summary and, where there is a distance, the year of the local start."""
        user, workout = event.user_id, event.data
        year = workout.local_date.isoformat()[:4]
        return [user, f"{user}/{year}"] if workout.distance_mm else [user]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        """Fold one workout: sums add up, days join, and of two marks the lower one stays."""
        workout, day = event.data, event.data.local_date
        for key, document in documents.items():
            if key == event.user_id:
                _summarise(document, workout, day, (event.time - EPOCH) // MILLISECOND)
            else:
                _add(document, workout, f"{day:%m-%d}")

    def react(
        self, event: Any, before: dict[str, Any], after: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the badges that newly hold, in whatever order the workouts come."""
        workout, user = event.data, event.user_id
        told = {"workout_id": workout.workout_id, "day": workout.local_date.isoformat()}
        for badge in sorted(_held(after[user]) - _held(before[user])):
            yield badge, {"type": "achievement.unlocked", "badge": badge, **told}


def _held(summary: Mapping[str, Any]) -> set[str]:
    """Return the badges that a summary is enough for; on which day, only the years tell."""
    if not summary:
        return set()
    held = set(summary["firsts"])
    for sport, sums in summary["distance_mm"].items():
        km = sum(sums.values()) // KILOMETRE
        held |= {f"total-{sport}-{goal}km" for goal in TOTALS_KM if km >= goal}
    days = _days(summary["days"])
    return held | {f"streak-{length}-days" for length in STREAKS if _has_streak(days, length)}


def _days(years: Mapping[str, str]) -> int:
    """Return one bitmap of all years' active days."""
    first = date(int(min(years)), 1, 1)
    return sum(
        int(bits, 16) << (date(int(year), 1, 1) - first).days for year, bits in years.items()
    )


def _has_streak(days: int, length: int) -> bool:
    """Say whether so many active days lie in a row: each step leaves those that begin a longer."""
    have = 1
    while days and have < length:
        more = min(have, length - have)
        days, have = days & days >> more, have + more
    return bool(days)


def _summarise(summary: dict[str, Any], workout: Any, day: date, ended_ms: int) -> None:
    sums, days, firsts, bests = (
        summary.setdefault(part, {}) for part in ("distance_mm", "days", "firsts", "bests")
    )
    year, bit = day.isoformat()[:4], (day - day.replace(month=1, day=1)).days
    _add(sums, workout, year)
    days[year] = f"{int(days.get(year, '0'), 16) | 1 << bit:x}"
    # Lists compare from the left: among equal marks the earliest end stays, then the lesser id.
    entry = [ended_ms, workout.workout_id, day.isoformat()]
    for badge in _enough_for(workout):
        firsts[badge] = min(firsts.get(badge, entry), entry)
    records = bests.setdefault(workout.sport.value, {})
    for record, mark in _competes_for(workout):
        records[record] = min(records.get(record, [mark, *entry]), [mark, *entry])


def _add(sums: dict[str, dict[str, int]], workout: Any, period: str) -> None:
    if workout.distance_mm:
        of_sport = sums.setdefault(workout.sport.value, {})
        of_sport[period] = of_sport.get(period, 0) + workout.distance_mm


def _enough_for(workout: Any) -> Iterator[str]:
    """Yield the badges that this one workout is enough for."""
    yield "first-workout"
    name = SINGLE_SPORTS.get(workout.sport)
    if name and workout.distance_mm:
        for distance, goal in SINGLES_MM.items():
            if workout.distance_mm >= goal:
                yield f"{name}-{distance}"


def _competes_for(workout: Any) -> Iterator[tuple[str, int]]:
    """Yield the personal bests that it competes for, with a mark of which the lowest is the best.

    A longest is minus ms or mm; a pace is whole ms per km over the whole run, rounded down: two
    runs that differ by less are equal, and the earlier one keeps the record.
    """
    yield "longest_duration", -workout.duration_ms
    if workout.distance_mm:
        yield "longest_distance", -workout.distance_mm
        for km in PACES_KM if workout.sport == "running" else ():
            if workout.distance_mm >= km * KILOMETRE:
                yield f"fastest_{km}km", workout.duration_ms * KILOMETRE // workout.distance_mm
