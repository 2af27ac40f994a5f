"""The rate: events a second over about the last ten seconds."""

import pytest

from consumers.runtime import rate
from consumers.runtime.rate import Rate


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate, "time", clock)
    return clock


def test_a_steady_stream_comes_to_its_own_rate_however_it_is_batched(clock: Clock) -> None:
    for batch, every_s in ((500, 1.0), (50, 0.1), (1, 0.002)):
        steady = Rate()
        found = 0.0
        for _ in range(int(60 / every_s)):
            clock.now += every_s
            found = steady.after(batch)
        assert found == pytest.approx(500, rel=0.01)


def test_a_burst_is_forgotten_in_some_tens_of_seconds(clock: Clock) -> None:
    bursty = Rate()
    clock.now += 1
    assert bursty.after(10_000) > 500
    clock.now += 60
    assert bursty.after(0) < 5


def test_two_commits_at_the_same_instant_divide_by_nothing(clock: Clock) -> None:
    assert Rate().after(10) >= 0
