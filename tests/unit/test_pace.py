"""A pace: so many events a second, whatever the steps take; never more, and in the end not less."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime import pace
from consumers.runtime.pace import Pace


class Moving:
    """Stands in for the module `time`; sleeping moves it."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Iterator[Moving]:
    with pytest.MonkeyPatch.context() as patch:
        moving = Moving()
        patch.setattr(pace, "time", moving)
        yield moving


@given(
    st.floats(0.1, 5_000),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
    st.integers(1, 500),
)
def test_no_more_come_than_the_rate_allows_and_one_second_more(
    rate: float, steps_s: list[float], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Moving()
        patch.setattr(pace, "time", clock)
        kept, came = Pace(rate), 0
        for step_s in steps_s:
            clock.now += step_s
            room = kept.room(most)
            assert 0 <= room <= most
            kept.spend(room)
            came += room
            assert came <= 1 + rate * (clock.now - 50.0) + 1e-6


@pytest.mark.parametrize("rate", [0.5, 1, 7, 480])
def test_who_takes_what_there_is_room_for_comes_to_the_rate(clock: Moving, rate: float) -> None:
    kept, came = Pace(rate), 0
    while clock.now < 50.0 + 100:
        room = kept.room(500)
        kept.spend(room)
        came += room
        kept.rest()
    assert came == pytest.approx(1 + 100 * rate, abs=2 + rate / 50)


def test_after_a_long_stop_no_more_than_a_seconds_worth_comes_at_once(clock: Moving) -> None:
    kept = Pace(20)
    clock.now += 3_600
    assert kept.room(500) == 20


def test_without_a_rate_there_is_always_room(clock: Moving) -> None:
    kept = Pace(None)
    kept.spend(10_000)
    assert kept.room(500) == 500
