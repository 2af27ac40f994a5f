"""The sweep: what the log has and a generation has not is folded, once, and its end is exact."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.store import Commit
from consumers.runtime.sweep import Sweep, check_restored, remaining
from events.errors import LogRestored, Outage
from events.log.sqlite import SqliteEventLog
from events.workouts import Sport
from tests.factories import workout
from tests.integration.world import Tally, World, facts, tallied


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), vfs="memdb")
    yield world
    world.close()


def sweep(world: World, *, size: int = 10) -> Sweep:
    """A sweep into the live generation."""
    worker = world.worker()
    return Sweep(world.log, world.store, worker, world.live, size=size)


def another_relay(world: World) -> None:
    """Go on with the log as another relay; what the first one wrote stays."""
    world.log = SqliteEventLog(world.folder / "log.db", vfs="memdb")


def test_a_sweep_folds_all_that_is_logged_and_comes_to_its_end(world: World) -> None:
    world.post(facts(25))
    swept = sweep(world)
    assert swept.remaining() == 25
    steps = 0
    while swept.step() is not None:
        steps += 1
    assert steps == 3
    assert swept.remaining() == 0
    assert sweep(world).step() is None  # the next one begins where this one ended
    assert world.documents() == tallied(facts(25))
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_what_a_generation_has_already_is_not_folded_again(world: World) -> None:
    world.post(facts(25))
    world.worker().apply(world.deliveries()[3:20])
    world.consumer.folded.clear()
    swept = sweep(world)
    while swept.step() is not None:
        pass
    assert sorted(world.consumer.folded) == sorted(f"w-{n}" for n in (0, 1, 2, *range(20, 25)))
    assert world.documents() == tallied(facts(25))


def test_a_sweep_goes_over_every_relay_there_was(world: World) -> None:
    held = [world.log]
    for first in (0, 7, 14):
        world.post(facts(7, first=first))
        another_relay(world)
        held.append(world.log)
    swept = sweep(world, size=3)
    while swept.step() is not None:
        pass
    assert world.documents() == tallied(facts(21))
    assert len(world.store.watermarks(world.live.number)) == 3
    for log in held[:-1]:
        log.close()


def test_a_sweep_that_came_to_its_end_sees_what_is_logged_afterwards(world: World) -> None:
    swept = sweep(world)
    assert swept.step() is None
    world.post(facts(3))
    assert swept.step() is not None
    assert swept.step() is None
    assert world.documents() == tallied(facts(3))


def test_what_nobody_wants_is_passed_over_and_not_looked_at_again(world: World) -> None:
    world.consumer.bindings = ("workout.completed.cycling",)
    world.post([*facts(30), workout(workout_id="ride", sport=Sport.CYCLING), *facts(5, first=30)])
    swept = sweep(world)
    assert swept.remaining() == 1
    assert swept.step() is not None
    assert swept.step() is None
    assert world.consumer.folded == ["ride"]
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_whatever_was_taken_before_and_whatever_comes_meanwhile_all_is_folded_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Events of several relays, some with a row already, and more of them while it sweeps."""

    @given(
        relays=st.lists(st.integers(0, 9), max_size=4),
        size=st.integers(1, 7),
        taken=st.sets(st.integers(0, 35)),
        late=st.lists(st.integers(1, 3), max_size=6),
    )
    def sweep_it(relays: list[int], size: int, taken: set[int], late: list[int]) -> None:
        world = World(tmp_path_factory.mktemp("world"), Tally(), vfs="memdb")
        held, count = [world.log], 0
        for part in relays:
            world.post(facts(part, first=count))
            count += part
            another_relay(world)
            held.append(world.log)
        logged = world.deliveries()
        world.worker().apply([logged[place] for place in taken if place < len(logged)])
        swept, coming = sweep(world, size=size), iter(late)
        moved = True
        while moved:
            moved, part = swept.step() is not None, next(coming, 0)
            world.post(facts(part, first=count))
            count, moved = count + part, moved or part > 0
        assert world.documents() == tallied(facts(count))
        assert sorted(world.consumer.folded) == sorted(f"w-{n}" for n in range(count))
        assert swept.remaining() == 0
        for log in held:
            log.close()

    sweep_it()


def test_remaining_counts_what_is_past_the_watermarks_and_wanted(world: World) -> None:
    world.post(facts(10))
    (relay,) = world.log.settled()
    assert remaining(world.log, ("#",), {}) == 10
    assert remaining(world.log, ("#",), {relay: 4}) == 6
    assert remaining(world.log, ("#",), {relay: 10}) == 0
    assert remaining(world.log, ("workout.completed.cycling",), {}) == 0
    another_relay(world)
    world.post(facts(5, first=10))
    assert remaining(world.log, ("#",), {relay: 4}) == 11


def test_a_watermark_beyond_the_log_means_that_it_was_restored(world: World) -> None:
    world.post(facts(10))
    (relay,) = world.log.settled()
    check_restored(world.log, {})
    check_restored(world.log, {relay: 10})
    with pytest.raises(LogRestored, match=f"ends at 10 of relay {relay[:8]}.*has seen 11"):
        check_restored(world.log, {relay: 11})
    with pytest.raises(LogRestored, match="ends at 0 of relay ffffffff"):
        check_restored(world.log, {relay: 10, "f" * 32: 1})


def test_a_restored_log_that_grew_past_the_watermark_is_noticed_all_the_same(world: World) -> None:
    world.post(facts(10))
    (relay,) = world.log.settled()
    another_relay(world)
    world.post(facts(90, first=10))
    assert max(world.log.settled().values()) == 100
    with pytest.raises(LogRestored):
        check_restored(world.log, {relay: 11})


def test_nothing_of_a_step_that_fails_is_passed_over(world: World) -> None:
    world.post(facts(25))
    swept = sweep(world)
    assert swept.step() is not None

    def fail(commit: Commit) -> None:
        raise ZeroDivisionError

    world.store.before = fail
    with pytest.raises(ZeroDivisionError):
        swept.step()
    world.store.before = lambda commit: None
    while swept.step() is not None:
        pass
    assert world.documents() == tallied(facts(25))


def test_an_outage_of_the_log_pauses_a_sweep_which_then_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.post(facts(25))
    swept = sweep(world)
    assert swept.step() is not None

    def away() -> dict[str, int]:
        raise Outage("The disk is away.")

    with monkeypatch.context() as while_away:
        while_away.setattr(world.log, "settled", away)
        for _ in range(2):
            with pytest.raises(Outage):
                swept.step()
    while swept.step() is not None:
        pass
    assert world.documents() == tallied(facts(25))
