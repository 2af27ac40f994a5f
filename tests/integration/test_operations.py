"""What a worker does because somebody asked: replay, redrive, discard; and how that can end."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime import operations
from consumers.runtime.control import Request, RequestState
from consumers.runtime.fates import Ladder, State
from consumers.runtime.operations import dead_letters, selection_of
from consumers.runtime.store import Commit
from events.envelope import Event, seal, workout_event_id
from events.errors import Outage, PacelineError
from events.log import Logged, Selection
from events.workouts import Sport
from tests.factories import workout
from tests.integration.doubles import Killed, UntilPatience
from tests.integration.world import ACCEPTED_AT, Tally, World, facts, tallied, without

BAD = ("w-3", "w-7", "w-8")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def asked(world: World, verb: str, arguments: dict[str, Any] | None = None) -> Request:
    """Ask, run until it has ended, and return the request."""
    request = world.control.ask("tally", verb, arguments or {})
    world.run(lambda: world.control.get(request.id).ended)
    return world.control.get(request.id)


def event_id(workout_id: str) -> str:
    """The id of the event of one of `facts`."""
    user = ("ada", "bob", "cyd")[int(workout_id[2:]) % 3]
    return workout_event_id(user, workout_id)


def fails(event: Event, documents: dict[str, Any]) -> None:
    """Fail for the bad ones: one way for w-3, another for the others."""
    if event.data.workout_id == "w-3":
        raise LookupError("no such shoe")
    if event.data.workout_id in BAD:
        raise ValueError("too late")


def with_dead(world: World) -> None:
    """A world of 20 events in which three are dead, with code that would take them now."""
    world.post(facts(20))
    world.consumer, world.ladder = Tally(fails), Ladder(())
    world.run()
    assert world.counts() == {State.APPLIED: 17, State.DEAD: 3}
    world.consumer = Tally()


# Replay.


def test_a_replay_of_what_was_applied_changes_nothing_and_says_so(world: World) -> None:
    world.post(facts(20))
    world.run()
    before = world.documents()
    request = asked(world, "replay")
    assert request.state is RequestState.DONE
    assert request.answer == {"applied": 0, "already": 20, "others": 0}
    assert (request.done, request.total) == (20, 20)
    assert world.documents() == before
    assert len(world.consumer.folded) == 20


def test_a_replay_brings_what_is_missing_and_counts_what_is_set_aside_apart(world: World) -> None:
    world.post(facts(20))
    world.consumer, world.ladder = Tally(fails), Ladder(())
    deliveries = world.deliveries()
    world.worker().apply(deliveries[:5] + deliveries[7:8], through=world.log.settled())
    request = asked(world, "replay")
    # Applied before: w-0, 1, 2, 4; dead before: w-3, 7; w-8 fails only now.
    assert request.answer == {"applied": 13, "already": 4, "others": 3}
    assert world.documents() == tallied(without(facts(20), *BAD))
    assert asked(world, "replay", {"type": "workout.completed"}).answer == {
        "applied": 0,
        "already": 17,
        "others": 3,
    }


def test_a_replay_delivers_what_its_arguments_select_and_nothing_else(world: World) -> None:
    later = ACCEPTED_AT + timedelta(hours=1)
    world.post(facts(9))
    rides = [workout(workout_id=f"ride-{n}", sport=Sport.CYCLING) for n in range(4)]
    world.log.append([seal(ride, accepted_at=later) for ride in rides], source="door")
    world.run()
    selections: dict[str, tuple[dict[str, Any], int]] = {
        "all": ({}, 13),
        "a user": ({"user": "ada"}, 7),
        "a type": ({"type": "workout.completed"}, 13),
        "another type": ({"type": "workout.deleted"}, 0),
        "some ids": ({"ids": [event_id("w-1"), event_id("w-2"), workout_event_id("x", "y")]}, 2),
        "from a time": ({"from": later.isoformat()}, 4),
        "to a time": ({"to": later.isoformat()}, 9),
        "between": ({"from": ACCEPTED_AT.isoformat(), "to": later.isoformat()}, 9),
        "both": ({"user": "ada", "from": later.isoformat()}, 4),
    }
    for name, (arguments, count) in selections.items():
        request = asked(world, "replay", arguments)
        assert request.answer == {"applied": 0, "already": count, "others": 0}, name
    bound = selection_of({}, ("workout.completed.cycling",))
    assert [row.routing_key for row in world.log.scan(bound, limit=99)] == [
        "workout.completed.cycling"
    ] * 4


def test_a_replay_that_was_killed_goes_on_from_its_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 4)
    world.post(facts(20))
    world.run()
    request = world.control.ask("tally", "replay", {})
    reports = iter(range(3))
    report = world.control.report

    def reported(*args: Any, **kwargs: Any) -> bool:
        if next(reports, None) is None:
            raise Killed
        return report(*args, **kwargs)

    monkeypatch.setattr(world.control, "report", reported)
    with pytest.raises(Killed):
        world.run(lambda: world.control.get(request.id).ended)
    monkeypatch.setattr(world.control, "report", report)
    memory = world.control.get(request.id).memory
    assert (memory["after"], memory["already"]) == (8, 8)
    scanned: list[int] = []
    scan = world.log.scan

    def watched(selection: Selection, *, limit: int) -> list[Logged]:
        scanned.append(selection.after)
        return scan(selection, limit=limit)

    monkeypatch.setattr(world.log, "scan", watched)
    world.run(lambda: world.control.get(request.id).ended)
    assert world.control.get(request.id).answer == {"applied": 0, "already": 20, "others": 0}
    assert scanned == [8, 12, 16, 20]


def test_a_replayed_event_that_ends_the_process_is_struck_and_the_replay_goes_on(
    world: World,
) -> None:
    def end(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-17":
            raise MemoryError  # what ends the process, under a guard that does

    world.batch = 5
    world.post(facts(20))
    world.consumer = Tally(end)
    request = world.control.ask("tally", "replay", {})
    ends = 0
    while ends < 9:
        try:
            world.run(lambda: world.control.get(request.id).ended)
        except MemoryError:
            ends += 1
        else:
            break
    assert world.control.get(request.id).state is RequestState.DONE
    assert world.counts() == {State.APPLIED: 19, State.DEAD: 1}
    assert world.fates()["w-17"].strikes == 3
    # With others, then again for the culprit, and alone with each of its first two strikes.
    assert world.consumer.folded.count("w-17") == ends == 3
    assert world.documents() == tallied(without(facts(20), "w-17"))


@pytest.mark.parametrize("mark", ["paused", "problem"])
def test_a_consumer_that_stands_still_does_not_replay(world: World, mark: str) -> None:
    world.post(facts(5))
    world.run()
    request = world.control.ask("tally", "replay", {})
    runner = world.runner(UntilPatience(lambda: world.control.get(request.id).ended))
    world.store.set_mark(mark, "it has a reason")
    runner.run()
    assert world.control.get(request.id).state is RequestState.FAILED
    assert "tally stands still" in world.control.get(request.id).answer["error"]
    assert world.documents() == tallied(facts(5))


# Dead letters.


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ({}, BAD),
        ({"reason": "LookupError"}, ("w-3",)),
        ({"reason": "ValueError: too"}, ("w-7", "w-8")),
        ({"reason": "KeyError"}, ()),
        ({"ids": [event_id("w-7"), event_id("w-0")]}, ("w-7",)),
        ({"ids": [event_id("w-3"), event_id("w-7")], "reason": "ValueError"}, ("w-7",)),
        ({"ids": []}, ()),
    ],
)
def test_redrive_and_discard_take_those_that_ids_and_reason_name(
    world: World, arguments: dict[str, Any], chosen: tuple[str, ...]
) -> None:
    with_dead(world)
    dead = dead_letters(world.log, world.store.open_fates(world.live.number, State.DEAD), arguments)
    assert len(dead) == len(chosen)

    request = asked(world, "discard", arguments)
    assert request.answer == {"changed": len(chosen)}
    discarded = {n for n, fate in world.fates().items() if fate.state is State.DISCARDED}
    assert discarded == set(chosen)
    left = {n for n, fate in world.fates().items() if fate.state is State.DEAD}
    assert left == set(BAD) - set(chosen)

    rest = asked(world, "redrive", {})
    world.run()
    assert rest.answer == {"changed": len(left)}
    assert world.documents() == tallied(without(facts(20), *chosen))


def test_a_redriven_event_has_all_its_attempts_again(world: World) -> None:
    with_dead(world)
    world.consumer, world.ladder = Tally(fails), Ladder((0.0, 0.0))
    asked(world, "redrive", {"ids": [event_id("w-3")]})
    world.run(lambda: world.fates()["w-3"].state is State.DEAD)
    assert world.fates()["w-3"].attempts == 3
    # Each attempt is two folds: with what came beside it, and again to find the culprit.
    assert world.consumer.folded == ["w-3"] * 6
    assert world.fates()["w-7"].attempts == 1
    world.consumer = Tally()
    asked(world, "redrive")
    world.run(lambda: world.counts() == {State.APPLIED: 20})
    assert world.documents() == tallied(facts(20))


def test_a_discarded_event_stays_out_whatever_is_replayed_or_redriven(world: World) -> None:
    with_dead(world)
    asked(world, "discard")
    assert asked(world, "replay").answer == {"applied": 0, "already": 17, "others": 3}
    assert asked(world, "redrive").answer == {"changed": 0}
    assert world.counts() == {State.APPLIED: 17, State.DISCARDED: 3}
    assert "too late" in world.fates()["w-7"].reason


def test_a_discard_of_many_is_resumed_where_it_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 1)
    with_dead(world)
    request = world.control.ask("tally", "discard", {})

    def kill(commit: Commit) -> None:
        if world.counts().get(State.DISCARDED) == 2:
            raise Killed

    world.store.after = kill
    with pytest.raises(Killed):
        world.run(lambda: world.control.get(request.id).ended)
    world.store.after = lambda commit: None
    assert world.counts()[State.DISCARDED] == 2
    world.run(lambda: world.control.get(request.id).ended)
    assert world.counts() == {State.APPLIED: 17, State.DISCARDED: 3}


# Ends that are not good.


def test_an_operation_that_is_cancelled_stops_at_its_next_step_and_keeps_what_it_did(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 4)
    world.post(facts(20))
    world.worker().apply([], through=world.log.settled())  # none has a fate, and none is awaited
    request = world.control.ask("tally", "replay", {})

    def cancel(commit: Commit) -> None:
        if "w-7" in world.fates():
            world.control.cancel(request.id)

    world.store.after = cancel
    world.run(lambda: world.control.get(request.id).ended)
    world.run()
    assert world.control.get(request.id).state is RequestState.CANCELLED
    assert world.counts() == {State.APPLIED: 8}
    assert world.documents() == tallied(facts(8))


def test_what_is_cancelled_before_it_began_is_never_done(world: World) -> None:
    with_dead(world)
    request = world.control.ask("tally", "discard", {})
    world.control.cancel(request.id)
    world.run()
    assert world.counts() == {State.APPLIED: 17, State.DEAD: 3}


def test_an_outage_pauses_an_operation_and_it_goes_on_afterwards(world: World) -> None:
    with_dead(world)
    failures = iter(range(3))

    def fail(commit: Commit) -> None:
        if next(failures, None) is not None:
            raise Outage("the disk is full")

    world.store.before = fail
    request = asked(world, "redrive")
    assert (request.state, request.answer) == (RequestState.DONE, {"changed": 3})
    world.run(lambda: world.counts() == {State.APPLIED: 20})


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        ("dance", {}, "Nobody here knows how to dance"),
        ("replay", {"ids": ["xyz"]}, "'xyz' is no event's id"),
        ("redrive", {"ids": ["6f1c…"]}, "'6f1c…' is no event's id"),
        ("discard", {"ids": [""], "reason": "x"}, "'' is no event's id"),
    ],
)
def test_what_can_not_be_done_fails_with_its_reason_and_the_worker_lives(
    world: World, verb: str, arguments: dict[str, Any], says: str
) -> None:
    with_dead(world)
    request = asked(world, verb, arguments)
    assert request.state is RequestState.FAILED
    assert says in request.answer["error"]
    world.post(facts(1, first=20))
    world.run()
    assert world.documents() == tallied(without(facts(21), *BAD))


def test_a_dry_run_refuses_what_is_no_id_too() -> None:
    with pytest.raises(PacelineError, match="no event's id"):
        selection_of({"ids": ["xyz"]}, ("#",))


def test_what_was_asked_of_one_generation_is_done_in_the_one_that_is_live_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 1)
    with_dead(world)
    world.consumer, world.batch = Tally(fails), 20
    rebuild = world.control.ask("tally", "rebuild", {})
    discard = world.control.ask("tally", "discard", {})
    world.run(lambda: world.control.get(rebuild.id).ended and world.control.get(discard.id).ended)
    assert world.live.number == 2
    assert world.counts() == {State.APPLIED: 17, State.DISCARDED: 3}


def test_dead_letters_of_many_pages_are_all_redriven(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 2)
    with_dead(world)
    world.consumer = Tally()
    request = asked(world, "redrive")
    assert (request.state, request.answer) == (RequestState.DONE, {"changed": 3})
    world.run()
    assert world.counts() == {State.APPLIED: 20}


def test_an_operation_that_breaks_ends_as_failed_and_the_worker_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[None]:
        raise ZeroDivisionError("of ours")
        yield

    monkeypatch.setitem(operations.OPERATIONS, "replay", broken)
    request = asked(world, "replay")
    assert request.state is RequestState.FAILED
    assert request.answer == {"error": "ZeroDivisionError: of ours"}
    world.post(facts(3))
    world.run()
    assert world.counts() == {State.APPLIED: 3}
