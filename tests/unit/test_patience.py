"""How long a process waits for what comes by itself."""

import signal
from queue import Empty, SimpleQueue
from threading import Thread

import pytest
from structlog.testing import capture_logs

from events.errors import Outage
from events.patience import Patience


class Waits(SimpleQueue[None]):
    """Notes how long was to be waited, and does not."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def get(self, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        self.asked.append(timeout or 0.0)
        raise Empty


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    monkeypatch.setattr("events.patience.SimpleQueue", lambda: made)
    return made


def test_waits_grow_from_the_least_to_the_most_and_stay_there(waits: Waits) -> None:
    patience = Patience(least_s=0.01, most_s=0.5)
    for _ in range(40):
        patience.wait()
    assert waits.asked[0] == 0.01
    assert waits.asked == sorted(waits.asked)
    assert waits.asked[-5:] == [0.5] * 5
    assert len(set(waits.asked)) > 5


def test_when_something_happens_the_next_wait_is_the_shortest_again(waits: Waits) -> None:
    patience = Patience(least_s=0.01, most_s=0.5)
    for _ in range(9):
        patience.wait()
    patience.reset()
    patience.wait()
    assert waits.asked[-1] == 0.01
    assert waits.asked[-2] > 0.01


def test_a_stop_ends_the_present_wait_and_all_later_ones() -> None:
    patience = Patience(least_s=3_600, most_s=3_600)
    waiting = Thread(target=patience.wait)
    waiting.start()
    before = patience.stopped
    patience.stop()
    waiting.join(30)
    assert not waiting.is_alive()
    assert (before, patience.stopped) == (False, True)
    patience.wait()


def test_what_is_not_there_yet_is_waited_for_until_it_is_made() -> None:
    tries = iter([Outage("not yet"), Outage("not yet"), None])

    def make() -> str:
        if outage := next(tries):
            raise outage
        return "made"

    assert Patience(least_s=0.001).until_made(make) == "made"


def test_each_new_reason_for_a_wait_is_told_once() -> None:
    reasons = iter(["no server", "no server", "no primary", "no primary", "no server"])

    def make() -> str:
        if reason := next(reasons, None):
            raise Outage(reason)
        return "made"

    with capture_logs() as journal:
        assert Patience(least_s=0.0001, most_s=0.0001).until_made(make) == "made"
    assert [(one["action"], one["reason"]) for one in journal] == [
        ("waiting", "no server"),
        ("waiting", "no primary"),
        ("waiting", "no server"),
    ]


def test_a_stop_ends_the_wait_for_what_is_never_made() -> None:
    patience = Patience(least_s=0.001)

    def make() -> str:
        patience.stop()
        raise Outage("never")

    assert patience.until_made(make) is None


def test_an_error_that_waiting_does_not_mend_is_not_waited_for() -> None:
    def make() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Patience().until_made(make)


def test_a_signal_in_the_middle_of_a_wait_ends_it() -> None:
    patience = Patience(least_s=30, most_s=30)
    signal.signal(signal.SIGALRM, lambda number, frame: patience.stop())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    patience.wait()
    assert patience.stopped
