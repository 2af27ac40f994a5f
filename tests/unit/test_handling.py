"""Calling handlers: several at once, within a deadline, and what their exceptions decide."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.runtime.fates import Fate, Ladder, State
from consumers.runtime.folding import Folded
from consumers.runtime.handling import Handling, Quiet
from consumers.runtime.shape import problems
from events.envelope import Event, from_bytes, seal
from events.workouts import Origin
from tests.factories import workout
from tests.integration.doubles import Clock, StillGuard
from tests.integration.world import until

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Expired(BaseException):
    """The process would have ended here."""


class Watched(StillGuard):
    """Says that a call was late."""

    def expire(self, seconds: float) -> None:
        raise Expired(seconds)

    def leave(self) -> None:
        raise  # what is being handled


class Does:
    """A handler that does what a test wants."""

    name, bindings, version = "does", ("workout.completed.#",), 1

    def __init__(self, act: Callable[[Event], object]) -> None:
        self.handle = act


def events(count: int, **changes: Any) -> list[Event]:
    made = (workout(workout_id=f"w-{number}", **changes) for number in range(count))
    return [from_bytes(seal(one, accepted_at=NOON).body) for one in made]


def handled(
    handler: Any, given: list[Event], *, concurrency: int = 1, deadline_s: float = 30
) -> Folded:
    handling = Handling(handler, concurrency=concurrency, deadline_s=deadline_s)
    return handling(given, lambda keys: {}, guard=Watched(), deadline_s=0)


def test_calls_overlap_and_never_more_than_it_says() -> None:
    lock, inside, most = threading.Lock(), 0, 0
    together = threading.Barrier(4, timeout=20)

    def act(event: Event) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait()  # passes only where four are here at once
        with lock:
            inside -= 1

    assert handled(Does(act), events(12), concurrency=4) == Folded([], {}, [])
    assert most == 4


def test_each_failure_is_its_own_events() -> None:
    def act(event: Event) -> None:
        if event.data.workout_id in ("w-1", "w-3"):
            raise ValueError(event.data.workout_id)

    failures = handled(Does(act), events(5), concurrency=2).failures
    assert {place: str(error) for place, error in failures.items()} == {1: "w-1", 3: "w-3"}


def test_a_call_that_is_late_ends_the_process_while_the_others_go_on() -> None:
    release = threading.Event()

    def act(event: Event) -> None:
        if event.data.workout_id == "w-0":
            release.wait(20)

    with pytest.raises(Expired):
        handled(Does(act), events(3), concurrency=2, deadline_s=0.1)
    release.set()


def test_history_notifies_nobody_unless_it_is_asked_for() -> None:
    called: list[str] = []
    handler = Does(lambda event: called.append(event.id))
    past = events(2, origin=Origin.HISTORY)
    failures = handled(handler, past).failures
    assert called == []
    assert all(isinstance(error, Quiet) for error in failures.values())
    handler.history = True  # type: ignore[attr-defined]
    assert handled(handler, past).failures == {}
    assert called == [event.id for event in past]


def test_no_memory_is_nobodys_failure() -> None:
    def act(event: Event) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        handled(Does(act), events(1))


class Raised(Exception):
    """What a handler raises, with what it says of the next attempt."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("the words of the handler")
        self.__dict__.update(attributes)


def after(error: Exception, before: Fate | None = None) -> Fate:
    return Ladder((1, 10), jitter=0).after_failure(before, error, now_ms=1_000_000, version=1)


def test_an_ordinary_exception_climbs_the_ladder_and_falls_off_its_end() -> None:
    first = after(Raised())
    assert (first.state, first.attempts, first.due_ms) == (State.RETRYING, 1, 1_001_000)
    third = after(Raised(), after(Raised(), first))
    assert (third.state, third.attempts) == (State.DEAD, 3)


@pytest.mark.parametrize(
    ("asked_s", "wait_s"), [(0.5, 1), (30, 30), (1e9, 86_400), ("soon", 1), (None, 1)]
)
def test_who_asks_to_be_left_alone_is_left_alone_for_a_day_at_most(
    asked_s: object, wait_s: float
) -> None:
    assert after(Raised(retry_after_s=asked_s)).due_ms == 1_000_000 + wait_s * 1000


def test_a_permanent_one_is_dead_at_once() -> None:
    assert after(Raised(permanent=True)).state is State.DEAD


def test_a_pause_costs_no_attempt() -> None:
    tried = after(Raised())
    paused = after(Raised(pause=True), tried)
    assert (paused.state, paused.attempts) == (State.RETRYING, 1)
    assert "the words of the handler" in paused.reason


def test_once_one_has_said_pause_no_further_call_is_begun_and_none_costs_an_attempt() -> None:
    called: list[str] = []
    error = Raised(pause=True)

    def act(event: Event) -> None:
        called.append(event.data.workout_id)
        if event.data.workout_id == "w-1":
            raise error

    failures = handled(Does(act), events(5)).failures
    assert called == ["w-0", "w-1"]
    assert failures == dict.fromkeys(range(1, 5), error)
    assert {after(one).attempts for one in failures.values()} == {0}  # type: ignore[arg-type]


def test_a_pause_that_discards_its_own_event_discards_no_other() -> None:
    def act(event: Event) -> None:
        if event.data.workout_id == "w-0":
            raise Raised(pause=True, discard=True)

    assert list(handled(Does(act), events(3)).failures) == [0]


def test_what_is_quiet_is_discarded_and_says_why() -> None:
    fate = after(Quiet(Quiet.__doc__))
    assert (fate.state, fate.reason) == (
        State.DISCARDED,
        "It is of history, which notifies nobody.",
    )


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"keys": list}, "keys"),
        ({"react": list}, "react"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": "5"}, "deadline_s"),
        ({"ladder_s": ()}, "ladder_s"),
        ({"ladder_s": (1, 0)}, "ladder_s"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-01T00:00:00"}, "since"),
    ],
    ids=str,
)
def test_a_wrong_handler_is_told_what_to_write(attributes: dict[str, Any], word: str) -> None:
    body = {"name": "does", "bindings": ("a.#",), "version": 1, "handle": lambda self, event: None}
    told = list(problems("does", type("Made", (), body | attributes)()))
    assert len(told) == 1
    assert word in told[0]


def test_a_right_handler_needs_neither_keys_nor_fold() -> None:
    assert list(problems("does", Does(lambda event: time.sleep(0)))) == []


# Oddities.


class Empty(Exception):
    """An exception of which nothing is true."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("error", [Empty(), SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_is_raised_is_a_failure(error: BaseException) -> None:
    def act(event: Event) -> None:
        raise error

    assert handled(Does(act), events(1)).failures == {0: error}


@pytest.mark.parametrize(
    ("asked_s", "wait_s"),
    [(10**400, 86_400), (float("inf"), 86_400), (float("nan"), 1), (-5, 1), (-(10**400), 1)],
    ids=str,
)
def test_no_number_that_a_handler_can_think_of_breaks_the_ladder(
    asked_s: float, wait_s: float
) -> None:
    assert after(Raised(retry_after_s=asked_s)).due_ms == 1_000_000 + wait_s * 1000


def test_of_permanent_pause_and_discard_what_costs_least_is_taken() -> None:
    assert after(Raised(permanent=True, pause=True)).state is State.RETRYING
    assert after(Raised(pause=True, discard=True)).state is State.DISCARDED


def test_a_pause_after_a_while_forgets_neither_attempts_nor_when_it_began() -> None:
    before = Fate(
        state=State.RETRYING, attempts=2, strikes=1, due_ms=5, first_ms=1, last_ms=4, version=1
    )
    paused = after(Raised(pause=True), before)
    assert (paused.attempts, paused.strikes, paused.first_ms) == (2, 1, 1)
    assert (paused.due_ms, paused.last_ms) == (1_000_000, 1_000_000)


class LookedAt(Clock):
    """Counts how often the thread that watches has asked."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += threading.current_thread() is threading.main_thread()
        return super().monotonic()


def test_how_long_a_call_takes_counts_from_its_own_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each call takes 6 s of a deadline of 10 s, all of them together 18 s; each is looked at.
    clock = LookedAt()
    monkeypatch.setattr("consumers.runtime.handling.time", clock)

    def act(event: Event) -> None:
        clock.now += 6
        before = clock.looks
        until(lambda: clock.looks >= before + 3, what="it is looked at the deadline")

    assert handled(Does(act), events(3), deadline_s=10).failures == {}
    assert clock.now == 1_018


def test_what_of_a_batch_is_history_is_discarded_and_the_rest_is_called() -> None:
    called: list[str] = []
    mixed = [*events(1), *events(1, origin=Origin.HISTORY, user_id="bob"), *events(1, user_id="c")]
    made = handled(Does(lambda event: called.append(event.user_id)), mixed)
    assert list(made.failures) == [1]
    assert sorted(called) == ["ada", "c"]


def test_nothing_to_do_calls_nobody() -> None:
    assert handled(Does(lambda event: 1 / 0), []) == Folded([], {}, [])


def test_what_was_done_and_could_not_be_committed_is_not_done_again_when_it_comes_again() -> None:
    # As with a full disk: each turn brings the same batch again, until there is room for its fates.
    called: list[str] = []
    fails = {"w-1"}

    def act(event: Event) -> None:
        called.append(event.data.workout_id)
        if event.data.workout_id in fails:
            raise ValueError("no")

    handling = Handling(Does(act), concurrency=1, deadline_s=30)

    def take(given: list[Event]) -> list[int]:
        return list(handling(given, lambda keys: {}, guard=Watched(), deadline_s=0).failures)

    assert [take(events(3)) for _ in range(3)] == [[1]] * 3
    assert (called.count("w-0"), called.count("w-1"), called.count("w-2")) == (1, 3, 1)
    fails.clear()
    assert take(events(3)[1:2]) == []  # a failure is not remembered, so it is tried again
    assert called.count("w-1") == 4
