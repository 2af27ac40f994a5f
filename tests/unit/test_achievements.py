"""Achievements: the read answers what a plain walk through a history in event time gives."""

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.achievements import Achievements, reached
from consumers.testing import check, folded, read
from events.envelope import Event
from events.workouts import Sport, WorkoutCompleted
from tests.factories import FIRST_DAY, event, histories, random_history, starts, years_of

PATH = "/users/ada/achievements"
NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
KM = 1_000_000
DAY = timedelta(days=1)
HISTORIES = histories(
    max_size=25,
    user_id="ada",
    sport=st.sampled_from((Sport.RUNNING, Sport.CYCLING, Sport.YOGA)),
    started_at=starts(days=12) | starts(days=400),
)


def _walk(events: Iterable[Event], *, now: datetime = NOW) -> dict[str, Any]:
    """The whole answer, from the facts alone, in the order in which they happened."""
    once = {event.id: event.data for event in events}.values()
    facts = sorted(once, key=lambda fact: (fact.ended_at, fact.workout_id))
    days = {fact.local_date for fact in facts}
    sports = {fact.sport for fact in facts}
    badges = [*_firsts(facts), *_streaks(days)]
    for sport in sports:
        badges += _totals(sport, [fact for fact in facts if fact.sport is sport])
    return {
        "user_id": "ada",
        "badges": sorted(
            ({"badge": b, "reached_on": str(day), "workout_id": w} for b, day, w in badges),
            key=lambda badge: (str(badge["reached_on"]), str(badge["badge"])),
        ),
        "personal_bests": {s.value: _bests([f for f in facts if f.sport is s]) for s in sports},
        "totals": {
            sport.value: {"distance_m": float(Fraction(total, 1000))}
            for sport in sports
            if (total := sum(fact.distance_mm or 0 for fact in facts if fact.sport is sport))
        },
        "streak": {
            "longest_days": max(_days_up_to(day, days) for day in days),
            "current_days": _current(days, now),
        },
    }


def _firsts(facts: list[WorkoutCompleted]) -> list[tuple[str, date, str | None]]:
    goals = {"5km": 5, "10km": 10, "21.0975km": 21.0975, "42.195km": 42.195, "100km": 100}
    earliest = {"first-workout": facts[0]}
    for sport, name in ((Sport.RUNNING, "run"), (Sport.CYCLING, "ride")):
        for text, km in goals.items():
            for fact in facts:
                if fact.sport is sport and (fact.distance_mm or 0) >= round(km * KM):
                    earliest.setdefault(f"{name}-{text}", fact)
    return [(badge, fact.local_date, fact.workout_id) for badge, fact in earliest.items()]


def _totals(sport: Sport, facts: list[WorkoutCompleted]) -> list[tuple[str, date, str | None]]:
    found: list[tuple[str, date, str | None]] = []
    for km in (100, 500, 1000, 5000):
        total = 0
        for fact in sorted(facts, key=lambda fact: fact.local_date):
            total += fact.distance_mm or 0
            if total >= km * KM:
                found.append((f"total-{sport.value}-{km}km", fact.local_date, None))
                break
    return found


def _days_up_to(day: date, days: set[date]) -> int:
    length = 0
    while day - length * DAY in days:
        length += 1
    return length


def _streaks(days: set[date]) -> list[tuple[str, date, str | None]]:
    lengths = [(day, _days_up_to(day, days)) for day in sorted(days)]
    complete = {n: [day for day, length in lengths if length >= n] for n in (3, 7, 30, 100, 365)}
    return [(f"streak-{n}-days", on[0], None) for n, on in complete.items() if on]


def _current(days: set[date], now: datetime) -> int:
    today_somewhere = [(now + timedelta(hours=offset)).date() for offset in range(-12, 15)]
    past = sorted(day for day in days if day <= max(today_somewhere))
    return _days_up_to(past[-1], days) if past and past[-1] + DAY >= min(today_somewhere) else 0


def _bests(facts: list[WorkoutCompleted]) -> dict[str, dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}

    def beaten(record: str, unit: str, value: float, fact: WorkoutCompleted) -> None:
        better = value < best[record][unit] if unit == "pace_s_per_km" and record in best else True
        if record in best and unit != "pace_s_per_km":
            better = value > best[record][unit]
        if better:
            best[record] = {
                unit: value,
                "reached_on": str(fact.local_date),
                "workout_id": fact.workout_id,
            }

    for fact in facts:
        beaten("longest_duration", "duration_s", fact.duration_ms / 1000, fact)
        if fact.distance_mm:
            beaten("longest_distance", "distance_m", fact.distance_mm / 1000, fact)
            for km in (5, 10):
                if fact.sport is Sport.RUNNING and fact.distance_mm >= km * KM:
                    ms_per_km = int(Fraction(fact.duration_ms * KM, fact.distance_mm))
                    beaten(f"fastest_{km}km", "pace_s_per_km", ms_per_km / 1000, fact)
    return best


def _on(*days: str, offset: int = 0, **changes: Any) -> list[Event]:
    """A workout at noon of each of these local days, at an offset in hours."""
    zone = timezone(timedelta(hours=offset))
    noons = [datetime.fromisoformat(day).replace(hour=12, tzinfo=zone) for day in days]
    return [event(workout_id=f"on-{noon.date()}", started_at=noon, **changes) for noon in noons]


def _badges(events: Iterable[Event]) -> dict[str, tuple[str, str | None]]:
    badges = read(Achievements(), PATH, list(events))["badges"]
    return {badge["badge"]: (badge["reached_on"], badge["workout_id"]) for badge in badges}


@given(histories(max_size=8))
@settings(max_examples=60)
def test_it_keeps_the_contract_of_a_consumer(events: list[Event]) -> None:
    check(Achievements(), events)


@given(
    HISTORIES.filter(bool),
    st.randoms(use_true_random=False),
    st.integers(1, 9),
    st.integers(-48, 400 * 24),
)
def test_any_order_of_arrival_with_duplicates_gives_what_a_walk_in_event_time_gives(
    events: list[Event], random: Random, batch: int, hours: int
) -> None:
    arrived = events + random.sample(events, len(events) // 2)
    random.shuffle(arrived)
    now = FIRST_DAY.replace(tzinfo=UTC) + timedelta(hours=hours)
    answer = read(Achievements(), PATH, folded(Achievements(), arrived, batch=batch), now=now)
    assert answer == _walk(events, now=now)


@pytest.mark.parametrize("days", [20, 40, 75, 150, 300, 700])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_long_history_has_the_long_streaks_and_the_large_totals_of_the_walk(
    seed: int, days: int
) -> None:
    events = random_history(seed=seed, count=400, users=("ada",), days=days)
    assert read(Achievements(), PATH, events, now=NOW) == _walk(events)


def test_three_years_backwards_have_every_streak_and_total_of_the_walk() -> None:
    events = list(years_of(years=3, a_day=1))
    now = datetime(2018, 12, 31, tzinfo=UTC)
    documents = folded(Achievements(), reversed(events), batch=200)
    answer = read(Achievements(), PATH, documents, now=now)
    assert answer == _walk(events, now=now)
    assert {"streak-365-days", "total-running-1000km"} <= {b["badge"] for b in answer["badges"]}


def test_documents_of_ten_years_stay_small_and_those_of_the_last_year_are_like_the_first() -> None:
    events = list(years_of())
    documents = folded(Achievements(), events, batch=500)
    sizes = {key: len(json.dumps(document)) for key, document in documents.items()}
    assert sizes.pop("ada") < 6 * 1024
    assert max(sizes.values()) < 32 * 1024
    assert sizes["ada/2025"] < 1.2 * sizes["ada/2016"]
    assert max(len(Achievements().keys(event)) for event in events) == 2


def test_the_hundredth_year_adds_to_the_summary_what_the_second_did() -> None:
    sizes = []
    for years in (1, 2, 99, 100):
        days = [f"{1950 + year}-{month:02}-01" for year in range(years) for month in range(1, 13)]
        summary = folded(Achievements(), _on(*days, sport=Sport.YOGA, distance_mm=None))["ada"]
        sizes.append(len(json.dumps(summary)))
    assert sizes[3] - sizes[2] == sizes[1] - sizes[0] < 110


def test_a_run_of_exactly_five_kilometres_is_one_and_a_millimetre_less_is_not() -> None:
    assert "run-5km" in _badges([event(distance_mm=5_000_000)])
    assert "run-5km" not in _badges([event(distance_mm=4_999_999)])


def test_a_half_marathon_ride_is_a_ride_and_not_a_run() -> None:
    badges = _badges([event(sport=Sport.CYCLING, distance_mm=21_097_500)])
    assert badges.keys() == {"first-workout", "ride-5km", "ride-10km", "ride-21.0975km"}


def test_an_earlier_run_that_arrives_late_takes_the_badge_over() -> None:
    late, early = _on("2026-11-20", "2026-11-03")
    assert _badges([late])["run-5km"] == ("2026-11-20", "on-2026-11-20")
    assert _badges([late, early])["run-5km"] == ("2026-11-03", "on-2026-11-03")


def test_of_two_workouts_that_end_at_once_the_lesser_id_has_the_badge() -> None:
    two = [event(workout_id="b"), event(workout_id="a")]
    assert _badges(two)["first-workout"] == _badges(two[::-1])["first-workout"]
    assert _badges(two)["first-workout"] == ("2026-11-24", "a")


def test_the_first_workout_is_the_one_that_ended_first() -> None:
    start = datetime(2026, 11, 24, 7, tzinfo=UTC)
    long = event(workout_id="long", started_at=start, duration_ms=7_200_000)
    short = event(workout_id="short", started_at=start + timedelta(minutes=30), duration_ms=60_000)
    assert _badges([long, short])["first-workout"][1] == "short"


def test_a_total_is_reached_on_a_day_of_another_year_once_an_old_workout_arrives() -> None:
    ride: dict[str, Any] = {"sport": Sport.CYCLING, "distance_mm": 60 * KM}
    recent = _on("2026-02-01", "2026-06-01", **ride)
    assert _badges(recent)["total-cycling-100km"] == ("2026-06-01", None)
    assert _badges([*recent, *_on("2025-12-31", **ride)])["total-cycling-100km"][0] == "2026-02-01"


def test_documents_that_hold_their_periods_in_the_order_of_arrival_give_the_same_badges() -> None:
    days = ("2025-12-31", "2026-01-01", "2026-01-02", "2026-02-01", "2026-06-01")
    consumer, documents = Achievements(), dict[str, dict[str, Any]]()
    for arrived in reversed(_on(*days, distance_mm=30 * KM)):
        touched = {key: documents.setdefault(key, {}) for key in consumer.keys(arrived)}
        consumer.fold(arrived, touched)
    years = {year: documents[f"ada/{year}"] for year in ("2026", "2025")}
    badges = reached(documents["ada"], years)
    assert badges["total-running-100km"] == ("2026-02-01", None)
    assert badges["streak-3-days"] == ("2026-01-02", None)


def test_totals_are_of_one_sport() -> None:
    events = _on("2026-02-01", distance_mm=99 * KM)
    events += _on("2026-02-02", distance_mm=99 * KM, sport=Sport.CYCLING)
    assert not [badge for badge in _badges(events) if badge.startswith("total")]


@pytest.mark.parametrize(
    ("days", "reached_on"),
    [
        (("2028-02-28", "2028-02-29", "2028-03-01"), "2028-03-01"),
        (("2027-02-27", "2027-02-28", "2027-03-01"), "2027-03-01"),
        (("2028-02-27", "2028-02-28", "2028-03-01"), None),
        (("2026-12-30", "2026-12-31", "2027-01-01"), "2027-01-01"),
        (("2028-12-30", "2028-12-31", "2029-01-01"), "2029-01-01"),
        (("2026-12-29", "2026-12-31", "2027-01-01"), None),
    ],
)
def test_a_streak_follows_the_calendar_over_leap_days_and_new_year(
    days: tuple[str, ...], reached_on: str | None
) -> None:
    assert _badges(_on(*days)).get("streak-3-days", (None, None))[0] == reached_on


def test_a_second_streak_does_not_move_the_first() -> None:
    events = _on("2026-05-01", "2026-05-02", "2026-05-03", "2026-05-04", "2026-08-01")
    events += _on("2026-08-02", "2026-08-03")
    assert _badges(events)["streak-3-days"] == ("2026-05-03", None)


def test_one_instant_is_another_day_at_the_other_edge_of_the_world() -> None:
    instant = datetime(2026, 11, 24, 11, tzinfo=UTC)
    east = event(workout_id="east", started_at=instant.astimezone(timezone(timedelta(hours=14))))
    west = event(workout_id="west", started_at=instant.astimezone(timezone(timedelta(hours=-12))))
    assert _badges([east])["first-workout"][0] == "2026-11-25"
    assert _badges([west])["first-workout"][0] == "2026-11-23"


def test_a_workout_over_midnight_belongs_to_the_day_and_the_year_of_its_start() -> None:
    night = datetime(2026, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=1)))
    events = [event(started_at=night, duration_ms=7_200_000, distance_mm=100 * KM)]
    badges = _badges([*events, *_on("2026-12-29", "2026-12-30")])
    assert badges["run-100km"] == ("2026-12-31", "w-1")
    assert badges["total-running-100km"] == ("2026-12-31", None)
    assert badges["streak-3-days"] == ("2026-12-31", None)


@pytest.mark.parametrize(
    ("now", "days"),
    [
        ("2026-11-02T09:59+00:00", 0),
        ("2026-11-02T10:00+00:00", 1),  # furthest east it is the 3rd
        ("2026-11-04T09:59+00:00", 2),
        ("2026-11-04T10:00+00:00", 3),
        ("2026-11-06T23:00+00:00", 3),
        ("2026-11-07T11:59+00:00", 3),  # furthest west it is the 6th, the day after the last
        ("2026-11-07T12:00+00:00", 0),
    ],
)
def test_the_streak_goes_on_until_the_day_after_its_last_is_over_everywhere(
    now: str, days: int
) -> None:
    events = _on("2026-11-03", "2026-11-04", "2026-11-05")
    answer = read(Achievements(), PATH, events, now=datetime.fromisoformat(now))
    assert answer["streak"] == {"longest_days": 3, "current_days": days}


def test_the_fastest_pace_is_of_runs_that_are_long_enough() -> None:
    sprint = event(workout_id="sprint", distance_mm=4 * KM, duration_ms=600_000)
    five = event(workout_id="five", distance_mm=5 * KM, duration_ms=1_250_000)
    ten = event(workout_id="ten", distance_mm=10 * KM, duration_ms=3_000_000)
    ride = event(workout_id="ride", distance_mm=10 * KM, duration_ms=900_000, sport=Sport.CYCLING)
    bests = read(Achievements(), PATH, [ten, ride, five, sprint])["personal_bests"]
    on = {"reached_on": "2026-11-24"}
    assert bests["running"] == {
        "fastest_5km": {"pace_s_per_km": 250.0, "workout_id": "five", **on},
        "fastest_10km": {"pace_s_per_km": 300.0, "workout_id": "ten", **on},
        "longest_distance": {"distance_m": 10_000.0, "workout_id": "ten", **on},
        "longest_duration": {"duration_s": 3000.0, "workout_id": "ten", **on},
    }
    assert bests["cycling"].keys() == {"longest_distance", "longest_duration"}


def test_a_record_that_is_only_equalled_stays_with_the_earlier_workout() -> None:
    second, first = _on("2026-11-20", "2026-11-03")
    bests = read(Achievements(), PATH, [second, first])["personal_bests"]["running"]
    assert {best["workout_id"] for best in bests.values()} == {"on-2026-11-03"}


def test_nobody_without_workouts_has_achievements() -> None:
    with pytest.raises(LookupError, match="no workouts of 'bob' yet"):
        read(Achievements(), "/users/bob/achievements", [event(user_id="ada")])


@pytest.mark.parametrize("neighbour", ["adab", "ada.0", "ada-", "ada_"])
def test_a_total_is_of_the_days_of_one_person(neighbour: str) -> None:
    own = _on("2026-03-02", distance_mm=100 * KM)
    others = _on("2026-03-01", distance_mm=100 * KM, user_id=neighbour)
    assert _badges([*own, *others])["total-running-100km"] == ("2026-03-02", None)


# What it announces.


def _told(events: Iterable[Event]) -> list[str]:
    """The badges that are announced for ada's events, each folded alone as it comes."""
    consumer, documents = Achievements(), dict[str, Any]()
    told = []
    for one in events:
        before = {key: json.loads(json.dumps(documents.get(key, {}))) for key in consumer.keys(one)}
        touched = {key: json.loads(json.dumps(document)) for key, document in before.items()}
        consumer.fold(one, touched)
        documents |= touched
        for key, fact in consumer.react(one, before, touched):
            assert fact == {
                "type": "achievement.unlocked",
                "badge": key,
                "workout_id": one.data.workout_id,
                "day": one.data.local_date.isoformat(),
            }
            told.append(key)
    return told


@given(HISTORIES, st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_in_any_order_of_arrival_it_announces_the_badges_that_a_history_has_and_each_once(
    history: list[Event], random: Random
) -> None:
    random.shuffle(history)
    told = _told(history)
    assert len(told) == len(set(told))
    expected = {badge["badge"] for badge in _walk(history)["badges"]} if history else set()
    assert set(told) == expected


@pytest.mark.parametrize("length", [3, 7, 30, 100, 365])
def test_a_streak_is_announced_with_the_day_that_closes_its_last_gap(length: int) -> None:
    # Over the end of a leap year, with the day in the middle coming last.
    first = date(2024, 12, 31) - (length // 2) * DAY
    days = [str(first + n * DAY) for n in range(length)]
    middle = days.pop(length // 2)
    gone = {f"streak-{length}-days"}
    assert gone.isdisjoint(_told(_on(*days)))
    closing = _told(_on(*days, middle))
    assert gone <= set(closing)
    one_less = _told(_on(*days[1:], middle))
    assert gone.isdisjoint(one_less)


def test_a_total_is_announced_with_the_workout_that_reaches_it_whatever_its_day() -> None:
    days = [f"2025-01-{day:02}" for day in range(1, 11)]
    tens = _on(*days[::-1], distance_mm=10 * KM)
    assert "total-running-100km" not in _told(tens[:9])
    assert _told(tens)[-1] == "total-running-100km"
    short = [*tens[:9], *_on(days[0], distance_mm=10 * KM - 1)]
    assert "total-running-100km" not in _told(short)


def test_a_badge_that_was_announced_is_not_announced_for_a_better_one() -> None:
    days = _on("2025-01-05", "2025-01-04", "2025-01-03", distance_mm=21_097_500)
    told = _told(days)
    assert told.count("run-21.0975km") == told.count("first-workout") == 1
    assert told[-1] == "streak-3-days"
