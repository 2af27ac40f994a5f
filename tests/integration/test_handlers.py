"""A handler on the real runner: what it is called for, what fails, and what stands still."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from consumers.runtime.audit import audit_consumer
from consumers.runtime.control import RequestState
from consumers.runtime.fates import State
from consumers.runtime.guard import OUT_OF_MEMORY
from consumers.runtime.registry import Loaded
from consumers.runtime.store import Commit
from events.envelope import Event, seal
from events.errors import Outage, PacelineError
from events.workouts import Origin
from tests.factories import workout
from tests.integration.doubles import Killed
from tests.integration.place import Place
from tests.integration.test_real_workers import all_final, lives
from tests.integration.world import Tally, World, append, facts, until

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


# What it must never do again.


def test_a_rebuild_is_refused_and_calls_nobody_again(world: HandlerWorld) -> None:
    world.run()
    world.live_post(5)
    world.run()
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    ended = world.control.get(asked.id)
    assert ended.state is RequestState.FAILED
    assert "tally is a handler, and never begins anew" in ended.answer["error"]
    assert "replay" in ended.answer["error"]
    assert len(world.consumer.called) == 5
    assert [one.number for one in world.store.generations()] == [1]


@pytest.mark.parametrize("version", [1, 2])
def test_a_projection_that_becomes_a_handler_under_its_name_is_refused_and_sends_nothing(
    tmp_path: Path, version: int
) -> None:
    before = World(tmp_path, Tally(version=version))
    before.post(facts(5))
    before.run()
    before.close()
    world = HandlerWorld(tmp_path, Notes())
    with pytest.raises(PacelineError, match=r"it another name.*consumers remove tally"):
        world.run()
    assert world.consumer.called == []
    assert [(one.number, one.version) for one in world.store.generations()] == [(1, version)]
    world.close()


def test_after_a_full_disk_each_event_was_handled_once_by_the_process_that_lived(
    world: HandlerWorld,
) -> None:
    world.run()
    world.live_post(20)
    left = iter(range(5))

    def no_room(commit: Commit) -> None:
        if commit.applied and next(left, None) is not None:
            raise Outage("the disk is full")

    world.store.before = no_room
    world.run(lambda: world.counts() == {State.APPLIED: 20})
    assert next(left, None) is None
    assert Counter(world.consumer.called) == {f"w-{n}": 1 for n in range(20)}


def test_a_kill_between_the_call_and_its_fate_calls_again_and_loses_nothing(
    world: HandlerWorld,
) -> None:
    world.run()
    world.live_post(20)

    def die(commit: Commit) -> None:
        if commit.applied:
            raise Killed

    world.store.before = die
    with pytest.raises(Killed):
        world.run()
    assert len(world.consumer.called) == 20
    world.store.before = lambda commit: None
    world.run(lambda: world.counts() == {State.APPLIED: 20})
    assert Counter(world.consumer.called) == {f"w-{n}": 2 for n in range(20)}


# Pauses.


class Away(Exception):
    """The other end is away, for all events alike."""

    pause = True


def test_what_is_due_waits_too_once_one_of_it_has_said_pause(world: HandlerWorld) -> None:
    world.post(facts(5))
    world.run()
    world.consumer.fail = {f"w-{n}": Away("closed until Monday") for n in range(5)}
    world.control.ask("tally", "replay", {"act": True})
    world.run(lambda: world.store.mark("paused"))
    called = len(world.consumer.called)
    assert called <= 3  # so many are called at once
    world.run()  # a restart does not go on
    assert len(world.consumer.called) == called
    assert {(fate.attempts, fate.strikes) for fate in world.fates().values()} == {(0, 0)}
    world.consumer.fail = {}
    world.control.ask("tally", "resume", {})
    world.run(lambda: world.counts() == {State.APPLIED: 5})
    assert len(world.consumer.called) == called + 5


def test_suspects_wait_too_once_one_of_them_has_said_pause(world: HandlerWorld) -> None:
    world.run()
    world.live_post(6)
    world.store.before = _die_of_applied
    with pytest.raises(Killed):
        world.run()
    world.store.before = lambda commit: None
    called = len(world.consumer.called)
    world.consumer.fail = {f"w-{n}": Away("closed until Monday") for n in range(6)}
    world.run(lambda: world.store.mark("paused"))
    again = world.consumer.called[called:]
    assert len(again) == len(set(again))  # each of the batch that it had in hand, and none twice
    assert {fate.strikes for fate in world.fates().values()} <= {0}
    world.consumer.fail = {}
    world.control.ask("tally", "resume", {})
    world.run(lambda: world.counts() == {State.APPLIED: 6})


def _die_of_applied(commit: Commit) -> None:
    if commit.applied:
        raise Killed


def test_a_pause_of_an_operator_stands_still_and_says_nothing_of_its_own(
    world: HandlerWorld,
) -> None:
    world.run()
    world.control.ask("tally", "pause", {})
    world.run(lambda: world.store.mark("paused"))
    world.live_post(3)
    world.run()
    assert world.consumer.called == []
    world.control.ask("tally", "resume", {})
    world.run(lambda: world.counts() == {State.APPLIED: 3})


# What is due is called as what is live is: several at once.


class Meeting(Notes):
    """Goes on only where three are called at once; fails at first."""

    def __init__(self) -> None:
        super().__init__()
        self.together = Barrier(3, timeout=20)
        self.failing = False

    def handle(self, event: Event) -> None:
        self.together.wait()
        super().handle(event)
        if self.failing:
            raise ValueError("not yet")


def test_what_a_replay_calls_for_is_called_for_at_once(tmp_path: Path) -> None:
    world = HandlerWorld(tmp_path, Meeting(), vfs="memdb")
    world.post(facts(9))
    world.run()
    world.control.ask("tally", "replay", {"act": True})
    world.run(lambda: world.counts() == {State.APPLIED: 9})
    assert Counter(world.consumer.called) == {f"w-{n}": 1 for n in range(9)}
    world.close()


def test_what_is_tried_again_is_called_for_at_once_and_keeps_its_attempts(tmp_path: Path) -> None:
    world = HandlerWorld(tmp_path, Meeting(), vfs="memdb")
    world.consumer.failing = True
    world.run()
    world.live_post(6)
    world.run(lambda: world.counts() == {State.DEAD: 6})
    assert Counter(world.consumer.called) == {f"w-{n}": 3 for n in range(6)}
    assert {(fate.attempts, fate.strikes) for fate in world.fates().values()} == {(3, 0)}
    world.close()


def test_what_was_called_for_together_when_the_process_ended_goes_alone(
    world: HandlerWorld,
) -> None:
    world.post(facts(3))
    world.run()

    def die(commit: Commit) -> None:
        if any(change.after.state is State.APPLIED for change in commit.changes):
            raise Killed

    world.store.before = die
    world.control.ask("tally", "replay", {"act": True})
    with pytest.raises(Killed):
        world.run()
    assert {fate.strikes for fate in world.fates().values()} == {0}
    struck: list[int] = []
    world.store.before = lambda commit: struck.extend(
        change.after.strikes for change in commit.changes if change.after.strikes
    )
    world.run(lambda: world.counts() == {State.APPLIED: 3})
    assert struck == [1, 1, 1]
    assert Counter(world.consumer.called) == {f"w-{n}": 2 for n in range(3)}


def test_an_outage_between_the_calls_and_their_fates_calls_nobody_again(
    world: HandlerWorld,
) -> None:
    world.post(facts(3))
    world.run()
    left = iter(range(3))

    def no_room(commit: Commit) -> None:
        applied = any(change.after.state is State.APPLIED for change in commit.changes)
        if applied and next(left, None) is not None:
            raise Outage("the disk is full")

    world.store.before = no_room
    world.control.ask("tally", "replay", {"act": True})
    world.run(lambda: world.counts() == {State.APPLIED: 3})
    assert next(left, None) is None
    assert Counter(world.consumer.called) == {f"w-{n}": 1 for n in range(3)}


# The ladder, and what is permanent.


def test_who_asks_for_an_hour_is_not_called_within_it(world: HandlerWorld) -> None:
    class Busy(Exception):
        retry_after_s = 3600

    world.run()
    world.consumer.fail = {"w-1": Busy("too many"), "w-2": ValueError("odd")}
    world.live_post(4)
    begun_ms = time.time() * 1000
    world.run(lambda: world.counts().get(State.DEAD) == 1)
    fate = world.fates()["w-1"]
    assert world.consumer.called.count("w-1") == 1
    assert (fate.state, fate.attempts) == (State.RETRYING, 1)
    assert (fate.due_ms or 0) >= begun_ms + 3_600_000


def test_what_is_permanent_is_dead_at_once_with_its_traceback_and_redriven_by_hand(
    world: HandlerWorld,
) -> None:
    class Never(Exception):
        permanent = True

    world.run()
    world.consumer.fail = {"w-1": Never("no such address")}
    world.live_post(3)
    world.run(lambda: world.counts().get(State.DEAD) == 1)
    fate = world.fates()["w-1"]
    assert world.consumer.called.count("w-1") == 1
    assert fate.reason == "Never: no such address"
    assert "in handle" in fate.trace
    world.consumer.fail = {}
    world.control.ask("tally", "redrive", {})
    world.run(lambda: world.counts() == {State.APPLIED: 3})
    assert Counter(world.consumer.called) == {"w-0": 1, "w-1": 2, "w-2": 1}


# In a process of its own.

BELL = '''
"""Writes down for what it was called."""

import ctypes, os, time

HOARD = []

class Bell:
    name = "tally"
    bindings = ("workout.completed.#",)
    version = 1
    since = "2020-01-01T00:00:00+00:00"
    concurrency = 3
    deadline_s = DEADLINE

    def handle(self, event):
        with open(PATH, "a") as rung:
            rung.write(event.data.workout_id + "\\n")
        MISDEED
'''


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "place", memory_mib=64, ladder_s="0.05,0.05")
    yield place
    place.close()


def bell(place: Place, *misdeeds: tuple[str, str], deadline_s: float = 1) -> Path:
    """Drop a handler in that does these, each for one workout; return the file that it writes."""
    path = place.folder / "rung.txt"
    acts = [f'event.data.workout_id == "{who}" and exec({code!r})' for who, code in misdeeds]
    source = BELL.replace("PATH", repr(str(path))).replace("MISDEED", "; ".join(acts) or "pass")
    (place.plugins / "tally.py").write_text(source.replace("DEADLINE", str(deadline_s)))
    return path


def test_a_call_that_ends_the_process_is_dead_after_three_strikes_and_the_others_are_made(
    place: Place,
) -> None:
    rung = bell(
        place,
        ("w-5", "os._exit(9)"),
        ("w-6", "time.sleep(3600)"),
        ("w-16", "while True: HOARD.append(bytearray(1 << 20))"),
        ("w-17", "ctypes.string_at(0)"),
    )
    append(place.log, facts(30))
    lives(place, lambda: len(place.fates()) == 30 and all_final(place), at_most=30)
    dead = {name: fate for name, fate in place.fates().items() if fate.state is State.DEAD}
    assert {name: fate.strikes for name, fate in dead.items()} == dict.fromkeys(dead, 3)
    assert dead.keys() == {"w-5", "w-6", "w-16", "w-17"}
    assert dead["w-6"].reason == "The call took longer than its deadline."
    assert "in handle" in dead["w-6"].trace
    assert "memory" in dead["w-16"].reason
    assert "Segmentation fault" in dead["w-17"].reason
    assert set(rung.read_text().split()) == {f"w-{n}" for n in range(30)}


def test_one_that_is_out_of_memory_ends_the_process_though_another_hangs(place: Place) -> None:
    hoards = "while True: HOARD.append(bytearray(1 << 20))"
    bell(place, ("w-0", hoards), ("w-1", "time.sleep(3600)"), deadline_s=300)
    append(place.log, facts(2))
    process = place.start("consume", "tally")
    assert process.wait(60) == OUT_OF_MEMORY, place.journal()[-3000:]


def test_as_many_threads_as_there_may_be_have_room_beside_what_a_worker_may_grow_by(
    place: Place,
) -> None:
    bell(place, deadline_s=60)
    file = place.plugins / "tally.py"
    file.write_text(file.read_text().replace("concurrency = 3", "concurrency = 64"))
    append(place.log, facts(300))
    process = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 300, what="they are handled")
    assert {fate.state for fate in place.fates().values()} == {State.APPLIED}
    place.stop(process)
    assert "Traceback" not in place.journal()


def test_other_bindings_end_the_command_with_one_sentence_that_the_list_shows_too(
    place: Place,
) -> None:
    bell(place)
    append(place.log, facts(3))
    process = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 3, what="they are handled")
    place.stop(process)
    file = place.plugins / "tally.py"
    before = file.read_text()
    file.write_text(before.replace("completed.#", "completed.running"))
    refused = place.command("consume", "tally")
    assert refused.returncode == 1
    says = "The bindings of tally have changed, and a handler never begins anew: give it another"
    assert refused.stderr.strip().splitlines()[-1].count(says) == 1
    assert "Traceback" not in refused.stderr
    (row,) = [one for one in listed(place) if one["name"] == "tally"]
    assert (row["state"], says in row["reason"]) == ("stopped", True)
    file.write_text(before)
    process = place.start("consume", "tally")
    until(lambda: listed(place)[-1]["state"] == "live", what="with its own bindings it goes on")
    place.stop(process)


def listed(place: Place) -> list[dict[str, Any]]:
    """What `consumers list` says; this one's name comes last."""
    rows: list[dict[str, Any]] = json.loads(place.command("consumers", "list", "--json").stdout)
    return rows
