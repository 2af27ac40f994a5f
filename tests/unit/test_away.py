"""Away: the queue of a consumer that stands still is let go before it fills the broker."""

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.runtime import away as module
from consumers.runtime.away import Away, Queued
from events.errors import Outage


class Queue:
    """A queue of some length, or none; it notes who looks and who deletes."""

    size = 10

    def __init__(self, length: int | None) -> None:
        self.is_long = length
        self.looks = self.deleted = 0
        self.away = False

    def length(self) -> int | None:
        self.looks += 1
        if self.away:
            raise Outage("no broker")
        return self.is_long

    def delete(self) -> bool:
        self.deleted += 1
        there, self.is_long = self.is_long is not None, None
        return there


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def away(queue: Queue | None, *, bound: int = 1_000) -> Away:
    parts: Any = SimpleNamespace(
        queue=queue, detach_at=bound, loaded=SimpleNamespace(name="calories")
    )
    return Away(parts)


def test_a_queue_that_has_grown_past_its_bound_is_deleted_and_that_is_told(
    clock: SimpleNamespace,
) -> None:
    queue = Queue(1_001)
    watch = away(queue)
    assert watch.check(away=True) is Queued.GOES
    assert queue.deleted == 0  # first its subscription must be gone, which would make it again
    with capture_logs() as journal:
        watch.detach()
    assert queue.deleted == 1
    assert [(one["action"], one["consumer"]) for one in journal] == [("detached", "calories")]


@pytest.mark.parametrize("length", [0, 1_000, None])
def test_a_queue_within_its_bound_and_one_that_is_not_there_are_left_alone(
    clock: SimpleNamespace, length: int | None
) -> None:
    queue = Queue(length)
    watch = away(queue)
    assert watch.check(away=True) is Queued.STAYS
    assert queue.deleted == 0
    assert watch.check(away=False) is Queued.STAYS


def test_who_works_is_not_looked_at_however_long_its_queue_is(clock: SimpleNamespace) -> None:
    queue = Queue(10**9)
    watch = away(queue)
    for _ in range(100):
        assert watch.check(away=False) is Queued.STAYS
        clock.now += 60
    assert (queue.looks, queue.deleted) == (0, 0)


def test_who_is_back_is_told_once_that_the_queue_must_be_made_again(
    clock: SimpleNamespace,
) -> None:
    queue = Queue(1_001)
    watch = away(queue)
    watch.check(away=True)
    watch.detach()
    # Until it was made again, which may fail the first time.
    assert [watch.check(away=False) for _ in range(2)] == [Queued.COMES_BACK] * 2
    watch.detached = False
    assert watch.check(away=False) is Queued.STAYS


def test_who_stands_still_again_is_looked_at_again(clock: SimpleNamespace) -> None:
    queue = Queue(1_001)
    watch = away(queue)
    watch.check(away=True)
    watch.detach()
    clock.now += 60
    assert watch.check(away=True) is Queued.STAYS  # it is gone already
    watch.detached = False
    queue.is_long = 2_000
    clock.now += 60
    assert watch.check(away=True) is Queued.GOES


def test_a_length_is_asked_for_every_half_minute_and_no_oftener(clock: SimpleNamespace) -> None:
    queue = Queue(5)
    watch = away(queue)
    for _ in range(600):
        watch.check(away=True)
        clock.now += 0.5
    assert 9 <= queue.looks <= 11


def test_a_broker_that_is_away_is_an_outage_and_is_not_asked_at_every_turn(
    clock: SimpleNamespace,
) -> None:
    queue = Queue(1_001)
    queue.away = True
    watch = away(queue)
    with pytest.raises(Outage):
        watch.check(away=True)
    watch.check(away=True)
    assert queue.looks == 1
    clock.now, queue.away = clock.now + 60, False
    assert watch.check(away=True) is Queued.GOES


def test_where_the_log_is_the_bus_there_is_nothing_to_let_go(clock: SimpleNamespace) -> None:
    watch = away(None)
    assert watch.check(away=True) is Queued.STAYS
    assert watch.check(away=False) is Queued.STAYS
