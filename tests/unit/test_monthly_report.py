"""The monthly report: sums, records and streaks by the local start, in any order of arrival."""

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.monthly_report import MonthlyReport
from consumers.testing import check, folded, read
from events.envelope import Event
from events.workouts import Sport, WorkoutCompleted
from tests.factories import SPORTS, event, histories, random_history, years_of
from tests.unit.test_energy import published

LATER = datetime(2027, 6, 1, tzinfo=UTC)
CLOSED = datetime(2026, 12, 8, 12, tzinfo=UTC)  # November, everywhere, and seven days
MONTHS = ("2024-12", "2025-01", "2025-02", "2025-03")


def asked(events: Any, month: str = "2026-11", *, user: str = "ada", now: datetime = LATER) -> Any:
    return read(MonthlyReport(), f"/users/{user}/reports/{month}", events, now=now)


def on(day: date, *, hour: int = 7, **changes: Any) -> Event:
    started_at = datetime(day.year, day.month, day.day, hour, tzinfo=timezone(timedelta(hours=1)))
    return event(started_at=started_at, **{"workout_id": f"{day}", **changes})


def in_a_row(first: date, last: date) -> list[Event]:
    return [on(first + timedelta(days=n)) for n in range((last - first).days + 1)]


@given(histories())
def test_any_history_gives_the_same_documents_in_any_order(history: list[Event]) -> None:
    check(MonthlyReport(), history)


def test_a_long_random_history_gives_the_same_documents_in_any_order() -> None:
    check(MonthlyReport(), random_history(seed=7, count=400))


def test_a_month_with_one_run_shows_it_in_every_place() -> None:
    run = event(workout_id="run", elapsed_ms=1_900_500, ascent_mm=64_000, energy_cal=400_000)
    record = {
        "workout_id": "run",
        "date": "2026-11-24",
        "distance_m": 5000,
        "duration_s": 1800,
        "speed_m_s": 2.778,
    }
    sums = {
        "workouts": 1,
        "duration_s": 1800,
        "elapsed_s": 1900.5,
        "distance_m": 5000,
        "ascent_m": 64,
        "energy_kcal": 400,
        "formula_energy_kcal": 386.75,
    }
    assert asked([run]) == {
        "user_id": "ada",
        "month": "2026-11",
        "provisional": False,
        "closes_at": "2026-12-08T00:00:00-12:00",
        "revision": 0,
        "totals": {**sums, "active_days": 1},
        "change": {"from": "2026-10", **sums, "active_days": 1},
        "streak_days": 0,
        "active_days": ["2026-11-24"],
        "sports": {
            "running": {**sums, "farthest": record, "longest": record, "fastest": record},
        },
        "weeks": [{"week": "2026-W48", **sums}],
        "farthest": {"sport": "running", **record},
        "longest": {"sport": "running", **record},
    }


def test_a_month_without_workouts_is_not_found() -> None:
    with pytest.raises(LookupError, match="ada has no workout in 2026-10"):
        asked([event()], "2026-10")
    with pytest.raises(LookupError, match="ad has no workout in 2026-11"):
        asked([event()], user="ad")


@pytest.mark.parametrize(
    "month",
    ["2026-13", "2026-00", "2026-1", "2026", "2026-11-01", "٢٠٢٦-11", "x" * 5000, "2026-11%0A"],
)
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(ValueError, match="it must be a month such as 2026-11"):
        asked([event()], month)


@pytest.mark.parametrize("month", ["0000-01", "0001-01", "9999-12"])
def test_a_month_at_the_end_of_time_is_not_found(month: str) -> None:
    with pytest.raises(LookupError):
        asked([event()], month)


def test_a_workout_belongs_to_the_month_of_its_start_at_its_own_offset() -> None:
    kiritimati, baker = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
    first = event(workout_id="a", started_at=datetime(2026, 12, 1, 0, 0, tzinfo=kiritimati))
    last = event(workout_id="b", started_at=datetime(2026, 11, 30, 23, 59, tzinfo=baker))
    assert asked([first, last], "2026-12")["longest"]["workout_id"] == "a"
    assert asked([first, last], "2026-11")["longest"]["workout_id"] == "b"


def test_weeks_are_those_of_iso_8601_as_far_as_they_lie_in_the_month() -> None:
    days = [date(2026, 12, 27), date(2026, 12, 28), date(2026, 12, 31), date(2027, 1, 1)]
    answer = asked([on(day) for day in days], "2026-12")
    assert [(week["week"], week["workouts"]) for week in answer["weeks"]] == [
        ("2026-W52", 1),
        ("2026-W53", 2),
    ]
    assert asked([on(day) for day in days], "2027-01")["weeks"][0]["week"] == "2026-W53"


@pytest.mark.parametrize(
    ("sport", "distance_mm", "competes"),
    [
        (Sport.RUNNING, 999_999, False),
        (Sport.RUNNING, 1_000_000, True),
        (Sport.CYCLING, 4_999_999, False),
        (Sport.CYCLING, 5_000_000, True),
        (Sport.SWIMMING, 5_000_000, False),
    ],
)
def test_only_a_run_or_ride_that_is_long_enough_can_be_the_fastest(
    sport: Sport, distance_mm: int, *, competes: bool
) -> None:
    answer = asked([event(sport=sport, distance_mm=distance_mm)])
    assert ("fastest" in answer["sports"][sport]) is competes
    assert answer["sports"][sport]["farthest"]["distance_m"] == distance_mm / 1000


def test_the_fastest_is_by_exact_speed_and_neither_the_farthest_nor_the_longest() -> None:
    answer = asked(
        [
            event(workout_id="fast", distance_mm=3_000_001, duration_ms=600_000),
            event(workout_id="almost", distance_mm=6_000_001, duration_ms=1_200_000),
            event(workout_id="far", distance_mm=42_000_000, duration_ms=14_000_000),
            event(workout_id="long", distance_mm=1_000_000, duration_ms=20_000_000),
        ]
    )
    runs = answer["sports"]["running"]
    best = {name: runs[name]["workout_id"] for name in ("fastest", "farthest", "longest")}
    assert best == {"fastest": "fast", "farthest": "far", "longest": "long"}


def test_of_two_equals_the_one_that_ended_first_is_the_record_and_then_the_one_by_id() -> None:
    day = date(2026, 11, 3)
    tie = [on(day, workout_id="c", hour=7), on(day, workout_id="b", hour=6)]
    assert asked(tie)["farthest"]["workout_id"] == "b"
    tie.append(on(day, workout_id="a", hour=6))
    for record in ("farthest", "longest"):
        assert asked(tie)[record]["workout_id"] == "a"
    assert asked(tie)["sports"]["running"]["fastest"]["workout_id"] == "a"


def test_the_best_of_all_sports_is_found_by_the_same_rule() -> None:
    day = date(2026, 11, 3)
    tie = [on(day, workout_id="b"), on(day, workout_id="a", sport=Sport.CYCLING)]
    assert asked(tie)["farthest"]["sport"] == "cycling"
    assert asked([on(day, sport=Sport.YOGA, distance_mm=None)])["farthest"] is None


def test_the_change_from_the_month_before_is_signed() -> None:
    history = [
        *in_a_row(date(2026, 10, 1), date(2026, 10, 3)),
        on(date(2026, 11, 1), distance_mm=20_000_000),
    ]
    change = asked(history)["change"]
    assert change["from"] == "2026-10"
    assert (change["workouts"], change["active_days"]) == (-2, -2)
    assert (change["distance_m"], change["duration_s"]) == (5_000, -3_600)


def test_january_is_compared_with_december_of_the_year_before() -> None:
    history = [on(date(2025, 12, 31)), on(date(2026, 1, 1))]
    assert asked(history, "2026-01")["change"]["from"] == "2025-12"
    assert asked(history, "2026-01")["change"]["workouts"] == 0


def test_a_report_is_provisional_until_its_month_has_ended_everywhere_and_seven_days() -> None:
    moment = timedelta(microseconds=1)
    assert asked([event()], now=CLOSED - moment)["provisional"] is True
    assert asked([event()], now=CLOSED)["provisional"] is False


def test_the_revision_counts_what_was_accepted_after_the_month_had_closed() -> None:
    moment = timedelta(microseconds=1)
    history = [
        event(workout_id="a", accepted_at=CLOSED - moment),
        event(workout_id="b", accepted_at=CLOSED),
        event(workout_id="c", accepted_at=CLOSED + timedelta(days=900)),
    ]
    assert asked(history)["revision"] == 2
    assert asked(history[:1])["revision"] == 0


@pytest.mark.parametrize(
    ("first", "last", "month", "streak"),
    [
        (date(2026, 11, 1), date(2026, 11, 30), "2026-11", 30),
        (date(2026, 11, 28), date(2026, 11, 30), "2026-11", 3),
        (date(2026, 11, 1), date(2026, 11, 29), "2026-11", 0),
        (date(2026, 10, 30), date(2026, 12, 5), "2026-11", 32),
        (date(2024, 2, 28), date(2024, 3, 31), "2024-03", 33),
        (date(2023, 11, 30), date(2024, 12, 31), "2024-12", 398),
    ],
)
def test_a_streak_ends_with_the_month_and_reaches_into_the_months_before(
    first: date, last: date, month: str, streak: int
) -> None:
    assert asked(in_a_row(first, last), month)["streak_days"] == streak


def test_a_gap_ends_a_streak_also_at_the_end_of_the_month_before() -> None:
    history = in_a_row(date(2026, 11, 1), date(2026, 11, 30))
    history += in_a_row(date(2026, 10, 1), date(2026, 10, 30))
    assert asked(history)["streak_days"] == 30


@pytest.mark.parametrize(
    ("now", "streak"),
    [
        # The last active day is the 20th; the 21st ends last at UTC-12, on the 22nd at 12:00 UTC.
        (datetime(2026, 11, 20, 12, tzinfo=UTC), 20),
        (datetime(2026, 11, 22, 11, 59, tzinfo=UTC), 20),
        (datetime(2026, 11, 22, 12, 0, tzinfo=UTC), 0),
        (datetime(2026, 11, 30, 23, 59, tzinfo=UTC), 0),
    ],
)
def test_within_the_month_a_day_breaks_a_streak_only_when_it_has_ended_everywhere(
    now: datetime, streak: int
) -> None:
    history = in_a_row(date(2026, 11, 1), date(2026, 11, 20))
    assert asked(history, now=now)["streak_days"] == streak


def test_days_that_have_not_begun_anywhere_are_in_no_streak() -> None:
    history = in_a_row(date(2026, 11, 1), date(2026, 11, 30))
    assert asked(history, now=datetime(2026, 11, 10, 9, 59, tzinfo=UTC))["streak_days"] == 10
    assert asked(history, now=datetime(2026, 11, 10, 10, 0, tzinfo=UTC))["streak_days"] == 11
    assert asked(history, now=datetime(2026, 10, 10, tzinfo=UTC))["streak_days"] == 0


def test_a_month_does_not_grow_with_the_workouts_of_a_day() -> None:
    def size(workouts: int) -> int:
        of_day = [event(workout_id=f"w{n:03}", energy_cal=500_000) for n in range(workouts)]
        return len(str(folded(MonthlyReport(), of_day)))

    assert size(400) - size(100) < 20  # some digits


def test_ten_years_of_three_workouts_a_day_are_a_small_document_for_each_month() -> None:
    documents = folded(MonthlyReport(), years_of(years=10), batch=100)
    assert len(documents) == 120
    assert max(len(str(document)) for document in documents.values()) < 16 * 1024


def test_a_month_of_every_sport_stays_small() -> None:
    every = [event(workout_id="x" * 60 + f"{n}", sport=sport) for n, sport in enumerate(Sport)]
    (document,) = folded(MonthlyReport(), every).values()
    assert len(str(document)) < 64 * 1024


def figures(facts: list[WorkoutCompleted]) -> dict[str, Any]:
    """The sums of some workouts, computed without the consumer; thousandths as they are."""
    formula = [published(fact)[0] for fact in facts]
    device = [fact.energy_cal for fact in facts]
    return {
        "workouts": len(facts),
        "duration_s": sum(fact.duration_ms for fact in facts),
        "elapsed_s": sum(fact.elapsed_ms or fact.duration_ms for fact in facts),
        "distance_m": sum(fact.distance_mm or 0 for fact in facts),
        "ascent_m": sum(fact.ascent_mm or 0 for fact in facts),
        "energy_kcal": sum(f if d is None else d for d, f in zip(device, formula, strict=True)),
        "formula_energy_kcal": sum(formula),
    }


def thousandths(shown: dict[str, Any]) -> dict[str, Any]:
    whole = ("workouts", "active_days")
    found = {}
    for name, amount in shown.items():
        if not isinstance(amount, dict | str):
            assert amount == round(amount, 3)
            found[name] = amount if name in whole else round(amount * 1000)
    return found


def best(facts: list[WorkoutCompleted], merit: Any) -> str | None:
    ranked = sorted(facts, key=lambda fact: (-merit(fact), fact.ended_at, fact.workout_id))
    return ranked[0].workout_id if ranked else None


def fastest(facts: list[WorkoutCompleted], sport: str) -> str | None:
    least = {"running": 1_000_000, "cycling": 5_000_000}.get(sport, 10**15)
    long_enough = [fact for fact in facts if (fact.distance_mm or 0) >= least]
    return best(long_enough, lambda fact: Fraction(fact.distance_mm, fact.duration_ms))


def streak(days: set[date], last: date) -> int:
    length = 0
    while last - timedelta(days=length) in days:
        length += 1
    return length


def iso_week(fact: WorkoutCompleted) -> str:
    year, week, _ = fact.started_at.isocalendar()
    return f"{year:04}-W{week:02}"


def compare(history: list[Event], user: str, month: str) -> None:
    """Compare the report of a month that is long over with one that is computed by hand."""
    mine = [each for each in history if each.user_id == user]
    facts = [each.data for each in mine if str(each.data.started_at.date())[:7] == month]
    if not facts:
        with pytest.raises(LookupError):
            asked(history, month, user=user)
        return
    report = asked(history, month, user=user)
    first = date.fromisoformat(f"{month}-01")
    end = (first + timedelta(days=31)).replace(day=1)
    closed = datetime(end.year, end.month, 8, 12, tzinfo=UTC)
    days = {each.data.started_at.date() for each in mine}
    before = f"{first - timedelta(days=1)}"[:7]
    earlier = [each.data for each in mine if str(each.data.started_at.date())[:7] == before]
    now, then = figures(facts), figures(earlier)
    active = sorted({str(fact.started_at.date()) for fact in facts})
    was_active = {fact.started_at.date() for fact in earlier}

    assert report["active_days"] == active
    assert thousandths(report["totals"]) == {**now, "active_days": len(active)}
    assert thousandths(report["change"]) == {
        **{name: now[name] - then[name] for name in now},
        "active_days": len(active) - len(was_active),
    }
    assert report["revision"] == sum(
        each.accepted_at >= closed for each in mine if each.data in facts
    )
    assert report["streak_days"] == streak(days, end - timedelta(days=1))
    compare_weeks(report, facts)
    compare_sports(report, facts)
    moved = [fact for fact in facts if fact.distance_mm]
    assert (report["farthest"] or {}).get("workout_id") == best(moved, lambda f: f.distance_mm)
    assert report["longest"]["workout_id"] == best(facts, lambda f: f.duration_ms)


def compare_weeks(report: dict[str, Any], facts: list[WorkoutCompleted]) -> None:
    assert [week["week"] for week in report["weeks"]] == sorted({iso_week(f) for f in facts})
    for week in report["weeks"]:
        of_week = [fact for fact in facts if iso_week(fact) == week["week"]]
        assert thousandths(week) == figures(of_week)


def compare_sports(report: dict[str, Any], facts: list[WorkoutCompleted]) -> None:
    assert report["sports"].keys() == {fact.sport for fact in facts}
    for sport, shown in report["sports"].items():
        of_sport = [fact for fact in facts if fact.sport == sport]
        moved = [fact for fact in of_sport if fact.distance_mm]
        assert thousandths(shown) == figures(of_sport)
        records = {name: shown.get(name, {}) for name in ("farthest", "longest", "fastest")}
        assert {name: record.get("workout_id") for name, record in records.items()} == {
            "farthest": best(moved, lambda fact: fact.distance_mm),
            "longest": best(of_sport, lambda fact: fact.duration_ms),
            "fastest": fastest(of_sport, sport),
        }


@given(histories(user_id="ada", sport=st.sampled_from(SPORTS)), st.sampled_from(MONTHS))
def test_the_report_is_what_an_independent_computation_gives(
    history: list[Event], month: str
) -> None:
    compare(history, "ada", month)


def test_a_long_random_history_is_what_an_independent_computation_gives() -> None:
    history = random_history(seed=11, count=1_000)
    for user in ("ada", "B.o_b-2"):
        for month in MONTHS:
            compare(history, user, month)
