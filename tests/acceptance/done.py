"""A posted workout with its exact figures, which is all that the oracle knows."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.acceptance.crowd import Workout
from tests.acceptance.oracle_energy import exact, spent

DAY = timedelta(days=1)


class Done:
    """One workout with its figures; amounts are exact, in the units that people post."""

    def __init__(self, workout: Workout) -> None:
        def number(name: str) -> Fraction:
            return exact(workout.get(name)) or Fraction(0)

        self.posted = workout
        self.id, self.user, self.sport = (workout[n] for n in ("workout_id", "user_id", "sport"))
        self.duration, self.distance = number("duration_s"), number("distance_m")
        self.elapsed = number("elapsed_s") or self.duration
        self.ascent = number("ascent_m")
        self.day = date.fromisoformat(workout["started_at"][:10])
        self.month = workout["started_at"][:7]
        self.week = "{}-W{:02}".format(*self.day.isocalendar())
        start = datetime.fromisoformat(workout["started_at"])
        self.end = (start + timedelta(milliseconds=int(self.elapsed * 1000))).astimezone(UTC)
        formula = spent(workout)
        self.method, self.weight_assumed = formula.method, formula.weight_assumed
        self.formula = Fraction(formula.cal, 1000)
        device = exact(workout.get("energy_kcal"))
        self.by_device = device is not None
        self.energy = self.formula if device is None else device


def best_of(many: Sequence[Done], mark: Callable[[Done], Any]) -> Done:
    """The one with the lowest mark; of equals, the one that ended first."""
    return min(many, key=lambda one: (mark(one), one.end, one.id))


def by_sport(done: Sequence[Done]) -> list[tuple[str, list[Done]]]:
    """The sports and what was done in each."""
    sports = {one.sport for one in done}
    return [(sport, [one for one in done if one.sport == sport]) for sport in sports]


def row_until(day: date, days: set[date]) -> int:
    """How many days in a row there are up to and with this one."""
    return 1 + row_until(day - DAY, days) if day in days else 0
