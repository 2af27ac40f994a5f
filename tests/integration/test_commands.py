"""What the commands print, for people and for machines, and how they end."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from consumers.runtime.control import RequestState
from events.envelope import Event, seal, workout_event_id
from events.lock import FileLock
from events.sources import Bookmark
from producer.outbox import Outbox
from tests.integration.shell import PLUGIN, installed, printed, run, working
from tests.integration.world import ACCEPTED_AT, Tally, World, append, facts, until


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


def test_consumers_are_listed_with_what_they_do(world: World) -> None:
    (listed,) = printed("consumers", "list")
    assert listed["name"] == "tally"
    assert listed["state"] == "stopped"
    assert (listed["version"], listed["applied"], listed["dead"], listed["lag"]) == (1, 18, 2, 0)
    table = run("consumers", "list").stdout
    assert re.search(r"tally +stopped +1 +0 +18 +0 +2", table)
    with working(world):
        until(lambda: printed("consumers", "list")[0]["state"] == "live", what="it is live")


def test_a_consumer_is_paused_and_resumed(world: World) -> None:
    with working(world):
        assert "tally stands still" in run("consumers", "pause", "tally").stdout
        append(world.log, facts(3, first=20))
        assert printed("consumers", "list")[0]["state"] == "paused"
        assert printed("consumers", "list")[0]["lag"] == 3
        assert "tally goes on" in run("consumers", "resume", "tally").stdout
        until(lambda: printed("consumers", "list")[0]["applied"] == 21, what="they are applied")


def test_a_replay_says_first_how_many_and_then_what_became_of_them(world: World) -> None:
    assert printed("replay", "--dry-run") == [{"consumer": "tally", "selected": 20}]
    assert printed("replay", "--dry-run", "--user", "ada")[0]["selected"] == 7
    assert printed("replay", "--dry-run", "--type", "workout.deleted")[0]["selected"] == 0
    ids = [workout_event_id("ada", "w-0"), workout_event_id("bob", "w-1")]
    assert printed("replay", "--dry-run", "--id", ids[0], "--id", ids[1])[0]["selected"] == 2
    at = "2026-11-24T10:00:00+01:00"
    assert printed("replay", "--dry-run", "--from", at)[0]["selected"] == 20
    assert printed("replay", "--dry-run", "--to", at)[0]["selected"] == 0
    assert printed("operations", "list") == []
    with working(world):
        assert printed("replay", "--consumer", "tally") == [
            {"consumer": "tally", "applied": 0, "already": 18, "others": 2}
        ]


def test_a_rebuild_says_first_how_many_and_then_which_generation_is_live(world: World) -> None:
    assert printed("rebuild", "tally", "--dry-run") == [{"consumer": "tally", "events": 20}]
    with working(world):
        assert printed("rebuild", "tally") == [
            {"consumer": "tally", "generation": 2, "applied": 20}
        ]
    (operation,) = printed("operations", "list")
    assert datetime.fromisoformat(operation.pop("asked_at")) <= datetime.now(UTC)
    assert operation == {
        "id": 1,
        "consumer": "tally",
        "verb": "rebuild",
        "arguments": {},
        "state": "done",
        "done": 20,
        "total": 20,
        "answer": {"generation": 2, "applied": 20},
    }


def test_dead_letters_are_grouped_by_consumer_and_error(world: World) -> None:
    groups = printed("dead-letters", "list")
    assert [(one["consumer"], one["events"], one["reason"]) for one in groups] == [
        ("tally", 1, "LookupError: no such shoe"),
        ("tally", 1, "ValueError: too late"),
    ]
    assert printed("dead-letters", "list", "--consumer", "tally") == groups
    assert "LookupError: no such shoe" in run("dead-letters", "list").stdout


def test_dead_letters_are_shown_one_by_one_with_their_traceback(world: World) -> None:
    letters = printed("dead-letters", "show", "tally")
    assert {one["event_id"] for one in letters} == {
        workout_event_id("ada", "w-3"),
        workout_event_id("bob", "w-7"),
    }
    assert all("in fails" in one["traceback"] for one in letters)
    (one,) = printed("dead-letters", "show", "tally", "--reason", "ValueError")
    assert (one["reason"], one["attempts"], one["strikes"]) == ("ValueError: too late", 1, 0)
    assert len(printed("dead-letters", "show", "tally", "--limit", "1")) == 1
    text = run("dead-letters", "show", "tally").stdout
    assert 'raise LookupError("no such shoe")' in text


@pytest.mark.parametrize(("verb", "state"), [("redrive", "applied"), ("discard", "discarded")])
def test_dead_letters_are_changed_when_it_was_shown_and_said_yes(
    world: World, verb: str, state: str
) -> None:
    with working(world):
        refused = run("dead-letters", verb, "tally", answers="n\n", code=1)
        assert f"tally: {verb} would change 2" in refused.stdout
        assert "1 x LookupError: no such shoe" in refused.stdout
        assert "Nothing was changed." in refused.stdout
        run("dead-letters", verb, "tally", code=1)  # nobody there to ask
        assert printed("operations", "list") == []
        assert len(printed("dead-letters", "list")) == 2

        ids = workout_event_id("ada", "w-3"), workout_event_id("ada", "w-0")
        by_id = run("dead-letters", verb, "tally", "--id", ids[0], "--id", ids[1], answers="y\n")
        assert "1 changed." in by_id.stdout
        assert [one["reason"] for one in printed("dead-letters", "list")] == [
            "ValueError: too late"
        ]
        none = run("dead-letters", verb, "tally", "--reason", "LookupError")
        assert "tally: there is no such dead letter." in none.stdout
        assert "1 changed." in run("dead-letters", verb, "tally", "--yes").stdout
        until(lambda: not printed("consumers", "list")[0]["retrying"], what="they are folded")
    assert printed("dead-letters", "list") == []
    assert "There is no dead letter." in run("dead-letters", "list").stdout
    counts = printed("consumers", "list")[0]
    assert counts[state] == (20 if state == "applied" else 2)


def test_an_operation_can_be_cancelled_and_is_then_told_to_who_waits(world: World) -> None:
    request = world.control.ask("tally", "rebuild", {})
    assert run("operations", "cancel", str(request.id)).stdout == "Operation 1 is cancelled.\n"
    assert world.control.get(request.id).state is RequestState.CANCELLED
    listed = run("operations", "list").stdout
    assert re.search(r"1 +tally +rebuild +cancelled", listed)

    def cancel_it() -> None:
        until(lambda: world.control.listed()[0].id == 2, what="it is asked for")
        world.control.cancel(2)

    with FileLock(world.folder / "consumers" / "tally.db"):  # a worker that never looks
        thread = Thread(target=cancel_it)
        thread.start()
        told = run("rebuild", "tally", code=1)
        thread.join()
    assert told.stderr == "paceline: Operation 2 was cancelled.\n"


def test_a_command_whose_worker_ends_before_it_has_served_starts_one_for_itself(
    world: World,
) -> None:
    def end_without_serving(lock: FileLock) -> None:
        until(lambda: world.control.listed(), what="it is asked for")
        lock.release()

    lock = FileLock(world.folder / "consumers" / "tally.db")
    thread = Thread(target=end_without_serving, args=(lock,))
    thread.start()
    assert "tally stands still" in run("consumers", "pause", "tally").stdout
    thread.join()
    assert world.store.mark("paused") is not None
    FileLock(world.folder / "consumers" / "tally.db").release()


def test_an_audit_of_what_is_well_says_so(world: World) -> None:
    result = run("audit")
    assert "audited=tally  logged=20  applied=18  retrying=0  dead=2" in result.stdout
    assert result.stdout.endswith("Every event has its fate.\n")
    (found,) = printed("audit")
    assert found["faults"] == []
    assert found["audited"][0]["logged"] == 20


def test_an_audit_that_does_not_hold_tells_the_ids_and_exits_with_1(world: World) -> None:
    number = "position % (1 << 40)"
    db = world.store._db
    db.execute(f"DELETE FROM fates_1 WHERE {number} = 6")
    db.execute(f"UPDATE fates_1 SET position = position + 100 WHERE {number} = 9")
    (relay,) = world.log.settled()
    told = run("audit", code=1)
    w5, w8 = workout_event_id("cyd", "w-5"), workout_event_id("cyd", "w-8")
    assert told.stderr.splitlines() == [
        f"WRONG: tally has no fate for {w5}",
        f"WRONG: tally has no fate for {w8}",
        f"WRONG: tally has a fate for a position not logged, {relay}/109",
    ]
    assert told.stdout.endswith("It does not hold.\n")
    (found,) = printed("audit", code=1)
    assert [fault["id"] for fault in found["faults"]] == [w5, w8, f"{relay}/109"]


def test_an_accepted_event_that_the_log_has_not_is_told_by_its_id(world: World) -> None:
    events = [seal(fact, accepted_at=ACCEPTED_AT) for fact in facts(22)]
    outbox = Outbox(world.folder / "outbox.db", passed=lambda source: 0)
    outbox.accept(events)
    # The relay says that it has passed one more than the log has; the last one is still to come.
    world.log.save(Bookmark(outbox.source_id, 21, events[20].id))
    outbox.close()
    told = run("audit", code=1)
    assert told.stderr == f"WRONG: accepted and not logged {events[20].id}\n"
    (found,) = printed("audit", code=1)
    accepting = found["audited"][0]
    assert (accepting["accepted"], accepting["logged"], accepting["in_outbox"]) == (22, 20, 1)


def test_events_are_listed_by_what_is_asked_for(world: World) -> None:
    listed = printed("events", "list")
    assert [one["number"] for one in listed] == list(range(1, 21))
    assert listed[0]["event_id"] == workout_event_id("ada", "w-0")
    assert listed[0]["routing_key"] == "workout.completed.running"
    assert len(printed("events", "list", "--user", "bob")) == 7
    assert len(printed("events", "list", "--limit", "3")) == 3
    assert printed("events", "list", "--type", "workout.deleted") == []
    assert printed("events", "list", "--from", "2026-11-24T09:00:01Z") == []
    assert "No such event is logged." in run("events", "list", "--user", "nobody").stdout


def test_one_event_is_shown_whole(world: World) -> None:
    shown = json.loads(run("events", "show", workout_event_id("bob", "w-1")).stdout)
    assert (shown["specversion"], shown["subject"]) == ("1.0", "bob")
    assert shown["data"]["workout_id"] == "w-1"


def test_the_settings_in_force_are_shown_with_their_origin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_BATCH", "7")
    found = {one["name"]: one for one in printed("config")}
    assert (found["PACELINE_BATCH"]["value"], found["PACELINE_BATCH"]["origin"]) == (
        "7",
        "environment",
    )
    assert found["PACELINE_PORT"]["origin"] == "default"
    assert "PACELINE_BATCH=7  (environment" in run("config").stdout


def test_the_doctor_finds_a_plug_in_that_could_not_be_loaded(world: World) -> None:
    assert all(one["ok"] for one in printed("doctor"))
    broken = world.folder / "plugins" / "broken.py"
    broken.write_text(PLUGIN.replace("tally", "broken").replace("def fold", "def unfold"))
    found = {one["what"]: one for one in printed("doctor", code=1)}
    assert not found["consumer broken"]["ok"]
    assert str(broken) in found["consumer broken"]["detail"]
    assert found["consumer tally"]["ok"]
    told = run("doctor", code=1).stdout
    assert f"BAD  consumer broken: {broken}: fold() is missing" in told


def test_errors_of_one_kind_are_one_group_whatever_their_text(world: World) -> None:
    def nobody(event: Event, documents: dict[str, Any]) -> None:
        raise KeyError(event.data.workout_id)

    world.consumer = Tally(nobody)
    world.post(facts(3, first=50))
    world.run()
    (group,) = [one for one in printed("dead-letters", "list") if "KeyError" in one["reason"]]
    assert group["events"] == 3
