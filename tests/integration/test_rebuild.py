"""Generations: built beside the live one, and swapped when they are whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.control import RequestState
from consumers.runtime.fates import Ladder, State
from consumers.runtime.store import Commit, Phase
from events.envelope import Event
from tests.integration.doubles import Killed
from tests.integration.world import Tally, World, facts, tallied, without


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def rebuilt(world: World) -> Any:
    """Ask for a rebuild, run until it has ended, and return the request."""
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    return world.control.get(asked.id)


def test_a_rebuilt_generation_equals_the_live_one_which_is_kept(world: World) -> None:
    world.post(facts(25))
    world.run()
    before = world.live
    request = rebuilt(world)
    assert (request.state, request.done, request.total) == (RequestState.DONE, 25, 25)
    assert world.live.number != before.number
    assert request.answer == {"generation": world.live.number, "applied": 25}
    assert world.documents() == world.documents(before) == tallied(facts(25))
    assert [one.phase for one in world.store.generations()] == [Phase.OLD, Phase.LIVE]
    rebuilt(world)
    assert [one.phase for one in world.store.generations()] == [Phase.OLD, Phase.LIVE]
    assert world.documents() == tallied(facts(25))


def test_readers_see_the_old_state_until_the_swap_and_the_new_one_whole(world: World) -> None:
    world.post(facts(25))
    world.run()
    seen = []
    world.store.after = lambda commit: seen.append((world.live.number, world.documents()))
    rebuilt(world)
    assert len(seen) >= 3
    assert all(each == (1, tallied(facts(25))) for each in seen)
    assert world.live.number == 2
    assert world.documents() == tallied(facts(25))


def test_what_comes_in_during_a_rebuild_is_neither_lost_nor_counted_twice(world: World) -> None:
    world.post(facts(25))
    world.run()
    coming = iter(range(25, 45))

    def come(commit: Commit) -> None:
        if (number := next(coming, None)) is not None:
            world.post(facts(1, first=number))

    world.store.after = come
    request = rebuilt(world)
    world.store.after = lambda commit: None
    assert request.state is RequestState.DONE
    world.run()
    assert next(coming, None) is None, "they did not all come while it was rebuilt"
    assert world.documents() == tallied(facts(45))
    assert world.counts() == {State.APPLIED: 45}


def test_a_raised_version_is_rebuilt_at_its_start_and_read_when_it_is_whole(world: World) -> None:
    def doubled(event: Event, documents: dict[str, Any]) -> None:
        documents[event.user_id]["double"] = 2 * documents[event.user_id]["count"]

    world.post(facts(25))
    world.run()
    world.consumer = Tally(doubled, version=2)
    world.post(facts(5, first=25))
    seen = []
    world.store.after = lambda commit: seen.append((world.live.version, world.documents()))
    world.run(lambda: world.live.version == 2)
    assert all(each == (1, tallied(facts(25))) for each in seen)  # new code folds into no old state
    expected = tallied(facts(30))
    assert world.documents() == {
        user: one | {"double": 2 * one["count"]} for user, one in expected.items()
    }


def test_changed_bindings_come_with_a_raised_version(world: World) -> None:
    world.consumer.bindings = ("workout.completed.cycling",)
    world.post(facts(5))
    world.run()
    world.consumer = Tally(version=2)
    world.run(lambda: world.live.version == 2)
    assert world.live.bindings == ("workout.completed.#",)
    assert world.documents() == tallied(facts(5))


def test_going_back_to_older_code_rebuilds_too(world: World) -> None:
    world.consumer = Tally(version=2)
    world.post(facts(5))
    world.run()
    world.consumer = Tally(version=1)
    world.run(lambda: world.live.version == 1)
    assert world.documents() == tallied(facts(5))


def test_a_rebuild_that_was_killed_goes_on_and_does_not_begin_again(world: World) -> None:
    world.post(facts(45))
    world.run()
    world.consumer = Tally(version=2)
    done = 0

    def kill(commit: Commit) -> None:
        nonlocal done
        done += len(commit.applied)
        if done > 20:
            raise Killed

    world.store.before = kill
    with pytest.raises(Killed):
        world.run()
    world.store.before = lambda commit: None
    world.consumer = Tally(version=2)
    world.run(lambda: world.live.version == 2)
    assert world.live.number == 2
    assert world.consumer.folded == [f"w-{number}" for number in range(20, 45)]
    assert world.documents() == tallied(facts(45))


def test_a_rebuild_that_was_asked_for_and_killed_ends_with_its_answer(world: World) -> None:
    world.post(facts(45))
    world.run()
    asked = world.control.ask("tally", "rebuild", {})
    commits = iter(range(3))

    def kill(commit: Commit) -> None:
        if next(commits, None) is None:
            raise Killed

    world.store.before = kill
    with pytest.raises(Killed):
        world.run(lambda: world.control.get(asked.id).ended)
    assert world.control.get(asked.id).state is RequestState.RUNNING
    world.store.before = lambda commit: None
    world.run(lambda: world.control.get(asked.id).ended)
    request = world.control.get(asked.id)
    assert (request.state, request.answer) == ("done", {"generation": 2, "applied": 45})
    assert world.live.number == 2


def test_a_rebuild_by_code_that_was_replaced_begins_again(world: World) -> None:
    world.post(facts(45))
    world.run()
    world.consumer = Tally(version=2)
    commits = iter(range(2))

    def kill(commit: Commit) -> None:
        if next(commits, None) is None:
            raise Killed

    world.store.before = kill
    with pytest.raises(Killed):
        world.run()
    world.store.before = lambda commit: None
    world.consumer = Tally(version=3)
    world.run(lambda: world.live.version == 3)
    assert len(set(world.consumer.folded)) == 45
    assert world.documents() == tallied(facts(45))
    assert [one.version for one in world.store.generations()] == [1, 3]


def test_what_fails_in_a_rebuild_climbs_its_ladder_when_it_is_live(world: World) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-3":
            raise LookupError("no such shoe")

    world.post(facts(25))
    world.run()
    world.consumer = Tally(fail, version=2)
    world.run(lambda: world.counts().get(State.DEAD))
    assert world.live.version == 2
    assert world.counts() == {State.APPLIED: 24, State.DEAD: 1}
    assert world.documents() == tallied(without(facts(25), "w-3"))


def test_a_suspect_of_a_rebuild_keeps_its_strikes_until_it_is_dead(world: World) -> None:
    def end(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-3":
            raise MemoryError  # what ends the process, under a guard that does

    world.post(facts(25))
    world.run()
    world.consumer = Tally(end, version=2)
    ends = 0
    while ends < 10:
        try:
            world.run(lambda: world.live.version == 2 and not world.counts().get(State.RETRYING))
        except MemoryError:
            ends += 1
        else:
            break
    assert ends == 3
    assert world.counts() == {State.APPLIED: 24, State.DEAD: 1}
    assert world.fates()["w-3"].strikes == 3
    assert world.documents() == tallied(without(facts(25), "w-3"))


def dead(world: World, *bad: str) -> None:
    """Make these events dead."""

    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id in bad:
            raise LookupError("no such shoe")

    world.consumer, world.ladder = Tally(fail), Ladder(())
    world.run()
    world.consumer = Tally()
    assert world.counts()[State.DEAD] == len(bad)


def test_what_was_discarded_stays_discarded_through_rebuilds_and_raised_versions(
    world: World,
) -> None:
    world.post(facts(25))
    dead(world, "w-3", "w-7")
    asked = world.control.ask("tally", "discard", {"reason": "LookupError"})
    world.run(lambda: world.control.get(asked.id).ended)
    rebuilt(world)
    world.consumer = Tally(version=2)
    world.run(lambda: world.live.version == 2)
    assert world.counts() == {State.APPLIED: 23, State.DISCARDED: 2}
    assert world.fates()["w-3"].state is State.DISCARDED
    assert world.documents() == tallied(without(facts(25), "w-3", "w-7"))


def test_what_is_discarded_during_a_rebuild_that_fails_on_it_too_is_discarded_afterwards(
    world: World,
) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-3":
            raise LookupError("no such shoe")

    world.post(facts(45))
    dead(world, "w-3")
    world.consumer = Tally(fail)
    rebuild = world.control.ask("tally", "rebuild", {})
    discard = world.control.ask("tally", "discard", {})
    world.run(lambda: world.control.get(rebuild.id).ended)
    assert world.control.get(discard.id).answer == {"changed": 1}
    assert world.counts() == {State.APPLIED: 44, State.DISCARDED: 1}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_rebuild_that_is_cancelled_changes_nothing_then_or_later(
    world: World, *, restarted: bool
) -> None:
    world.post(facts(45))
    world.run()
    asked = world.control.ask("tally", "rebuild", {})

    def cancel(commit: Commit) -> None:
        world.control.cancel(asked.id)

    world.store.after = cancel
    world.run(lambda: world.control.get(asked.id).ended)
    world.store.after = lambda commit: None
    if restarted:
        world.run()
        world.run()
    assert world.control.get(asked.id).state is RequestState.CANCELLED
    assert world.live.number == 1
    assert [one.phase for one in world.store.generations()] == [Phase.LIVE]
    assert world.documents() == tallied(facts(45))


def test_a_rebuild_that_is_cancelled_while_no_worker_runs_is_not_taken_up_again(
    world: World,
) -> None:
    world.post(facts(45))
    world.run()
    asked = world.control.ask("tally", "rebuild", {})
    commits = iter(range(2))

    def kill(commit: Commit) -> None:
        if next(commits, None) is None:
            raise Killed

    world.store.before = kill
    with pytest.raises(Killed):
        world.run(lambda: world.control.get(asked.id).ended)
    world.store.before = lambda commit: None
    assert [one.phase for one in world.store.generations()] == [Phase.LIVE, Phase.BUILDING]
    world.control.cancel(asked.id)
    world.run()
    assert [one.phase for one in world.store.generations()] == [Phase.LIVE]


def test_a_cancelled_request_does_not_stop_the_rebuild_that_a_raised_version_needs(
    world: World,
) -> None:
    world.post(facts(45))
    world.run()
    world.consumer = Tally(version=2)
    asked = world.control.ask("tally", "rebuild", {})

    def cancel(commit: Commit) -> None:
        world.control.cancel(asked.id)

    world.store.after = cancel
    world.run(lambda: world.live.version == 2)
    assert world.documents() == tallied(facts(45))
