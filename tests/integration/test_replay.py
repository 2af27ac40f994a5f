"""Replays in full: thousands of ids, a rate, live traffic beside it, and handlers."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from consumers.runtime import operations, pace
from consumers.runtime.control import Request, RequestState
from consumers.runtime.fates import APPLIED, Fate, Ladder, State
from consumers.runtime.operations import replay_to_handler
from consumers.runtime.selecting import chosen_ids
from consumers.runtime.store import Change, Commit
from events.envelope import Event, seal, workout_event_id
from events.errors import PacelineError
from events.workouts import WorkoutCompleted
from tests.integration.doubles import Killed
from tests.integration.place import Place
from tests.integration.shell import installed, printed, run, working
from tests.integration.world import (
    ACCEPTED_AT,
    USERS,
    Tally,
    World,
    append,
    facts,
    tallied,
    until,
    without,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def asked(world: World, arguments: dict[str, Any]) -> Request:
    """Ask for a replay, run until it has ended, and return the request."""
    request = world.control.ask("tally", "replay", arguments)
    world.run(lambda: world.control.get(request.id).ended)
    return world.control.get(request.id)


def ids_of(workouts: Sequence[WorkoutCompleted]) -> list[str]:
    return [workout_event_id(one.user_id, one.workout_id) for one in workouts]


def overlooked(world: World, workouts: Sequence[WorkoutCompleted]) -> None:
    """Log workouts that the consumer has passed, and that have no fate for it."""
    world.post(workouts)
    world.worker().apply([], through=world.log.settled())


# By ids.


def test_thousands_of_ids_are_replayed_and_nothing_else(world: World) -> None:
    overlooked(world, facts(1_600))
    wanted = facts(1_400, first=100)
    unknown = [workout_event_id("x", f"y-{n}") for n in range(300)]
    request = asked(world, chosen_ids(ids_of(wanted) + unknown))
    assert request.answer == {"applied": 1_400, "already": 0, "others": 0}
    assert request.total == 1_400
    assert world.documents() == tallied(wanted)


def test_a_replay_by_ids_that_was_killed_goes_on_and_counts_nothing_twice(world: World) -> None:
    overlooked(world, facts(1_600))
    wanted = facts(1_400)
    request = world.control.ask("tally", "replay", chosen_ids(ids_of(wanted)))

    def kill(commit: Commit) -> None:
        if world.counts().get(State.APPLIED, 0) >= 1_000:
            raise Killed

    world.store.after = kill
    with pytest.raises(Killed):
        world.run(lambda: world.control.get(request.id).ended)
    world.store.after = lambda commit: None
    assert 0 < world.control.get(request.id).memory["done"] < 1_400
    world.run(lambda: world.control.get(request.id).ended)
    ended = world.control.get(request.id)
    assert ended.answer["applied"] + ended.answer["already"] == 1_400
    assert world.documents() == tallied(wanted)


def test_more_ids_than_a_request_can_carry_are_refused_with_what_to_do() -> None:
    ids = [workout_event_id("ada", f"w-{n}") for n in range(100_001)]
    assert chosen_ids(ids[1:])
    with pytest.raises(PacelineError, match="100001 ids are more than 100000 at once; select by"):
        chosen_ids(ids)


def test_what_was_asked_with_many_ids_is_listed_by_how_many_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in installed(tmp_path, monkeypatch):
        ids = [workout_event_id("ada", f"w-{n}") for n in range(51)]
        world.control.ask("tally", "replay", {"user": "ada", **chosen_ids(ids)})
        world.control.ask("tally", "replay", chosen_ids(ids[:50]))
        few, many = printed("operations", "list")
        assert few["arguments"] == {"ids": ids[:50]}
        assert many["arguments"] == {"user": "ada", "ids": "51 ids"}


def test_ids_come_from_a_file_or_from_stdin_beside_those_that_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for world in installed(tmp_path, monkeypatch):
        w0, w1, w2, w4 = ids_of([facts(5)[n] for n in (0, 1, 2, 4)])
        file = tmp_path / "ids.txt"
        file.write_text(f"\ufeff{w0}\n\n  {w1.upper()}\r\n{w0}\n{w2}")
        dry = ("replay", "--dry-run", "--json")
        (selected,) = json.loads(run(*dry, "--ids-from", str(file), "--id", w4).stdout)
        assert selected == {"consumer": "tally", "selected": 4}
        (selected,) = json.loads(run(*dry, "--ids-from", "-", answers=f"{w4}\n").stdout)
        assert selected["selected"] == 1
        file.write_text("\n")
        (selected,) = json.loads(run(*dry, "--ids-from", str(file)).stdout)
        assert selected["selected"] == 0
        with working(world):
            (done,) = printed("replay", "--ids-from", str(file))
            assert done == {"consumer": "tally", "applied": 0, "already": 0, "others": 0}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("27897c33-def6-5aa3-8056-c01a16ac6988\nw-1\n", "line 2: 'w-1' is no event's id."),
        ("\udcff\udcfe", "line 1: "),
        (None, "No such file"),
    ],
)
def test_a_file_of_ids_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, says: str
) -> None:
    for _ in installed(tmp_path, monkeypatch):
        file = tmp_path / "ids.txt"
        if content is not None:
            file.write_text(content, errors="surrogateescape")
        (line,) = run("replay", "--ids-from", str(file), code=1).stderr.splitlines()
        assert line.startswith("paceline: ")
        assert says in line
        assert str(file) in line


def test_a_folder_instead_of_a_file_of_ids_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in installed(tmp_path, monkeypatch):
        (line,) = run("replay", "--ids-from", str(tmp_path), code=1).stderr.splitlines()
        assert line == f"paceline: {tmp_path} cannot be used: Is a directory."


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "0"),
        ("--rate", "-1"),
        ("--rate", "fast"),
        ("--rate", "nan"),
        ("--rate", "inf"),
        ("--from", "0001-01-01T00:00:00+14:00"),
        ("--to-queue", "q", "--rate", "5"),
        ("--to-queue", "q", "--act"),
        ("--to-queue", "q", "--consumer", "tally"),
    ],
    ids=" ".join,
)
def test_what_can_not_be_meant_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for _ in installed(tmp_path, monkeypatch):
        run("replay", *arguments, code=2)


def test_what_is_not_for_a_consumer_because_it_is_older_is_not_of_its_replay(
    world: World,
) -> None:
    world.post(facts(5))
    late = [seal(one, accepted_at=LATER) for one in facts(4, first=5)]
    world.log.append(late, source="door")
    since_ms = int(LATER.timestamp() * 1000)
    world.store.begin(version=1, code="c", bindings=("#",), indexes={}, since_ms=since_ms)
    # Asked without a time, with one before that moment, and with one after it.
    for asked_from, count in ((None, 4), (ACCEPTED_AT, 4), (LATER + timedelta(hours=1), 0)):
        request = world.control.ask("tally", "replay", {"from": asked_from and str(asked_from)})
        parts = (world.control, world.log, world.store, world.worker(), world.live)
        assert len(list(operations.replay(request, *parts))) == (1 if count else 0)
        ended = world.control.get(request.id)
        assert (ended.total, sum(ended.answer.values())) == (count, count)
    assert world.documents() == tallied(facts(4, first=5))


# At a rate.


class Moving:
    """Stands in for the module `time` where the pace is kept; sleeping moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_replay_keeps_its_rate_and_live_events_do_not_wait_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Moving()
    monkeypatch.setattr(pace, "time", clock)
    overlooked(world, facts(20))
    live = facts(6, first=20)
    seen: list[tuple[float, int]] = []
    taken_at: list[float] = []

    def look(commit: Commit) -> None:
        if commit.through:  # a live batch; each brings the next one
            taken_at.append(clock.now)
            world.post([live.pop()] if live else [])
        seen.append((clock.now, world.counts().get(State.APPLIED, 0)))

    request = world.control.ask("tally", "replay", {"rate": 4})
    world.post([live.pop()])
    world.store.after = look
    world.run(lambda: world.control.get(request.id).ended)
    assert world.control.get(request.id).answer["applied"] >= 20 - 1
    assert clock.now >= (20 - 1) / 4
    assert world.documents() == tallied(facts(26))
    # All six were taken while the replay had hardly begun: none waited for its pace.
    assert len(taken_at) == 6
    assert taken_at[-1] < 0.1
    for now, applied in seen:
        assert applied <= 1 + 4 * now + 6 + 1e-6


def test_a_replay_that_waits_for_its_rate_can_be_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlooked(world, facts(20))
    request = world.control.ask("tally", "replay", {"rate": 0.0001})
    rests = 0

    def rest(self: pace.Pace) -> None:
        nonlocal rests
        rests += 1
        if rests == 5:
            world.control.cancel(request.id)

    monkeypatch.setattr(pace.Pace, "rest", rest)
    world.run(lambda: world.control.get(request.id).ended)
    assert world.control.get(request.id).state is RequestState.CANCELLED
    assert rests == 5
    assert world.counts() == {State.APPLIED: 1}  # the first one may come at once


# While live traffic flows.


def test_a_replay_is_exact_and_ends_while_events_come_in_at_every_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 7)
    world.post(facts(40))
    world.run()
    overlooked(world, facts(30, first=40))
    posted, request = 70, world.control.ask("tally", "replay", {})

    def post(commit: Commit) -> None:
        nonlocal posted
        # As long as it is open there are more: it must not wait for the last of them.
        if not world.control.get(request.id).ended:
            world.post(facts(9, first=posted))
            posted += 9
            assert posted < 2_000

    world.store.after = post
    world.run(lambda: world.control.get(request.id).ended)
    world.store.after = lambda commit: None
    ended = world.control.get(request.id)
    assert ended.state is RequestState.DONE
    assert ended.answer["already"] >= 40
    assert ended.answer["applied"] >= 30
    assert ended.answer["others"] == 0
    world.run()
    assert posted > 70 + 9 * 5
    assert world.documents() == tallied(facts(posted))
    assert world.counts() == {State.APPLIED: posted}


def test_replays_by_command_beside_a_real_worker_and_live_traffic_count_nothing_twice(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "place", batch=50)
    place.plug_in()
    append(place.log, facts(200))
    worker = place.start("consume", "tally")
    over, posted = Flag(), 200

    def post() -> None:
        nonlocal posted
        while not over.is_set():
            append(place.log, facts(5, first=posted))
            posted += 5

    try:
        until(place.documents, what="it has begun")
        thread = Thread(target=post)
        thread.start()
        try:
            whole = _replayed(place)
            at_a_rate = _replayed(place, "--user", USERS[0], "--to", "2100-01-01T00:00:00Z")
        finally:
            over.set()
            thread.join()
        assert whole["applied"] + whole["already"] >= 200
        assert at_a_rate["applied"] + at_a_rate["already"] >= 67
        expected = tallied(facts(posted))
        until(lambda: place.documents() == expected, what="all is applied, once")
        place.stop(worker)
        audited: subprocess.CompletedProcess[str] = place.command("audit")
        assert audited.returncode == 0, audited
        assert posted > 200
    finally:
        place.close()


def _replayed(place: Place, *arguments: str) -> dict[str, Any]:
    done = place.command("replay", "--rate", "100000", *arguments, "--json")
    assert done.returncode == 0, done
    (row,) = json.loads(done.stdout)
    assert row.pop("consumer") == "tally"
    assert row["others"] == 0
    return dict(row)


# To handlers.


def done_by_handler(world: World, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do a replay as the worker of a handler does; return its answer."""
    world.worker()  # begins a generation where there is none
    request = world.control.ask("tally", "replay", arguments)
    parts = (world.control, world.log, world.store, world.worker(), world.live)
    for _ in replay_to_handler(request, *parts):
        pass
    ended = world.control.get(request.id)
    assert ended.state is RequestState.DONE
    return ended.answer


def fails(event: Event, documents: dict[str, Any]) -> None:
    if event.data.workout_id == "w-1":
        raise ValueError("too late")


def handled(world: World) -> None:
    """A log of 30 events: before its arrival 20 that are not for it, then 9 applied and 1 dead."""
    overlooked(world, facts(20, first=10))
    world.consumer, world.ladder = Tally(fails), Ladder(())
    world.log.append([seal(one, accepted_at=LATER) for one in facts(10)], source="door")
    world.run()
    assert world.counts() == {State.APPLIED: 9, State.DEAD: 1}


LATER = ACCEPTED_AT + timedelta(hours=1)


def test_a_replay_to_a_handler_changes_nothing_and_says_so(world: World) -> None:
    handled(world)
    before = world.fates()
    answer = done_by_handler(world, {"user": "ada"})
    assert answer["due"] == 0
    assert "--act" in answer["note"]
    assert world.fates() == before


def test_with_act_what_has_no_fate_is_due_now_and_what_has_one_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_AT_ONCE", 4)
    handled(world)
    before = world.fates()
    answer = done_by_handler(world, {"act": True})
    assert answer == {"due": 20, "already": 9, "others": 1}
    after = world.fates()
    assert {name: after[name] for name in before} == before
    due = {name: fate for name, fate in after.items() if name not in before}
    assert set(due) == {one.workout_id for one in facts(20, first=10)}
    assert {(fate.state, fate.attempts, fate.strikes) for fate in due.values()} == {
        (State.RETRYING, 0, 0)
    }
    # Again it makes nothing due, and what is due is taken as a retry is: once.
    assert done_by_handler(world, {"act": True}) == {"due": 0, "already": 9, "others": 21}
    world.run(lambda: State.RETRYING not in world.counts())
    assert world.documents() == tallied(without(facts(30), "w-1"))
    assert world.counts() == {State.APPLIED: 29, State.DEAD: 1}


def test_with_act_only_what_is_selected_is_due(world: World) -> None:
    handled(world)
    assert done_by_handler(world, {"act": True, "from": LATER.isoformat()})["due"] == 0
    assert done_by_handler(world, {"act": True, "user": USERS[1]})["due"] == 7
    chosen = ids_of(facts(3, first=20))
    assert done_by_handler(world, {"act": True, "ids": chosen})["due"] == 2
    due = {name for name, fate in world.fates().items() if fate.state is State.RETRYING}
    assert due == {one.workout_id for one in facts(20, first=10) if one.user_id == USERS[1]} | {
        one.workout_id for one in facts(3, first=20)
    }


def test_an_event_that_another_worker_takes_meanwhile_is_not_made_due(world: World) -> None:
    handled(world)
    (position,) = [row.position for row in world.log.scan(selection("w-12"), limit=9)]

    def take_it(commit: Commit) -> None:
        world.store.before = lambda commit: None
        change = Change(position, None, APPLIED)
        world.store.commit(world.live.number, Commit(changes=[change]))

    world.store.before = take_it
    assert done_by_handler(world, {"act": True}) == {"due": 19, "already": 10, "others": 1}
    assert world.fates()["w-12"] == Fate(state=State.APPLIED)


def selection(workout_id: str) -> Any:
    (fact,) = [one for one in facts(30) if one.workout_id == workout_id]
    return operations.selection_of({"ids": ids_of([fact])}, ("#",))


def test_counts_of_handlers_and_of_projections_stand_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "tally": {"applied": 3, "already": 1, "others": 0},
        "push": {"due": 7, "already": 2, "others": 0},
    }

    class Answered:
        def __init__(self, answer: dict[str, Any]) -> None:
            self.answer = answer

    monkeypatch.setattr("consumers.operation_commands.with_state", lambda platform: list(answers))
    monkeypatch.setattr(
        "consumers.operation_commands.ask",
        lambda platform, name, verb, arguments: Answered(answers[name]),
    )
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    heads, tally, push = run("replay").stdout.splitlines()
    assert heads.split() == ["consumer", "applied", "already", "others", "due"]
    assert tally.split() == ["tally", "3", "1", "0"]
    assert push.split() == ["push", "2", "0", "7"]
