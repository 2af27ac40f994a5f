"""Achievements: badges, personal bests and streaks, the same in whatever order a history arrives.

`{user}` is a person's summary: `distance_mm`, sport -> year -> sum; `days`, year -> bitmap of the
active days; `firsts`, badge -> [end in ms since 1970, workout, day] of the earliest workout that
was enough for it; `bests`, sport -> record -> [mark, end, workout, day]. `{user}/{year}` is sport
-> day (`11-24`) -> sum in mm: it tells on which day a total was reached.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from consumers import Document, Documents, Query, Read
from consumers.badges import active_days, competes_for, enough_for, reached, streaks, with_day
from events.envelope import Event
from events.workouts import WorkoutCompleted

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
BEST_IN = {"longest_duration": "duration_s", "longest_distance": "distance_m"}


def _achievements(documents: Documents, query: Query) -> dict[str, Any]:
    """A person's badges by day, personal bests and distance per sport, and streak."""
    user = query["user"]
    summary = documents.get(user)
    if summary is None:
        raise LookupError(f"There are no workouts of {user[:64]!r} yet.")
    years = {key[-4:]: sums for key, sums in documents.range(f"{user}/0000", f"{user}/9999")}
    lengths = streaks(active_days(summary["days"]))
    badges = reached(summary, years, lengths)
    return {
        "user_id": user,
        "badges": [
            {"badge": badge, "reached_on": day, "workout_id": workout_id}
            for day, badge, workout_id in sorted((day, b, w) for b, (day, w) in badges.items())
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
    newest, oldest = (now + timedelta(hours=14)).date(), (now - timedelta(hours=12)).date()
    last = max((day for day in lengths if day <= newest), default=date.min)
    return lengths[last] if last >= oldest - timedelta(days=1) else 0


class Achievements:
    """Folds workouts into a person's summary and the distances of a year."""

    name = "achievements"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 1
    reads: Mapping[str, Read] = {"/users/{user}/achievements": _achievements}

    def keys(self, event: Event) -> list[str]:
        """Return the summary and, where there is a distance, the year of the local start."""
        user, workout = event.user_id, event.data
        year = workout.local_date.isoformat()[:4]
        return [user, f"{user}/{year}"] if workout.distance_mm else [user]

    def fold(self, event: Event, documents: dict[str, Document]) -> None:
        """Fold one workout: sums add up, days join, and of two marks the lower one stays."""
        workout: WorkoutCompleted = event.data
        day = workout.local_date.isoformat()
        for key, document in documents.items():
            if key == event.user_id:
                _summarise(document, workout, day, (event.time - EPOCH) // MILLISECOND)
            else:
                _add(document, workout, day[5:])


def _summarise(summary: Document, workout: WorkoutCompleted, day: str, ended_ms: int) -> None:
    sums, days, firsts, bests = (
        summary.setdefault(part, {}) for part in ("distance_mm", "days", "firsts", "bests")
    )
    _add(sums, workout, day[:4])
    days[day[:4]] = with_day(days.get(day[:4], "0"), workout.local_date)
    # Lists compare from the left: among equal marks the earliest end stays, then the lesser id.
    entry = [ended_ms, workout.workout_id, day]
    for badge in enough_for(workout):
        firsts[badge] = min(firsts.get(badge, entry), entry)
    records = bests.setdefault(workout.sport.value, {})
    for record, mark in competes_for(workout):
        records[record] = min(records.get(record, [mark, *entry]), [mark, *entry])


def _add(sums: dict[str, dict[str, int]], workout: WorkoutCompleted, period: str) -> None:
    if workout.distance_mm:
        of_sport = sums.setdefault(workout.sport.value, {})
        of_sport[period] = of_sport.get(period, 0) + workout.distance_mm
