"""Calories: what a person burned on each local day, and by which method.

`{user}/{date}` holds the day's `workouts`; `energy_cal`, what counts: the devices' figures, and
the formulas' where a device gave none; `methods`, method -> [workouts, calories], where each
workout is in its best formula and, if its device gave a figure, in `device` too;
`weights_assumed`, how many of the formulas' figures rest on an assumed weight; and the version of
the formulas.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from consumers.energy import DEVICE, VERSION, estimate

EARLIEST_ON_EARTH = timedelta(hours=14)  # UTC+14, where a day begins first
DAYS = 30  # shown when the query names none
MOST_DAYS = 366


def _calories(documents: Any, query: Any) -> dict[str, Any]:
    """A person's energy by local day, `from` and `to` included: the last 30 days unless named."""
    user = query["user"]
    first, last = _span(query)
    days = documents.range(f"{user}/{first}", f"{user}/{last}")
    return {
        "user_id": user,
        "from": first.isoformat(),
        "to": last.isoformat(),
        "total_kcal": sum(day["energy_cal"] for _, day in days) / 1000,
        "days": [_shown(key.removeprefix(f"{user}/"), day) for key, day in days],
    }


def _shown(local_date: str, day: dict[str, Any]) -> dict[str, Any]:
    methods = sorted(day["methods"].items())
    return {
        "date": local_date,
        "kcal": day["energy_cal"] / 1000,
        "formula_kcal": sum(cal for method, (_, cal) in methods if method != DEVICE) / 1000,
        "workouts": day["workouts"],
        "by_method": {
            method: {"workouts": workouts, "kcal": cal / 1000}
            for method, (workouts, cal) in methods
        },
        "weight_assumed": day["weights_assumed"] > 0,
        "formulas_version": day["formulas_version"],
    }


def _span(query: Any) -> tuple[date, date]:
    last = _date(query, "to") or (query.now + EARLIEST_ON_EARTH).date()
    first = _date(query, "from") or last - timedelta(days=DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise ValueError(
            f"from is {first} and to is {last}; from may not be after to, and together they may "
            f"span {MOST_DAYS} days at most"
        )
    return first, last


def _date(query: Any, name: str) -> date | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    # fromisoformat takes 20261124 and 2026-W48-2 too.
    if day.year < 1900 or day.isoformat() != text:
        raise ValueError(f"{name} is {text[:40]!r}; it must be a date such as 2026-11-24")
    return day


class Calories:
    """Energy by person and local day: a device's figure counts, the formula's is beside it."""

    name = "calories"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 1
    reads: Mapping[str, Callable[..., Any]] = {"/users/{user}/calories{?from,to}": _calories}

    def keys(self, event: Any) -> list[str]:
        """The day on which the workout began, where it began."""
        return [f"{event.user_id}/{event.data.local_date.isoformat()}"]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        """Add the workout to the sums of its day."""
        estimated = estimate(event.data)
        device_cal = event.data.energy_cal
        for day in documents.values():
            if not day:
                day.update(workouts=0, energy_cal=0, methods={}, weights_assumed=0)
                day["formulas_version"] = VERSION
            day["workouts"] += 1
            day["energy_cal"] += estimated.energy_cal if device_cal is None else device_cal
            day["weights_assumed"] += estimated.assumed_weight
            _add(day["methods"], estimated.method, estimated.energy_cal)
            if device_cal is not None:
                _add(day["methods"], DEVICE, device_cal)


def _add(methods: dict[str, list[int]], method: str, energy_cal: int) -> None:
    if method in methods:
        methods[method][0] += 1
        methods[method][1] += energy_cal
    else:
        methods[method] = [1, energy_cal]
