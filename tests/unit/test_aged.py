"""A log as it was some seconds ago: by this process's own clock, and never as it was not."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import Outage
from events.log import Conflict, Logged, Position, Selection
from events.log import aged as module
from events.log.aged import Aged

ROW = Logged(Position("a", 7), "id", "workout.completed.running", b"{}", 7)
MINE = Selection(user_id="ada")


class Log:
    """Settles one row more each time that it is told to, and counts who looks."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.looks = 0
        self.away = False

    def settled(self) -> dict[str, int]:
        self.looks += 1
        if self.away:
            raise Outage("away")
        return dict(self.at)

    def get(self, event_id: str) -> Logged | None:
        return ROW if event_id == "id" else None

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        return [ROW][:limit] if selection == MINE else []

    def count(self, selection: Selection) -> int:
        return 3 if selection == MINE else 0

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        return [ROW][:limit]

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        return [Conflict(event_id or "all", "door", b"{}")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module's clock, which stands still by itself."""
    made = SimpleNamespace(now=500.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_what_is_younger_than_the_age_is_not_settled_and_older_is(clock: Any) -> None:
    log = Log()
    aged = Aged(log, age_s=5.0)
    log.at = {"a": 3}
    assert aged.settled() == {}
    clock.now += 4.9
    assert aged.settled() == {}
    clock.now += 0.1
    assert aged.settled() == {"a": 3}


def test_what_stands_there_at_the_start_can_be_old_enough_at_once_and_only_that(
    clock: Any,
) -> None:
    log = Log()
    log.at = {"a": 3}
    aged = Aged(log, age_s=5.0, first_at_once=True)
    assert aged.settled() == {"a": 3}
    log.at = {"a": 4}
    clock.now += 4.9
    assert aged.settled() == {"a": 3}
    clock.now += 5.1
    assert aged.settled() == {"a": 4}


def test_a_log_that_is_away_at_the_start_is_old_enough_at_once_when_it_is_there(
    clock: Any,
) -> None:
    log = Log()
    log.at, log.away = {"a": 3}, True
    aged = Aged(log, age_s=5.0, first_at_once=True)
    with pytest.raises(Outage):
        aged.settled()
    log.away = False
    assert aged.settled() == {"a": 3}


def test_an_outage_in_between_leaves_what_was_seen_before(clock: Any) -> None:
    log = Log()
    log.at = {"a": 3}
    aged = Aged(log, age_s=5.0)
    aged.settled()
    clock.now, log.away, log.at = clock.now + 5.0, True, {"a": 9}
    with pytest.raises(Outage):
        aged.settled()
    log.away = False
    assert aged.settled() == {"a": 3}


def test_who_asks_seldom_waits_no_longer_than_who_asks_often(clock: Any) -> None:
    log = Log()
    log.at = {"a": 3}
    aged = Aged(log, age_s=5.0)
    aged.settled()
    log.at = {"a": 4}
    clock.now += 3_600
    assert aged.settled() == {"a": 3}
    clock.now += 5
    assert aged.settled() == {"a": 4}


def test_however_often_it_is_asked_it_looks_about_once_a_second(clock: Any) -> None:
    log = Log()
    aged = Aged(log, age_s=5.0)
    for _ in range(1_000):
        aged.settled()
        clock.now += 0.01
    assert 9 <= log.looks <= 11


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 8), st.sampled_from("ab"), st.integers(0, 3)), max_size=40
    ),
    at_once=st.booleans(),
)
def test_what_is_settled_was_so_at_one_moment_at_least_the_age_ago_and_not_long_before(
    steps: list[tuple[float, str, int]],
    at_once: bool,  # noqa: FBT001
) -> None:
    clock = SimpleNamespace(now=500.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
        log = Log()
        aged = Aged(log, age_s=5.0, first_at_once=at_once)
        was: list[tuple[float, dict[str, int]]] = []
        for passed_s, relay, more in steps:
            clock.now += passed_s
            log.at[relay] = log.at.get(relay, 0) + more
            was.append((clock.now, dict(log.at)))
            found = aged.settled()
            old = [at for then, at in was if clock.now - then >= 5.0]
            allowed = [{}, *old] if not at_once else [was[0][1], *old]
            assert found in allowed
            # A look is at most a second old when it is asked, so who asked later saw all of this.
            seen_by_then = [
                at for then, at in was for later, _ in was if then + 1.0 <= later <= clock.now - 5.0
            ]
            for at in seen_by_then:
                assert all(found.get(relay, 0) >= number for relay, number in at.items())


def test_all_else_is_the_log_as_it_is(clock: Any) -> None:
    aged = Aged(Log(), age_s=5.0)
    assert (aged.get("id"), aged.get("other")) == (ROW, None)
    assert (aged.scan(MINE, limit=1), aged.scan(MINE, limit=0)) == ([ROW], [])
    assert (aged.count(MINE), aged.count(Selection())) == (3, 0)
    assert (aged.unsettled(limit=1), aged.unsettled(limit=0)) == ([ROW], [])
    assert aged.conflicts("x") == [Conflict("x", "door", b"{}")]
    assert aged.conflicts() == [Conflict("all", "door", b"{}")]
