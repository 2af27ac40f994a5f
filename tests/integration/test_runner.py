"""The runner: what a worker does from its start to its end, and what the next one finds."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.control import RequestState
from consumers.runtime.fates import Fate, Ladder, State
from consumers.runtime.store import Change, Commit
from events import upcasters
from events.envelope import Event, seal
from events.errors import Outage
from tests.integration.doubles import Killed, StillGuard
from tests.integration.world import ACCEPTED_AT, Tally, World, facts, tallied, without


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def _kill(commit: Commit) -> None:
    raise Killed


def die(world: World) -> None:
    """Run, and end at the next commit as if killed."""
    world.store.before = _kill
    with pytest.raises(Killed):
        world.run()
    world.store.before = lambda commit: None


# What comes in, live.


def test_what_is_logged_is_applied_once_and_the_next_start_goes_on_from_there(world: World) -> None:
    world.post(facts(25))
    world.run()
    assert world.documents() == tallied(facts(25))
    world.post(facts(5, first=25))
    world.run()
    assert world.documents() == tallied(facts(30))
    assert world.consumer.folded == [f"w-{number}" for number in range(30)]
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_what_the_bindings_do_not_want_is_passed_over(world: World) -> None:
    world.consumer.bindings = ("workout.completed.cycling",)
    world.post(facts(25))
    world.run()
    assert world.consumer.folded == []
    assert world.counts() == {}
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_a_failing_event_is_tried_again_until_it_is_dead_and_delays_nobody(world: World) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-3":
            raise LookupError("no such shoe")

    world.consumer = Tally(fail)
    world.post(facts(25))
    world.run(lambda: world.counts().get(State.DEAD))
    assert world.documents() == tallied(without(facts(25), "w-3"))
    assert world.counts() == {State.APPLIED: 24, State.DEAD: 1}
    assert world.fates()["w-3"].attempts == 3


def test_a_retry_that_is_not_due_yet_waits(world: World) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        raise LookupError("no such shoe")

    world.consumer, world.ladder = Tally(fail), Ladder((3_600,))
    world.post(facts(1))
    world.run()
    world.run()
    assert world.consumer.folded == ["w-0"] * 2  # in the batch, and in it again for the culprit
    assert world.fates()["w-0"].attempts == 1


def test_an_outage_of_the_store_pauses_and_costs_nothing(world: World) -> None:
    failures = iter(range(5))

    def fail(commit: Commit) -> None:
        if next(failures, None) is not None:
            raise Outage("the disk is full")

    world.post(facts(25))
    world.store.before = fail
    world.run(lambda: world.counts().get(State.APPLIED) == 25)
    assert world.documents() == tallied(facts(25))
    assert world.counts() == {State.APPLIED: 25}


def test_an_outage_of_the_log_pauses_and_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(range(5))
    settled = world.log.settled

    def fail() -> dict[str, int]:
        if next(failures, None) is not None:
            raise Outage("the disk is gone")
        return settled()

    world.post(facts(25))
    monkeypatch.setattr(world.log, "settled", fail)
    world.run(lambda: world.counts().get(State.APPLIED) == 25)
    assert world.documents() == tallied(facts(25))


def test_an_event_that_needs_newer_code_is_taken_by_it_at_its_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = seal(facts(1)[0], accepted_at=ACCEPTED_AT)
    body = json.dumps(json.loads(newer.body) | {"dataversion": 2}).encode()
    newer = type(newer)(newer.id, newer.digest, body)
    world.log.append([newer], source="door")
    world.post(facts(4, first=1))
    for _ in range(3):  # code that does not know it does not take it, however often it starts
        world.run()
        assert world.counts() == {State.APPLIED: 4, State.RETRYING: 1}
        fate = world.fates()["w-0"]
        assert (fate.needs, fate.attempts, fate.strikes) == (2, 0, 0)
    monkeypatch.setitem(upcasters.CURRENT, "workout.completed", 2)
    monkeypatch.setitem(upcasters.STEPS, ("workout.completed", 1), lambda data: data)
    world.run(lambda: world.counts() == {State.APPLIED: 5})
    assert world.documents() == tallied(facts(5))


# Ends, clean and other.


def test_after_a_clean_end_nobody_is_suspected(world: World) -> None:
    world.run()
    world.post(facts(8))
    sizes: list[int] = []
    world.store.after = lambda commit: sizes.append(len(commit.applied))
    world.run()
    assert sizes == [8]


def test_after_an_end_that_was_not_clean_the_next_batch_goes_one_by_one(world: World) -> None:
    world.post(facts(25))
    die(world)
    struck: list[str] = []

    def note(event: Event, documents: dict[str, Any]) -> None:
        struck.extend(name for name, fate in world.fates().items() if fate.strikes)

    world.consumer = Tally(note)
    world.run()
    assert struck == [f"w-{number}" for number in range(10)]  # the size of a batch
    assert world.documents() == tallied(facts(25))
    assert world.counts() == {State.APPLIED: 25}


@given(seed=st.integers(0, 2**32))
def _killed_anywhere(world: World, seed: int) -> None:
    world.fresh()
    random = Random(seed)
    kills = random.randint(1, 6)
    for _ in range(kills):
        left = random.randint(0, 8)

        def kill(commit: Commit) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        setattr(world.store, random.choice(["before", "after"]), kill)
        with suppress(Killed):
            world.run()
        world.store.before = world.store.after = lambda commit: None
    world.run(lambda: not world.counts().get(State.RETRYING))
    # Whoever is killed, and then twice at the very same event, is right to suspect that event.
    dead = [name for name, fate in world.fates().items() if fate.state is State.DEAD]
    assert all(world.fates()[name].strikes == 3 for name in dead)
    assert not dead or 1 + 2 * len(dead) <= kills
    assert world.documents() == tallied(without(facts(25), *dead))
    assert len(world.fates()) == 25


def test_every_event_counts_once_wherever_the_process_is_killed(tmp_path: Path) -> None:
    world = World(tmp_path, Tally(), batch=4, vfs="memdb")
    world.post(facts(25))
    _killed_anywhere(world)
    world.close()


def test_a_process_that_has_grown_ends_cleanly_and_strikes_nobody(world: World) -> None:
    class Grown(StillGuard):
        """Has grown too large after so many folds."""

        def swollen(self) -> bool:
            return len(world.consumer.folded) % 7 == 6

    world.guard = Grown()
    world.post(facts(25))
    die(world)
    starts = 0
    while world.store.watermarks(world.live.number) != world.log.settled():
        world.run()
        world.consumer.folded.append("a new process")
        starts += 1
        assert not any(fate.strikes for fate in world.fates().values())
    assert starts > 1
    assert world.documents() == tallied(facts(25))


def test_what_was_suspect_stays_suspect_when_the_process_ends_in_between(world: World) -> None:
    class Grown(StillGuard):
        """Has grown too large after the second fold."""

        def swollen(self) -> bool:
            return len(world.consumer.folded) >= 2

    world.post(facts(10))
    die(world)
    world.consumer, world.guard = Tally(), Grown()
    world.run()
    assert world.consumer.folded == ["w-0", "w-1"]
    sizes: list[int] = []
    world.consumer, world.guard = Tally(), StillGuard()
    world.store.after = lambda commit: sizes.append(len(commit.applied))
    world.run()
    assert world.consumer.folded == [f"w-{number}" for number in range(2, 10)]
    assert max(sizes) == 0  # each alone, with its strike before it
    assert world.documents() == tallied(facts(10))


def test_a_process_that_has_grown_leaves_the_rest_of_what_is_due_to_the_next_one(
    world: World,
) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        raise LookupError("no such shoe")

    class Grown(StillGuard):
        """Has grown too large after the second fold."""

        def swollen(self) -> bool:
            return len(world.consumer.folded) >= 2

    world.post(facts(8))
    world.consumer = Tally(fail)
    world.worker().apply(world.deliveries(), through=world.log.settled())
    for count in (2, 4, 6, 8):
        world.consumer, world.guard = Tally(), Grown()
        world.run()
        assert world.counts()[State.APPLIED] == count
        assert not any(fate.strikes for fate in world.fates().values())


def test_last_words_go_into_the_strike_of_what_was_folded_last(world: World) -> None:
    world.post(facts(2))
    world.run()
    positions = [delivery.position for delivery in world.deliveries()]
    world.fresh()
    for at, position in enumerate(positions):
        fate = Fate(
            state=State.RETRYING, strikes=2, due_ms=1, last_ms=at + 1, reason="before", by="here"
        )
        world.store.commit(world.live.number, Commit(changes=[Change(position, None, fate)]))
    world.store.set_mark("running", "1")
    world.guard = StillGuard("Timeout (0:00:05)!\nin fold, line 7")
    world.run(lambda: world.counts().get(State.DEAD) == 2)
    first, last = world.fates()["w-0"], world.fates()["w-1"]
    assert (first.reason, first.trace) == ("before", "")
    assert last.reason == "The fold took longer than its deadline."
    assert last.trace == "Timeout (0:00:05)!\nin fold, line 7"


# Pause and resume.


def test_a_paused_consumer_stands_still_over_restarts_until_it_is_resumed(world: World) -> None:
    world.post(facts(5))
    world.run()
    asked = world.control.ask("tally", "pause", {})
    world.run(lambda: world.control.get(asked.id).state is RequestState.DONE)
    world.post(facts(5, first=5))
    for _ in range(3):
        world.run()
        assert world.documents() == tallied(facts(5))
    asked = world.control.ask("tally", "resume", {})
    world.run(lambda: world.control.get(asked.id).ended)
    world.run()
    assert world.documents() == tallied(facts(10))
    assert len(world.consumer.folded) == 10


def test_a_paused_consumer_does_not_retry_either(world: World) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        raise LookupError("no such shoe")

    world.post(facts(1))
    world.worker()
    world.consumer = Tally(fail)
    world.worker().apply(world.deliveries())
    world.consumer = Tally()
    world.store.set_mark("paused", "1")
    world.run()
    assert world.consumer.folded == []
    world.store.set_mark("paused", None)
    world.run(lambda: world.counts() == {State.APPLIED: 1})
