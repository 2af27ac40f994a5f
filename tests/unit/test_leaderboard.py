"""Leaderboards: every board reads as a plain sum over its public workouts, sorted, would."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.leaderboard import SPORTS, Leaderboard
from consumers.testing import check, folded, read
from events.envelope import Event
from events.workouts import Athlete, Sport, Visibility, WorkoutCompleted
from tests.factories import event, histories, random_history, starts, years_of

# The metric's fact, the field that shows it, and how many of the one are one of the other.
METRICS = {
    "distance": ("distance_mm", "distance_m", 1000),
    "moving-time": ("duration_ms", "moving_time_s", 1000),
    "energy": ("energy_cal", "energy_kcal", 1000),
    "count": (None, "workouts", 1),
}
WEEK_STARTS = datetime(2026, 11, 23, 12, tzinfo=UTC)
HISTORIES = histories(
    max_size=20,
    sport=st.sampled_from((Sport.RUNNING, Sport.CYCLING)),
    started_at=starts(days=14),
    duration_ms=st.sampled_from((600_000, 1_200_000)),
    distance_mm=st.sampled_from((None, 0, 1_000_000, 2_000_000)),
    energy_cal=st.integers(1, 3).map(lambda hundreds: hundreds * 100_000),
)


def _windows(fact: WorkoutCompleted) -> set[str]:
    day = fact.local_date
    return {day.strftime("%G-W%V"), day.strftime("%Y-%m"), day.strftime("%Y"), "all"}


def _expected(
    facts: Iterable[WorkoutCompleted], metric: str, window: str, sport: str
) -> list[dict[str, Any]]:
    """The whole board, from the facts alone."""
    of, shown, per = METRICS[metric]
    rows: dict[str, list[Any]] = {}
    for fact in facts:
        amount = getattr(fact, of) if of else 1
        inside = window in _windows(fact) and sport in ("all", fact.sport)
        if fact.visibility is Visibility.PUBLIC and inside and amount:
            total, reached = rows.get(fact.user_id, (0, fact.ended_at))
            rows[fact.user_id] = [total + amount, max(reached, fact.ended_at)]
    order = sorted(rows, key=lambda user: (-rows[user][0], rows[user][1], user.encode()))
    return [
        {
            "rank": 1 + sum(total > rows[user][0] for total, _ in rows.values()),
            "user_id": user,
            shown: rows[user][0] / per,
            "reached_at": rows[user][1],
        }
        for user in order
    ]


def _read(source: Any, path: str) -> dict[str, Any]:
    """The answer, with instants in place of their text."""
    answer: dict[str, Any] = read(Leaderboard(), f"/leaderboards/{path}", source)
    for item in answer["items"]:
        assert item["reached_at"].endswith("+00:00")
        item["reached_at"] = datetime.fromisoformat(item["reached_at"])
    return answer


def _users(source: Any, path: str) -> list[tuple[int, str]]:
    return [(item["rank"], item["user_id"]) for item in _read(source, path)["items"]]


def _runs(**minutes: int) -> list[Event]:
    """A run of so many minutes for each user, one after the other ended within a day."""
    return [
        event(
            user_id=user,
            started_at=WEEK_STARTS + timedelta(hours=place),
            duration_ms=length * 60_000,
            distance_mm=length * 200_000,
        )
        for place, (user, length) in enumerate(minutes.items())
    ]


@given(histories(max_size=6))
@settings(max_examples=40)
def test_it_keeps_the_contract_of_a_consumer(events: list[Event]) -> None:
    check(Leaderboard(), events)


@given(HISTORIES, st.randoms(use_true_random=False), st.integers(1, 9))
@settings(max_examples=40)
def test_every_board_is_what_a_plain_sum_gives_in_any_order_of_arrival_with_duplicates(
    events: list[Event], random: Random, batch: int
) -> None:
    arrived = events + random.sample(events, len(events) // 2)
    random.shuffle(arrived)
    documents = folded(Leaderboard(), arrived, batch=batch)
    facts = [event.data for event in events]
    for window in {window for fact in facts for window in _windows(fact)}:
        for metric in METRICS:
            for sport in ("all", "running", "cycling"):
                board = _read(documents, f"{metric}/{window}?sport={sport}")
                assert board["items"] == _expected(facts, metric, window, sport)


def _known_energy(events: list[Event]) -> list[Event]:
    return [event for event in events if event.data.energy_cal]


@pytest.mark.parametrize("metric", METRICS)
def test_pages_one_after_the_other_are_the_whole_board_with_its_ranks(metric: str) -> None:
    users = tuple(f"user-{number}" for number in range(40))
    events = _known_energy(random_history(seed=7, count=500, users=users))
    documents = folded(Leaderboard(), events, batch=100)
    items: list[dict[str, Any]] = []
    page = _read(documents, f"{metric}/all?limit=7")
    while page["next"]:
        assert len(page["items"]) == 7
        items += page["items"]
        page = _read(documents, f"{metric}/all?limit=7&cursor={page['next']}")
    assert [*items, *page["items"]] == _expected([e.data for e in events], metric, "all", "all")
    assert len(items) > 21


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
def test_around_a_person_is_the_part_of_the_board_that_has_them_in_the_middle(limit: int) -> None:
    users = tuple(f"user-{number}" for number in range(12))
    documents = folded(Leaderboard(), random_history(seed=8, count=120, users=users), batch=100)
    board = _read(documents, "count/2025?limit=200")["items"]
    assert len(board) == 12
    for place, entry in enumerate(board):
        first = max(0, place - limit // 2)
        path = f"count/2025?limit={limit}&around={entry['user_id']}"
        part = _read(documents, path)
        assert part["items"] == board[first : first + limit]
        assert bool(part["next"]) == (first + limit < 12)
        if part["next"]:
            following = _read(documents, f"{path}&cursor={part['next']}")["items"]
            assert following == board[first + limit : first + 2 * limit]


def test_equal_sums_share_a_rank_and_the_earliest_is_shown_first() -> None:
    documents = folded(Leaderboard(), _runs(last=10, late=20, best=30, early=20)[::-1])
    expected = [(1, "best"), (2, "late"), (2, "early"), (4, "last")]
    for metric in ("moving-time", "distance"):
        assert _users(documents, f"{metric}/2026-W48") == expected
    assert _users(documents, "moving-time/all?around=early&limit=1") == [(2, "early")]
    assert _users(documents, "moving-time/all?around=last&limit=2") == [(2, "early"), (4, "last")]


def test_a_sum_that_was_reached_at_one_instant_is_shown_by_user() -> None:
    events = [event(user_id=user) for user in ("bob", "ada", "B.o", "ada-2")]
    assert _users(events, "count/all") == [(1, "B.o"), (1, "ada"), (1, "ada-2"), (1, "bob")]


def test_a_sum_is_reached_at_the_end_of_the_last_workout_that_counted_for_it() -> None:
    end = datetime(2026, 11, 24, 7, tzinfo=UTC)
    yoga = event(
        workout_id="w-2",
        sport=Sport.YOGA,
        distance_mm=None,
        started_at=WEEK_STARTS + timedelta(days=3),
    )
    events = [yoga, event(elapsed_ms=1_800_000)]
    assert _read(events, "distance/all")["items"][0]["reached_at"] == end
    assert _read(events, "count/all")["items"][0]["reached_at"] == yoga.data.ended_at


@pytest.mark.parametrize("distance_mm", [None, 0])
def test_who_has_no_distance_is_on_the_other_boards_only(distance_mm: int | None) -> None:
    events = [event(distance_mm=distance_mm), event(user_id="bob")]
    assert _users(events, "distance/all") == [(1, "bob")]
    assert {user for _, user in _users(events, "moving-time/all")} == {"ada", "bob"}
    with pytest.raises(LookupError, match="'ada' is not on the board distance of all/all"):
        _read(events, "distance/all?around=ada")


def test_a_private_workout_is_on_no_board() -> None:
    private = event(visibility=Visibility.PRIVATE, workout_id="w-2")
    assert folded(Leaderboard(), [private]) == {}
    assert _read([event(), private], "count/all")["items"][0]["workouts"] == 1


def test_energy_is_the_device_s_figure_or_else_the_best_formula_s() -> None:
    athlete = Athlete(weight_g=70_000)
    formula: dict[str, Any] = {
        "distance_mm": 4_800_000,
        "duration_ms": 1_800_000,
        "athlete": athlete,
    }
    events = [event(user_id="bob", energy_cal=400_000, athlete=athlete), event(**formula)]
    items = _read(events, "energy/all")["items"]
    # ACSM: 160 m/min for 30 min at 70 kg.
    assert [item["energy_kcal"] for item in items] == [400.0, 372.75]


@pytest.mark.parametrize(
    ("start", "windows"),
    [
        ("2026-12-31T08:00+00:00", {"2026-W53", "2026-12", "2026"}),
        ("2027-01-01T08:00+00:00", {"2026-W53", "2027-01", "2027"}),
        ("2027-01-04T08:00+00:00", {"2027-W01", "2027-01", "2027"}),
        ("2024-12-30T08:00+00:00", {"2025-W01", "2024-12", "2024"}),
        ("2028-02-29T08:00+00:00", {"2028-W09", "2028-02", "2028"}),
        # The same instant, at the two edges of the world.
        ("2026-11-01T00:30+14:00", {"2026-W44", "2026-11", "2026"}),
        ("2026-10-30T22:30-12:00", {"2026-W44", "2026-10", "2026"}),
        # Over midnight, over New Year.
        ("2026-12-31T23:59+01:00", {"2026-W53", "2026-12", "2026"}),
        ("0800-02-01T08:00+00:00", {"0800-W05", "0800-02", "0800"}),
    ],
)
def test_a_workout_counts_in_the_week_month_and_year_of_its_local_start(
    start: str, windows: set[str]
) -> None:
    documents = folded(Leaderboard(), [event(started_at=datetime.fromisoformat(start))])
    boards = {document["board"] for document in documents.values()}
    assert boards == {f"{w}/{sport}" for w in {*windows, "all"} for sport in ("running", "all")}
    for window in windows:
        assert _users(documents, f"count/{window}?sport=running") == [(1, "ada")]


def test_every_sport_has_its_boards() -> None:
    assert set(SPORTS) == {"all", *Sport}


def test_a_board_that_nobody_is_on_is_empty() -> None:
    assert _read([event()], "distance/2026-W01?sport=golf") == {
        "metric": "distance",
        "window": "2026-W01",
        "sport": "golf",
        "items": [],
        "next": None,
    }


@pytest.mark.parametrize(
    "window",
    [
        *("2026-W54", "2025-W53", "2026-W00", "2026-W7", "2026-13", "2026-00", "2026-1", "0000"),
        *(
            "26",
            "20261",
            "2026-11-01",
            "2026-W47-1",
            "ALL",
            "٢٠٢٦",
            "2026-W47%0A",
            "2026%0A",
            "%00",
        ),
        "x" * 999,
    ],
)
def test_a_window_that_the_calendar_does_not_have_is_refused(window: str) -> None:
    with pytest.raises(ValueError, match=r"window is .*2026-W47.*2026-11.*2026, or all") as refused:
        _read([event()], f"distance/{window}")
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("speed/all", "metric is 'speed'; it must be one of distance, moving-time, energy, count"),
        ("count/all?sport=runing", "sport is 'runing'; it must be one of all, running, cycling,"),
        ("count/all?sport=", "sport is ''; it must be one of all, running"),
        ("count/all?limit=0", "limit is '0'; it must be a whole number from 1 to 200"),
        ("count/all?limit=201", "limit is '201'; it must be"),
        ("count/all?limit=-1", "limit is '-1'; it must be"),
        ("count/all?limit=1.0", "limit is '1.0'; it must be"),
        ("count/all?limit=", "limit is ''; it must be"),
        ("count/all?limit=٣", "limit is '٣'; it must be"),
        ("count/all?cursor=nonsense", "cursor"),
        ("count/all?cursor=", "cursor"),
    ],
)
def test_a_parameter_that_is_not_allowed_is_refused_with_what_is(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        _read([event()], path)


def test_a_cursor_is_of_its_board() -> None:
    cursor = _read(_runs(ada=10, bob=20), "count/all?limit=1")["next"]
    with pytest.raises(ValueError, match="cursor"):
        _read(_runs(ada=10, bob=20), f"distance/all?cursor={cursor}")


@pytest.mark.parametrize("around", ["nobody", "../ada", "", "x" * 9999])
def test_around_a_person_who_is_not_on_the_board_finds_nothing(around: str) -> None:
    with pytest.raises(LookupError, match="is not on the board count of all/all") as missing:
        _read([event()], f"count/all?around={around}")
    assert len(str(missing.value)) < 150


def test_ten_years_leave_eight_small_documents_to_fold_the_last_workout_into() -> None:
    events = list(years_of())
    public = [event for event in events if event.data.visibility is Visibility.PUBLIC]
    documents = folded(Leaderboard(), events, batch=500)
    assert {len(Leaderboard().keys(event)) for event in public} == {8}
    assert max(len(json.dumps(document)) for document in documents.values()) < 400


def test_an_entry_at_an_odd_offset_is_reached_at_the_instant_and_not_at_the_wall_clock() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    start = datetime(2026, 11, 24, 7, tzinfo=kathmandu)
    item = _read([event(started_at=start, duration_ms=1_500)], "count/all")["items"][0]
    assert item["reached_at"] == datetime(2026, 11, 24, 1, 15, 1, 500_000, tzinfo=UTC)
