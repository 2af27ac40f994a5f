"""The monthly report: what a person did in a month of local days, by sport and by ISO week.

`{user}/{month}` holds `sports` and `weeks`, each name -> sums, and in a sport its `records` by
distance, duration and speed; `days`, a bitmap of the active days, bit 0 the first; and `late`, how
many workouts were accepted after the month had closed.
"""

import math
import re
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from consumers.energy import counted, estimate

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY_BEGINS = timezone(timedelta(hours=14))  # first on earth
DAY_ENDS = timezone(timedelta(hours=-12))  # last on earth
GRACE = timedelta(days=7)  # for what comes in late, before a month is closed

FASTEST_OVER_MM = {"running": 1_000_000, "cycling": 5_000_000}  # a shorter one is a sprint
RECORDS = {"distance": "farthest", "duration": "longest", "speed": "fastest"}
SHOWN = {  # thousandths, and what they are called as whole units
    "duration_ms": "duration_s",
    "elapsed_ms": "elapsed_s",
    "distance_mm": "distance_m",
    "ascent_mm": "ascent_m",
    "energy_cal": "energy_kcal",
    "formula_cal": "formula_energy_kcal",
}


def _report(documents: Any, query: Any) -> dict[str, Any]:
    """A person's month: totals, records, streak, and the change from the month before."""
    user, month = query["user"], query["month"]
    if not re.fullmatch("[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise ValueError(f"month is {month[:40]!r}; it must be a month such as 2026-11")
    report = documents.get(f"{user}/{month}")
    if report is None:
        raise LookupError(f"{user[:64]} has no workout in {month}")
    return {
        "user_id": user,
        "month": month,
        "provisional": query.now < _closes_at(month),
        "closes_at": _closes_at(month).isoformat(),
        "revision": report["late"],
        "totals": _shown(_totals(report)),
        "change": _change(documents, user, month),
        "streak_days": _streak(documents, user, month, query.now),
        "active_days": [f"{month}-{bit + 1:02}" for bit in range(31) if report["days"] >> bit & 1],
        "sports": {sport: _sport(sums) for sport, sums in sorted(report["sports"].items())},
        "weeks": [{"week": week, **_shown(sums)} for week, sums in sorted(report["weeks"].items())],
        "farthest": _best(report, "distance"),
        "longest": _best(report, "duration"),
    }


def _change(documents: Any, user: str, month: str) -> dict[str, Any]:
    before = _month_before(month)
    now, then = (_totals(documents.get(f"{user}/{of}")) for of in (month, before))
    return {"from": before, **_shown({name: now[name] - then[name] for name in now})}


def _totals(report: dict[str, Any] | None) -> dict[str, int]:
    sports = report["sports"].values() if report else []
    sums = {name: sum(sport[name] for sport in sports) for name in ("workouts", *SHOWN)}
    return {**sums, "active_days": report["days"].bit_count() if report else 0}


def _shown(sums: dict[str, int]) -> dict[str, float]:
    return {
        SHOWN.get(name, name): amount / 1000 if name in SHOWN else amount
        for name, amount in sums.items()
    }


def _sport(sport: dict[str, Any]) -> dict[str, Any]:
    records = {RECORDS[by]: _record(record) for by, record in sport["records"].items()}
    return {**_shown({name: sport[name] for name in ("workouts", *SHOWN)}), **records}


def _best(report: dict[str, Any], by: str) -> dict[str, Any] | None:
    best: dict[str, Any] | None = None
    for sport, sums in report["sports"].items():
        record = sums["records"].get(by)
        if record and _ahead(record, best, by):
            best = {**record, "sport": sport}
    return best and {"sport": best["sport"], **_record(best)}


def _record(record: dict[str, Any]) -> dict[str, Any]:
    distance_mm, duration_ms = record["distance_mm"], record["duration_ms"]
    return {
        "workout_id": record["workout_id"],
        "date": record["date"],
        "distance_m": distance_mm / 1000,
        "duration_s": duration_ms / 1000,
        "speed_m_s": round(distance_mm / duration_ms, 3),
    }


def _streak(documents: Any, user: str, month: str, now: datetime) -> int:
    """Count the days in a row up to the end of the month, or up to now within it.

    A day breaks the streak only after it has ended everywhere on earth.
    """
    first = date.fromisoformat(f"{month}-01")
    begun = (now.astimezone(DAY_BEGINS).date() - first).days + 1
    ended = (now.astimezone(DAY_ENDS).date() - first).days
    days = documents.get(f"{user}/{month}")["days"] & (1 << max(begun, 0)) - 1
    day = days.bit_length()
    if day < min(ended, _length(month)):
        return 0
    streak = 0
    while day and days >> day - 1 & 1:
        streak, day = streak + 1, day - 1
        if day == 0:
            month = _month_before(month)
            report = documents.get(f"{user}/{month}")
            days, day = (report["days"], _length(month)) if report else (0, 0)
    return streak


@lru_cache(maxsize=1024)
def _closes_at(month: str) -> datetime:
    after = date.fromisoformat(f"{month}-01") + timedelta(days=_length(month))
    return datetime(after.year, after.month, 1, tzinfo=DAY_ENDS) + GRACE


def _month_before(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year:04}-{number - 1:02}" if number > 1 else f"{year - 1:04}-12"


def _length(month: str) -> int:
    return monthrange(int(month[:4]), int(month[5:]))[1]


class MonthlyReport:
    """What each person did in each month, by the local start of the workouts."""

    name = "monthly-report"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 1
    reads: Mapping[str, Callable[..., Any]] = {"/users/{user}/reports/{month}": _report}

    def keys(self, event: Any) -> list[str]:
        """The month in which the workout began, where it began."""
        return [f"{event.user_id}/{event.data.local_date.isoformat()[:7]}"]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        """Add the workout to its sport and its week, and let it compete for the sport's records."""
        workout, day = event.data, event.data.local_date
        sums = _sums(workout)
        year, week, _ = day.isocalendar()
        for report in documents.values():
            if not report:
                report.update(sports={}, weeks={}, days=0, late=0)
            report["days"] |= 1 << day.day - 1
            report["late"] += event.accepted_at >= _closes_at(day.isoformat()[:7])
            sport = report["sports"].setdefault(workout.sport.value, {"records": {}})
            _add(sport, sums)
            _add(report["weeks"].setdefault(f"{year:04}-W{week:02}", {}), sums)
            _compete(sport["records"], workout)


def _sums(workout: Any) -> dict[str, int]:
    estimated = estimate(workout)
    return {
        "workouts": 1,
        "duration_ms": workout.duration_ms,
        "elapsed_ms": workout.elapsed_ms or workout.duration_ms,
        "distance_mm": workout.distance_mm or 0,
        "ascent_mm": workout.ascent_mm or 0,
        "energy_cal": counted(workout, estimated).energy_cal,
        "formula_cal": estimated.energy_cal,
    }


def _add(totals: dict[str, Any], sums: dict[str, int]) -> None:
    for name, amount in sums.items():
        totals[name] = totals.get(name, 0) + amount


def _compete(records: dict[str, Any], workout: Any) -> None:
    distance_mm = workout.distance_mm or 0
    record = {
        "workout_id": workout.workout_id,
        "date": workout.local_date.isoformat(),
        "ended_ms": (workout.ended_at - EPOCH) // MILLISECOND,
        "distance_mm": distance_mm,
        "duration_ms": workout.duration_ms,
    }
    competes_for = ["duration"]
    if distance_mm:
        competes_for.append("distance")
    if distance_mm >= FASTEST_OVER_MM.get(workout.sport, math.inf):
        competes_for.append("speed")
    for by in competes_for:
        if _ahead(record, records.get(by), by):
            records[by] = record


def _ahead(one: dict[str, Any], other: dict[str, Any] | None, by: str) -> bool:
    """Say which is the better; of two equals, the one that ended first, then by its id."""
    if other is None:
        return True
    if by == "speed":  # compared without dividing, so that nothing is rounded
        ours = one["distance_mm"] * other["duration_ms"]
        theirs = other["distance_mm"] * one["duration_ms"]
    else:
        unit = "distance_mm" if by == "distance" else "duration_ms"
        ours, theirs = one[unit], other[unit]
    if ours != theirs:
        return bool(ours > theirs)
    return (one["ended_ms"], one["workout_id"]) < (other["ended_ms"], other["workout_id"])
