"""A handler on the real runner: what it is called for, what fails, and what stands still."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.control import RequestState
from consumers.runtime.fates import State
from consumers.runtime.registry import Loaded
from events.envelope import Event, seal
from events.errors import PacelineError
from events.workouts import Origin
from tests.factories import workout
from tests.integration.world import World, facts

LATER = datetime(2100, 1, 1, tzinfo=UTC)  # accepted after any start of a handler


class Notes:
    """Notes for what it was called; then does its worst."""

    name, bindings, version = "tally", ("workout.completed.#",), 1

    def __init__(self) -> None:
        self.called: list[str] = []
        self.fail: dict[str, Exception] = {}

    def handle(self, event: Event) -> None:
        self.called.append(event.data.workout_id)
        if event.data.workout_id in self.fail:
            raise self.fail[event.data.workout_id]


class HandlerWorld(World):
    """One handler and its files."""

    def loaded(self) -> Loaded:
        one = changed(super().loaded(), version=1, handles=True, since="now", concurrency=3)
        return changed(one, bindings=tuple(self.consumer.bindings))

    def live_post(self, count: int, *, first: int = 0, **changes: Any) -> None:
        """Bring workouts into the log that are accepted after it arrived."""
        made = [changed(one, **changes) for one in facts(count, first=first)]
        self.log.append([seal(one, accepted_at=LATER) for one in made], source="door")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HandlerWorld]:
    world = HandlerWorld(tmp_path, Notes(), vfs="memdb")
    yield world
    world.close()


def test_it_is_called_once_for_each_event_that_comes_after_it(world: HandlerWorld) -> None:
    world.post(facts(5))  # accepted before it arrived
    world.run()
    world.live_post(20, first=5)
    world.run()
    assert sorted(world.consumer.called) == sorted(f"w-{n}" for n in range(5, 25))
    assert world.counts() == {State.APPLIED: 20}
    world.run()
    assert len(world.consumer.called) == 20


def test_a_raised_version_and_a_restart_send_nothing_again(world: HandlerWorld) -> None:
    world.run()
    world.live_post(3)
    world.run()
    world.consumer.version = 2
    world.run()
    assert len(world.consumer.called) == 3
    assert [one.number for one in world.store.generations()] == [1]


def test_a_failing_event_is_tried_again_alone_and_its_neighbours_once(
    world: HandlerWorld,
) -> None:
    world.run()
    world.consumer.fail = {"w-4": ValueError("no"), "w-5": LookupError("never")}
    world.live_post(10)
    world.run(lambda: world.counts().get(State.DEAD) == 2)
    times = Counter(world.consumer.called)
    assert times.pop("w-4") == times.pop("w-5") == 3  # the ladder of this world has two rungs
    assert set(times.values()) == {1}
    assert world.counts() == {State.APPLIED: 8, State.DEAD: 2}


def test_a_pause_stands_still_with_its_words_and_goes_on_where_it_was(
    world: HandlerWorld,
) -> None:
    class Gone(Exception):
        pause = True

    world.run()
    world.consumer.fail = {"w-0": Gone("the other end is gone for good")}
    world.live_post(1)
    world.run(lambda: world.store.mark("paused"))
    world.live_post(4, first=1)
    world.run()
    assert world.consumer.called == ["w-0"]
    assert "gone for good" in (world.store.mark("paused") or "")
    assert world.fates()["w-0"].attempts == 0
    world.consumer.fail = {}
    world.control.ask("tally", "resume", {})
    world.run(lambda: world.counts() == {State.APPLIED: 5})
    assert Counter(world.consumer.called) == {"w-0": 2} | {f"w-{n}": 1 for n in range(1, 5)}


def test_history_is_discarded_with_its_reason(world: HandlerWorld) -> None:
    world.run()
    world.live_post(2, origin=Origin.HISTORY)
    world.run(lambda: world.counts() == {State.DISCARDED: 2})
    assert world.consumer.called == []
    assert {fate.reason for fate in world.fates().values()} == {
        "It is of history, which notifies nobody."
    }


def test_only_a_replay_that_acts_calls_it_for_what_it_has_missed(world: HandlerWorld) -> None:
    world.post(facts(4))
    world.run()
    looked = world.control.ask("tally", "replay", {})
    world.run(lambda: world.control.get(looked.id).ended)
    assert world.consumer.called == []
    acted = world.control.ask("tally", "replay", {"act": True})
    world.run(lambda: world.counts() == {State.APPLIED: 4})
    assert sorted(world.consumer.called) == ["w-0", "w-1", "w-2", "w-3"]
    assert world.control.get(acted.id).state is RequestState.DONE
    again = world.control.ask("tally", "replay", {"act": True, "user": "ada"})
    world.run(lambda: world.control.get(again.id).ended)
    assert len(world.consumer.called) == 4


def test_other_bindings_are_refused_with_what_to_do(world: HandlerWorld) -> None:
    world.run()
    world.consumer.bindings = ("workout.completed.cycling",)
    with pytest.raises(PacelineError, match="consumers remove tally"):
        world.run()


def test_what_it_has_missed_is_not_for_it_and_no_lag(world: HandlerWorld) -> None:
    from consumers.runtime.audit import audit_consumer

    world.post(facts(4))
    world.run()
    world.live_post(3, first=4)
    world.run()
    with world.store.moment():
        audit = audit_consumer("tally", world.store, world.live, world.log)
    assert audit.holds
    told = {name: count for name, count in audit.fates.items() if count}
    assert json.loads(json.dumps(told)) == {"applied": 3, "not-for-it": 4}


def test_a_projection_may_want_no_history_either_and_a_rebuild_keeps_that(
    tmp_path: Path,
) -> None:
    from tests.integration.world import Tally

    class SinceWorld(HandlerWorld):
        def loaded(self) -> Loaded:
            return changed(World.loaded(self), since="now")

    world = SinceWorld(tmp_path, Tally(), vfs="memdb")
    world.post(facts(6))
    world.run()
    assert world.documents() == {}
    world.live_post(3, first=6)
    world.run()
    expected = world.documents()
    assert sum(one["count"] for one in expected.values()) == 3
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    assert world.live.number == 2
    assert world.documents() == expected
    world.close()


def test_workouts_of_nobody_else_are_touched(world: HandlerWorld) -> None:
    world.consumer.bindings = ("workout.completed.cycling",)
    world.run()
    world.log.append([seal(workout(), accepted_at=LATER)], source="door")
    world.run()
    assert world.consumer.called == []
