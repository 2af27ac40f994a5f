"""Many suspects at once: cheap when they are innocent, and each alone when one of them is not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.alone import Limits
from consumers.runtime.fates import State
from consumers.runtime.store import Commit
from events.bus import UNREADABLE, Batch, Delivery
from events.envelope import Event
from events.errors import Outage, Overtaken
from events.log import Position
from tests.integration.brokered import BrokeredWorld
from tests.integration.doubles import Killed, StillGuard
from tests.integration.world import Tally, World, facts, tallied, without

CULPRIT = "w-123"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokeredWorld]:
    world = BrokeredWorld(tmp_path, Tally(), monkeypatch, batch=300)
    world.limits = Limits(batch_s=0.0, alone_s=0.0)  # so what waits to go alone is due at once
    yield world
    world.close()


class DeadlyGuard(StillGuard):
    """Ends the process when one of the culprits was folded, as a crash in its fold would."""

    def __init__(self, world: World, *culprits: str) -> None:
        super().__init__()
        self._world, self._culprits = world, set(culprits)
        self.ended = 0

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        before = len(self._world.consumer.folded)
        yield
        if self._culprits & set(self._world.consumer.folded[before:]):
            self.ended += 1
            raise Killed


def commits(world: World) -> list[Commit]:
    """What is committed from now on."""
    seen: list[Commit] = []
    world.store.after = seen.append
    return seen


def suspects(world: World) -> Batch:
    return Batch(world.deliveries(redelivered=True))


def run_until_nobody_retries(world: World) -> int:
    """Start it as often as it ends, until all have an end; return how often it ended uncleanly."""
    logged = len(world.deliveries())

    def done() -> bool:
        return len(world.fates()) == logged and not world.counts().get(State.RETRYING)

    for ended in range(20):
        try:
            world.run(done)
        except Killed:
            continue
        return ended
    raise AssertionError("it ends and ends")


# Innocent.


def test_300_suspects_cost_two_commits_and_not_600(world: BrokeredWorld) -> None:
    world.post(facts(300))
    seen = commits(world)
    assert world.worker().take(suspects(world)) == 300
    assert len(seen) == 2
    assert world.documents() == tallied(facts(300))
    assert world.counts() == {State.APPLIED: 300}
    assert len(world.consumer.folded) == 300


def test_a_few_suspects_still_go_one_by_one(world: BrokeredWorld) -> None:
    world.post(facts(100))
    seen = commits(world)
    world.worker().take(suspects(world))
    assert len(seen) == 200


def test_neighbours_that_are_not_suspect_go_together_after_them(world: BrokeredWorld) -> None:
    world.post(facts(280))
    deliveries = [
        one._replace(redelivered=place < 150) for place, one in enumerate(world.deliveries())
    ]
    seen = commits(world)
    assert world.worker().take(Batch(deliveries, world.log.settled())) == 280
    assert [len(one.applied) for one in seen] == [0, 0, 130]
    assert world.documents() == tallied(facts(280))
    assert world.store.watermarks(1) == world.log.settled()


def test_those_that_have_a_fate_are_no_suspects_any_more(world: BrokeredWorld) -> None:
    world.post(facts(300))
    world.worker().take(Batch(world.deliveries()[:150]))
    seen = commits(world)
    assert world.worker().take(suspects(world)) == 150
    assert len(seen) == 2
    assert world.worker().take(suspects(world)) == 0
    assert len(seen) == 2
    assert world.documents() == tallied(facts(300))


def test_before_they_are_folded_each_has_a_row_that_makes_it_due_alone_later(
    world: BrokeredWorld,
) -> None:
    world.limits = Limits(batch_s=30.0, alone_s=5.0)
    world.post(facts(300))
    rows = []

    def note(event: Event, documents: dict[str, Any]) -> None:
        if not rows:
            rows.extend(world.store.open_fates(1, State.RETRYING))

    world.consumer = Tally(note)
    before_ms = int(time.time() * 1000)
    world.worker().take(suspects(world))
    assert len(rows) == 300
    # Past the deadline of the fold, so that nobody tries them alone while they are being folded.
    assert min(fate.due_ms for _, fate in rows) >= before_ms + 35_000
    assert {(fate.strikes, fate.attempts) for _, fate in rows} == {(0, 0)}


def test_one_that_fails_among_them_climbs_the_ladder_and_costs_the_others_nothing(
    world: BrokeredWorld,
) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == CULPRIT:
            raise LookupError("no such shoe")

    world.consumer = Tally(fail)
    world.post(facts(300))
    assert world.worker().take(suspects(world)) == 299
    fate = world.fates()[CULPRIT]
    assert (fate.state, fate.attempts, fate.strikes) == (State.RETRYING, 1, 0)
    assert world.documents() == tallied(without(facts(300), CULPRIT))


def test_one_that_the_store_refuses_is_found_among_them(world: BrokeredWorld) -> None:
    def grow(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == CULPRIT:
            documents[event.user_id]["odd"] = "x" * (1 << 20)

    world.consumer = Tally(grow)
    world.post(facts(300))
    assert world.worker().take(suspects(world)) == 299
    assert world.counts() == {State.APPLIED: 299, State.DEAD: 1}
    assert world.fates()[CULPRIT].reason.startswith("TooLarge")
    assert world.documents() == tallied(without(facts(300), CULPRIT))


# Not innocent.


def test_when_they_end_the_process_each_goes_alone_and_only_the_culprit_is_dead(
    world: BrokeredWorld,
) -> None:
    world.post(facts(3, first=300))
    world.run()
    world.guard = guard = DeadlyGuard(world, CULPRIT)
    world.publish(facts(300))
    # In a batch that is not suspect, then among all suspects, then alone until its last strike.
    assert run_until_nobody_retries(world) == guard.ended == 4
    fate = world.fates()[CULPRIT]
    assert (fate.state, fate.strikes) == (State.DEAD, 3)
    assert world.counts() == {State.APPLIED: 302, State.DEAD: 1}
    assert world.documents() == tallied(without(facts(303), CULPRIT))
    assert world.queue.in_hand == world.queue.length() == 0


def test_the_same_where_the_log_itself_is_the_bus(tmp_path: Path) -> None:
    world = World(tmp_path, Tally(), batch=300)
    world.limits = Limits(batch_s=0.0, alone_s=0.0)
    world.guard = DeadlyGuard(world, CULPRIT)
    world.post(facts(300))
    run_until_nobody_retries(world)
    assert world.counts() == {State.APPLIED: 299, State.DEAD: 1}
    assert world.fates()[CULPRIT].state is State.DEAD
    assert world.documents() == tallied(without(facts(300), CULPRIT))
    world.close()


def test_innocents_are_struck_by_nobody_however_many_culprits_there_are(
    world: BrokeredWorld,
) -> None:
    culprits = ("w-7", "w-150", "w-299")
    world.post(facts(1, first=300))
    world.run()
    world.guard = DeadlyGuard(world, *culprits)
    world.publish(facts(300))
    run_until_nobody_retries(world)
    dead = {name for name, fate in world.fates().items() if fate.state is State.DEAD}
    assert dead == set(culprits)
    assert world.documents() == tallied(without(facts(301), *culprits))


# What comes in between.


def test_an_outage_in_between_costs_nobody_an_attempt(world: BrokeredWorld) -> None:
    world.post(facts(300))
    worker = world.worker()
    failing = iter([None, Outage("no server")])

    def fail(commit: Commit) -> None:
        if error := next(failing, None):
            raise error

    world.store.before = fail
    with pytest.raises(Outage):
        worker.take(suspects(world))
    assert {(fate.attempts, fate.strikes) for fate in world.fates().values()} == {(0, 0)}
    assert worker.take(suspects(world)) == 300  # the process lives, so they are still together
    assert world.counts() == {State.APPLIED: 300}
    assert world.documents() == tallied(facts(300))


@pytest.mark.parametrize("at", [0, 1])
def test_when_another_worker_has_them_in_hand_too_all_are_applied_once(
    world: BrokeredWorld, at: int
) -> None:
    world.post(facts(300))
    worker, other = world.worker(), world.worker()
    calls = iter(range(2))

    def overtake(commit: Commit) -> None:
        if next(calls, None) == at:
            world.store.before = lambda commit: None
            other.apply(world.deliveries()[100:102])  # a part of them, and of their documents
            if at:
                raise Overtaken("another one was first")

    world.store.before = overtake
    worker.take(suspects(world))
    world.store.before = lambda commit: None
    world.run(lambda: world.counts() == {State.APPLIED: 300})
    assert world.documents() == tallied(facts(300))


# A message without a position.


def unreadable(body: bytes = b"\xff no event", *, redelivered: bool = True) -> Delivery:
    return Delivery(Position(UNREADABLE, 0xABCDE), "workout.completed.running", body, redelivered)


@pytest.mark.parametrize("count", [3, 300])
def test_a_suspect_without_a_position_is_dead_and_costs_its_neighbours_nothing(
    world: BrokeredWorld, count: int
) -> None:
    world.post(facts(count))
    world.worker().take(Batch([unreadable(), *world.deliveries(redelivered=True)]))
    assert world.counts() == {State.APPLIED: count, State.DEAD: 1}
    assert world.documents() == tallied(facts(count))


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("left", range(3))
def test_one_without_a_position_is_dead_in_the_end_wherever_the_process_ends(
    world: BrokeredWorld, count: int, left: int
) -> None:
    world.post(facts(1, first=count))
    world.run()
    published = world.publish(facts(count))
    world.queue.waiting.clear()
    world.queue.bring([unreadable(), *(one._replace(redelivered=True) for one in published)])
    world.store.before = _killer(left)
    with pytest.raises(Killed):
        world.run()
    world.store.before = lambda commit: None
    world.run(lambda: world.counts() == {State.APPLIED: count + 1, State.DEAD: 1})
    assert world.documents() == tallied(facts(count + 1))


def test_wherever_the_process_ends_each_suspect_is_applied_once_and_nobody_is_dead(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Killed between two commits, which no event has done: so nobody may be given up for it."""

    @given(
        kills=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=2),
        count=st.integers(101, 130),
    )
    def killed(kills: list[tuple[int, bool]], count: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("world")
            world = BrokeredWorld(folder, Tally(), patch, batch=200)
            world.limits = Limits(batch_s=0.0, alone_s=0.0)
            try:
                _killed(world, kills, count)
            finally:
                world.close()

    killed()


def _killed(world: BrokeredWorld, kills: list[tuple[int, bool]], count: int) -> None:
    world.post(facts(1, first=count))
    world.run()
    world.publish(facts(count))
    for left, before in kills:
        world.store.before = world.store.after = lambda commit: None
        setattr(world.store, "before" if before else "after", _killer(left))
        with suppress(Killed):
            world.run()
    world.store.before = world.store.after = lambda commit: None
    world.run(lambda: world.counts() == {State.APPLIED: count + 1})
    assert world.documents() == tallied(facts(count + 1))


def _killer(left: int) -> Callable[[Commit], None]:
    calls = iter(range(left))

    def kill(commit: Commit) -> None:
        if next(calls, None) is None:
            raise Killed

    return kill
