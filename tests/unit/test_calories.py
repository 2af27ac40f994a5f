"""Calories: what counts, what stands beside it, and on which day, in any order of arrival."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.calories import Calories
from consumers.testing import check, folded, read
from events.envelope import Event
from events.workouts import Athlete, Sport
from tests.factories import SPORTS, event, histories, random_history, years_of
from tests.unit.test_energy import published

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOVEMBER = "?from=2026-11-01&to=2026-11-30"


def asked(events: Any, query: str = NOVEMBER, *, user: str = "ada", now: datetime = NOW) -> Any:
    return read(Calories(), f"/users/{user}/calories{query}", events, now=now)


@given(histories())
def test_any_history_gives_the_same_documents_in_any_order(history: list[Event]) -> None:
    check(Calories(), history)


def test_a_long_random_history_gives_the_same_documents_in_any_order() -> None:
    check(Calories(), random_history(seed=7, count=400))


def test_the_devices_figure_counts_and_the_formulas_stands_beside_it() -> None:
    answer = asked([event(energy_cal=516_000)])
    assert answer == {
        "user_id": "ada",
        "from": "2026-11-01",
        "to": "2026-11-30",
        "total_kcal": 516,
        "days": [
            {
                "date": "2026-11-24",
                "kcal": 516,
                "formula_kcal": 386.75,
                "workouts": 1,
                "by_method": {
                    "device": {"workouts": 1, "kcal": 516},
                    "speed": {"workouts": 1, "kcal": 386.75},
                },
                "weight_assumed": True,
                "formulas_version": 1,
            }
        ],
    }


def test_without_a_devices_figure_the_formulas_counts() -> None:
    (day,) = asked([event(athlete=Athlete(weight_g=80_000))])["days"]
    assert day["kcal"] == day["formula_kcal"] == 442
    assert day["by_method"] == {"speed": {"workouts": 1, "kcal": 442}}
    assert day["weight_assumed"] is False


def test_a_day_sums_its_workouts_by_method() -> None:
    (day,) = asked(
        [
            event(workout_id="run", energy_cal=400_000),
            event(workout_id="yoga", sport=Sport.YOGA, distance_mm=None),
            event(workout_id="ride", sport=Sport.CYCLING, avg_power_mw=200_000),
        ]
    )["days"]
    assert day["workouts"] == 3
    assert day["kcal"] == 400 + 80.5 + 358.509
    assert day["formula_kcal"] == 386.75 + 80.5 + 358.509
    assert list(day["by_method"]) == ["device", "met", "power", "speed"]


def test_a_workout_belongs_to_the_day_of_its_start_at_its_own_offset() -> None:
    new_zealand, hawaii = timezone(timedelta(hours=13)), timezone(timedelta(hours=-10))
    answer = asked(
        [
            event(workout_id="a", started_at=datetime(2026, 11, 24, 0, 5, tzinfo=new_zealand)),
            event(workout_id="b", started_at=datetime(2026, 11, 23, 23, 59, tzinfo=hawaii)),
        ]
    )
    assert [day["date"] for day in answer["days"]] == ["2026-11-23", "2026-11-24"]


def test_both_ends_of_the_range_are_in_it_and_other_people_are_not() -> None:
    local = timezone(timedelta(hours=1))
    history = [
        event(workout_id=str(day), started_at=datetime(2026, 11, day, 9, tzinfo=local))
        for day in (9, 10, 11, 12, 13)
    ]
    history += [event(user_id=other, workout_id=other) for other in ("ad", "adaa", "ada-2", "ADA")]
    answer = asked(history, "?from=2026-11-10&to=2026-11-12")
    assert [day["date"] for day in answer["days"]] == ["2026-11-10", "2026-11-11", "2026-11-12"]
    assert asked(history, user="ada-2")["days"][0]["workouts"] == 1


def test_a_person_without_workouts_has_an_empty_list() -> None:
    answer = asked([], user="nobody")
    assert (answer["total_kcal"], answer["days"]) == (0, [])


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("", "2026-10-26", "2026-11-24"),
        ("?to=2026-11-30", "2026-11-01", "2026-11-30"),
        ("?from=2026-11-20", "2026-11-20", "2026-11-24"),
        ("?from=2026-01-01&to=2027-01-01", "2026-01-01", "2027-01-01"),
    ],
)
def test_the_last_thirty_days_are_shown_unless_others_are_asked_for(
    query: str, first: str, last: str
) -> None:
    answer = asked([], query, now=datetime(2026, 11, 24, 9, 59, tzinfo=UTC))
    assert (answer["from"], answer["to"]) == (first, last)


def test_a_day_is_shown_as_soon_as_it_has_begun_anywhere() -> None:
    assert asked([], "", now=datetime(2026, 11, 24, 10, tzinfo=UTC))["to"] == "2026-11-25"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?from=2026-11-31", "from is '2026-11-31'; it must be a date such as 2026-11-24"),
        ("?from=", "from is ''"),
        ("?to=20261124", "to is '20261124'"),
        ("?to=2026-W48-2", "to is '2026-W48-2'"),
        ("?to=0001-01-01", "to is '0001-01-01'"),
        ("?to=2026-11-24T00:00:00Z", "to is '2026-11-24T"),
        ("?from=" + "9" * 5000, "from is '9{40}'"),
        ("?from=2026-11-02&to=2026-11-01", "from may not be after to"),
        ("?from=2026-01-01&to=2027-01-02", "366 days at most"),
        ("?from=2026-11-25", "from is 2026-11-25 and to is 2026-11-24"),
        ("?until=2026-11-24", "until is no parameter"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_name(query: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        asked([], query, now=datetime(2026, 11, 24, 9, tzinfo=UTC))


def test_a_day_does_not_grow_with_its_workouts() -> None:
    def size(workouts: int) -> int:
        of_day = [event(workout_id=f"w{n:03}", energy_cal=500_000) for n in range(workouts)]
        return len(str(folded(Calories(), of_day)))

    assert size(400) - size(100) < 10  # some digits


def test_ten_years_of_three_workouts_a_day_are_a_small_document_for_each_day() -> None:
    documents = folded(Calories(), years_of(years=10))
    assert len(documents) == 3650
    assert max(len(str(document)) for document in documents.values()) < 400


def by_hand(history: list[Event], user: str) -> dict[str, dict[str, Any]]:
    """What each day of a person must show, computed without the consumer."""
    days: dict[str, Any] = defaultdict(lambda: {"kcal": 0, "formula_kcal": 0, "workouts": 0})
    for fact in (each.data for each in history if each.user_id == user):
        formula_cal, method = published(fact)
        device_cal = fact.energy_cal
        day = days[str(fact.started_at.date())]
        day["kcal"] += formula_cal if device_cal is None else device_cal
        day["formula_kcal"] += formula_cal
        day["workouts"] += 1
        weightless = fact.athlete is None or fact.athlete.weight_g is None
        day["weight_assumed"] = day.get("weight_assumed", False) or (
            weightless and method != "power"
        )
        for name, cal in ((method, formula_cal), ("device", device_cal)):
            if cal is not None:
                sums = day.setdefault("by_method", {}).setdefault(name, {"workouts": 0, "kcal": 0})
                sums["workouts"] += 1
                sums["kcal"] += cal
    return days


def in_calories(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    days = {day.pop("date"): day for day in answer["days"]}
    for day in days.values():
        del day["formulas_version"]
        for part in (day, *day["by_method"].values()):
            for name in {"kcal", "formula_kcal"} & part.keys():
                assert part[name] == round(part[name], 3)
                part[name] = round(part[name] * 1000)
    return days


@given(histories(sport=st.sampled_from(SPORTS)))
def test_the_answer_is_what_an_independent_computation_gives(history: list[Event]) -> None:
    answer = asked(history, "?from=2024-12-01&to=2025-04-01")
    expected = by_hand(history, "ada")
    assert round(answer["total_kcal"] * 1000) == sum(day["kcal"] for day in expected.values())
    assert in_calories(answer) == expected


def test_a_long_random_history_is_what_an_independent_computation_gives() -> None:
    history = random_history(seed=11, count=1_000)
    for user in ("ada", "B.o_b-2"):
        answer = asked(history, "?from=2024-12-01&to=2025-04-01", user=user)
        assert len(answer["days"]) > 50
        assert in_calories(answer) == by_hand(history, user)
