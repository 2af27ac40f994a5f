"""What every read must answer, computed from the posted workouts alone, the slow and obvious way.

It shares no line with the consumers: no documents and no folds, only lists of workouts and sums.
All workouts lie so far back that their months have closed, and no streak still runs.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import groupby
from typing import Any

from tests.acceptance.crowd import Workout
from tests.acceptance.done import DAY, Done, best_of, by_sport, row_until
from tests.acceptance.oracle_badges import badges, bests

GRACE = timedelta(days=7)
METRICS = {"distance": "distance_m", "moving-time": "moving_time_s", "energy": "energy_kcal"}
FASTEST_FROM_M = {"running": 1_000, "cycling": 5_000}  # a shorter one is a sprint


class Oracle:
    """The answers for a crowd's accepted workouts."""

    def __init__(self, workouts: Sequence[Workout]) -> None:
        self._all = [Done(workout) for workout in workouts]
        self._of: dict[str, list[Done]] = {}
        for one in self._all:
            self._of.setdefault(one.user, []).append(one)
        assert max(one.day for one in self._all) < datetime.now(UTC).date() - timedelta(days=60)

    @property
    def users(self) -> list[str]:
        """Everybody who did something."""
        return sorted(self._of)

    def months(self, user: str) -> list[str]:
        """The months in which a person did something."""
        return sorted({one.month for one in self._of[user]})

    def workouts(self, user: str) -> dict[str, Workout]:
        """A person's workouts as they were posted, with what the door fills in, by id."""
        return {
            one.id: {
                "visibility": "public",
                "origin": "live",
                **one.posted,
                "started_at": datetime.fromisoformat(one.posted["started_at"]).isoformat(),
            }
            for one in self._of[user]
        }

    def calories(self, user: str, first: date, last: date) -> dict[str, Any]:
        """A person's energy by day."""
        done = [one for one in self._of[user] if first <= one.day <= last]
        by_day = groupby(sorted(done, key=lambda one: one.day), lambda one: one.day)
        return {
            "user_id": user,
            "from": f"{first}",
            "to": f"{last}",
            "total_kcal": float(sum(one.energy for one in done)),
            "days": [_calories_of(day, list(of)) for day, of in by_day],
        }

    def achievements(self, user: str) -> dict[str, Any]:
        """A person's badges, bests, totals and streak."""
        done = self._of[user]
        days = {one.day for one in done}
        reached = [
            {"badge": badge, "reached_on": f"{day}", "workout_id": workout_id}
            for badge, day, workout_id in badges(done)
        ]
        return {
            "user_id": user,
            "badges": sorted(reached, key=lambda one: (one["reached_on"], one["badge"])),
            "personal_bests": {sport: bests(of) for sport, of in by_sport(done)},
            "totals": {
                sport: {"distance_m": float(sum(one.distance for one in of))}
                for sport, of in by_sport(done)
                if any(one.distance for one in of)
            },
            "streak": {
                "longest_days": max(row_until(day, days) for day in days),
                "current_days": 0,
            },
        }

    def report(self, user: str, month: str) -> dict[str, Any]:
        """A person's month."""
        done = [one for one in self._of[user] if one.month == month]
        first = date.fromisoformat(f"{month}-01")
        after = (first + 31 * DAY).replace(day=1)
        before = f"{first - DAY:%Y-%m}"
        totals = _sums(done, days=True)
        then = _sums([one for one in self._of[user] if one.month == before], days=True)
        closes = datetime.fromisoformat(f"{after}T00:00:00-12:00") + GRACE
        all_days = {one.day for one in self._of[user]}
        weeks = groupby(sorted(done, key=lambda one: one.week), lambda one: one.week)
        return {
            "user_id": user,
            "month": month,
            "provisional": False,
            "closes_at": closes.isoformat(),
            "revision": len(done),  # everything of a month that has closed comes late
            "totals": _floats(totals),
            "change": {"from": before, **_floats({n: totals[n] - then[n] for n in totals})},
            "streak_days": row_until(after - DAY, all_days),
            "active_days": [f"{day}" for day in sorted({one.day for one in done})],
            "sports": {s: {**_floats(_sums(of)), **_records(s, of)} for s, of in by_sport(done)},
            "weeks": [{"week": week, **_floats(_sums(list(of)))} for week, of in weeks],
            "farthest": _farthest(done),
            "longest": _record(best_of(done, lambda one: -one.duration), sport=True),
        }

    def board(self, metric: str, window: str, sport: str) -> list[dict[str, Any]]:
        """The whole board, in its order."""
        totals: dict[str, tuple[Fraction, datetime]] = {}
        for one in self._all:
            amount = self._amount(one, metric)
            if amount and _on_board(one, window, sport):
                total, reached = totals.get(one.user, (Fraction(0), one.end))
                totals[one.user] = (total + amount, max(reached, one.end))
        order = sorted((-total, reached, user) for user, (total, reached) in totals.items())
        return [
            {
                "rank": 1 + sum(better < minus for better, _, _ in order),
                "user_id": user,
                METRICS.get(metric, "workouts"): float(-minus),
                "reached_at": reached.isoformat(),
            }
            for minus, reached, user in order
        ]

    def _amount(self, one: Done, metric: str) -> Fraction:
        amounts = {"distance": one.distance, "moving-time": one.duration, "energy": one.energy}
        return amounts.get(metric, Fraction(1))


def _on_board(one: Done, window: str, sport: str) -> bool:
    public = one.posted.get("visibility", "public") == "public"
    in_window = window in ("all", one.week, one.month, one.month[:4])
    return public and in_window and sport in ("all", one.sport)


def _calories_of(day: date, done: list[Done]) -> dict[str, Any]:
    figures = [(one.method, one.formula) for one in done]
    figures += [("device", one.energy) for one in done if one.by_device]
    by_method: dict[str, dict[str, Any]] = {}
    for method, kcal in figures:
        entry = by_method.setdefault(method, {"workouts": 0, "kcal": Fraction(0)})
        entry["workouts"] += 1
        entry["kcal"] += kcal
    return {
        "date": f"{day}",
        "kcal": float(sum(one.energy for one in done)),
        "formula_kcal": float(sum(one.formula for one in done)),
        "workouts": len(done),
        "by_method": {method: _floats(entry) for method, entry in by_method.items()},
        "weight_assumed": any(one.weight_assumed for one in done),
        "formulas_version": 1,
    }


def _floats(amounts: dict[str, Any]) -> dict[str, float]:
    return {name: float(amount) for name, amount in amounts.items()}


def _sums(done: Sequence[Done], *, days: bool = False) -> dict[str, Any]:
    sums: dict[str, Any] = {
        "workouts": len(done),
        "duration_s": sum(one.duration for one in done),
        "elapsed_s": sum(one.elapsed for one in done),
        "distance_m": sum(one.distance for one in done),
        "ascent_m": sum(one.ascent for one in done),
        "energy_kcal": sum(one.energy for one in done),
        "formula_energy_kcal": sum(one.formula for one in done),
    }
    return sums | {"active_days": len({one.day for one in done})} if days else sums


def _records(sport: str, done: Sequence[Done]) -> dict[str, Any]:
    records = {"longest": _record(best_of(done, lambda one: -one.duration))}
    far = [one for one in done if one.distance]
    if far:
        records["farthest"] = _record(best_of(far, lambda one: -one.distance))
    fast = [one for one in far if one.distance >= FASTEST_FROM_M.get(sport, 1 << 60)]
    if fast:
        records["fastest"] = _record(best_of(fast, lambda one: -one.distance / one.duration))
    return records


def _farthest(done: Sequence[Done]) -> dict[str, Any] | None:
    far = [one for one in done if one.distance]
    return _record(best_of(far, lambda one: -one.distance), sport=True) if far else None


def _record(one: Done, *, sport: bool = False) -> dict[str, Any]:
    return {
        **({"sport": one.sport} if sport else {}),
        "workout_id": one.id,
        "date": f"{one.day}",
        "distance_m": float(one.distance),
        "duration_s": float(one.duration),
        "speed_m_s": float(round(one.distance / one.duration, 3)),
    }
