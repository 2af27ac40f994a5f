"""Audit: every accepted event is logged, and has one fate for every consumer; or its id is told."""

import shutil
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import apsw
import pytest

from consumers.runtime import audit
from consumers.runtime.audit import (
    AcceptedAudit,
    Accepting,
    ConsumerAudit,
    audit_accepting,
    audit_consumer,
)
from consumers.runtime.fates import Ladder, State
from consumers.runtime.healing import HEALED
from consumers.runtime.operations import operation
from consumers.runtime.store import Commit
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from consumers.runtime.sweep import Sweep
from events.bus import UNREADABLE, Batch, Delivery
from events.envelope import Event, Sealed, seal, workout_event_id
from events.log import Position
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader
from events.workouts import Sport
from tests.factories import workout
from tests.integration.doubles import LaggingLog
from tests.integration.world import ACCEPTED_AT, Tally, World, facts, tallied


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def audited(world: World) -> ConsumerAudit:
    """Audit as the command does: with readers of its own, the store before the log."""
    store = SqliteStoreReader.open(world.folder / "consumers" / "tally.db")
    log = SqliteLogReader.open(world.folder / "log.db")
    try:
        with store.moment():
            live = store.live()
            assert live is not None
            return audit_consumer("tally", store, live, log)
    finally:
        store.close()
        log.close()


def changed(world: World, file: str, sql: str) -> None:
    """Change a file behind everybody's back."""
    connection = apsw.Connection(str(world.folder / file))
    connection.execute(sql)
    assert connection.changes()
    connection.close()


def counted(found: ConsumerAudit) -> dict[str, int]:
    return {str(fate): count for fate, count in found.fates.items() if count}


def fails(event: Event, documents: dict[str, Any]) -> None:
    if event.data.workout_id in ("w-3", "w-4", "w-5"):
        raise LookupError("no such shoe")


def test_the_fates_of_a_healthy_consumer_add_up_to_what_is_logged(world: World) -> None:
    world.consumer = Tally(fails)
    world.consumer.bindings = ("workout.completed.running",)
    world.post(facts(20))
    world.post([workout(workout_id=f"ride-{n}", sport=Sport.CYCLING) for n in range(4)])
    world.ladder = Ladder(())
    world.run()  # w-3, w-4 and w-5 are dead
    for verb, name in (("discard", "w-3"), ("redrive", "w-4")):
        user = {"w-3": "ada", "w-4": "bob"}[name]
        asked = world.control.ask("tally", verb, {"ids": [workout_event_id(user, name)]})
        steps = operation(verb)(
            asked, world.control, world.log, world.store, world.worker(), world.live
        )
        list(steps)
    world.post(facts(6, first=20))
    found = audited(world)
    assert found.holds
    assert found.logged == 30 == sum(found.fates.values())
    assert counted(found) == {
        "applied": 17,
        "dead": 1,
        "discarded": 1,
        "retrying": 1,
        "not-for-it": 4,
        "pending": 6,
    }


def test_a_consumer_that_has_nothing_yet_owes_everything(world: World) -> None:
    world.post(facts(5))
    world.worker()
    found = audited(world)
    assert found.holds
    assert counted(found) == {"pending": 5}


@pytest.mark.parametrize("at_once", [1, 7, 5_000])
def test_an_event_below_the_watermark_without_a_fate_is_told_by_its_id(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", at_once)
    world.post(facts(20))
    world.run()
    assert audited(world).holds
    changed(
        world, "consumers/tally.db", "DELETE FROM fates_1 WHERE position % (1 << 40) IN (1, 8, 20)"
    )
    found = audited(world)
    assert not found.holds
    assert found.without_fate == [
        workout_event_id("ada", "w-0"),
        workout_event_id("bob", "w-7"),
        workout_event_id("bob", "w-19"),
    ]
    assert found.unknown_positions == []


@pytest.mark.parametrize("at_once", [1, 7, 5_000])
@pytest.mark.parametrize("numbers", [(1,), (2, 3), (8,), (14, 15, 16), (20,), range(1, 21)])
def test_a_fate_for_what_is_not_logged_is_told_by_its_position(
    world: World, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...], at_once: int
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", at_once)
    world.post(facts(20))
    world.run()
    (relay,) = world.log.settled()
    gone = ",".join(map(str, numbers))
    changed(world, "log.db", f"DELETE FROM events WHERE number IN ({gone})")
    found = audited(world)
    assert not found.holds
    assert found.unknown_positions == [f"{relay}/{number}" for number in numbers]
    assert found.without_fate == []


def test_fates_beyond_the_end_of_a_restored_log_are_told(world: World) -> None:
    world.post(facts(20))
    world.log.close()
    shutil.copy(world.folder / "log.db", world.folder / "copy.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(3, first=20))
    world.run()
    (first, second) = world.log.settled()
    world.log.close()
    shutil.copy(world.folder / "copy.db", world.folder / "log.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    found = audited(world)
    assert found.logged == 20
    assert found.unknown_positions == [f"{second}/{number}" for number in (21, 22, 23)]
    world.store.commit(1, Commit(applied=[Position(first, 400)]))
    assert f"{first}/400" in audited(world).unknown_positions


def test_audit_holds_at_every_moment_while_events_come_and_are_folded(world: World) -> None:
    done, errors = Flag(), list[Exception]()
    swept = Sweep(world.log, world.store, world.worker(), world.live, size=10)

    def work() -> None:
        try:
            for first in range(0, 1_500, 5):
                world.post(facts(5, first=first))
                if first % 15 == 0:
                    swept.step()
        except Exception as error:  # noqa: BLE001  # told by the thread that asserts
            errors.append(error)
        finally:
            done.set()

    writer = Thread(target=work)
    writer.start()
    audits = []
    while not done.is_set():
        audits.append(audited(world))
    writer.join()
    assert not errors
    assert all(found.holds for found in audits)
    assert all(sum(found.fates.values()) == found.logged for found in audits)
    assert len({found.logged for found in audits}) > 3, "it did not see the log grow"
    assert counted(audited(world))["applied"] > 900


# What comes by a queue: messages that are no events, and fates before a sweep was there.


def unreadable(number: int = 0xABCDE, body: bytes = b"\xff no event") -> Delivery:
    return Delivery(Position(UNREADABLE, number), "workout.completed.running", body)


def asked(world: World, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Have dead letters redriven or discarded; return the answer."""
    request = world.control.ask("tally", verb, arguments)
    list(
        operation(verb)(request, world.control, world.log, world.store, world.worker(), world.live)
    )
    return world.control.get(request.id).answer


def test_a_message_without_a_position_is_dead_with_its_bytes_and_listed_apart(
    world: World,
) -> None:
    world.post(facts(5))
    world.run()
    world.worker().take(Batch([unreadable(), unreadable(), unreadable(7, b"another")]))
    found = audited(world)
    assert (found.unreadable, found.logged) == (2, 5)
    assert found.holds
    assert counted(found) == {"applied": 5}
    dead = dict(world.store.open_fates(world.live.number, State.DEAD))
    reason = dead[Position(UNREADABLE, 0xABCDE)].reason
    assert b64encode(b"\xff no event").decode() in reason
    assert {fate.attempts for fate in dead.values()} == {1}


def test_a_message_without_a_position_is_dead_though_it_is_a_whole_event(world: World) -> None:
    """Its position is its key: without one it might be counted a second time by the sweep."""
    world.post(facts(5))
    world.worker().take(Batch([unreadable(9, world.deliveries()[0].body)]))
    world.run()
    assert world.documents() == tallied(facts(5))
    assert audited(world).unreadable == 1


def test_one_without_a_position_that_is_very_long_is_kept_in_part(world: World) -> None:
    world.worker().take(Batch([unreadable(body=b"\xff" * (20 << 20))]))
    ((_, fate),) = world.store.open_fates(world.live.number, State.DEAD)
    assert fate.reason.startswith("Undecodable")
    assert len(fate.reason) + len(fate.trace) < 20_000


def test_it_cannot_be_redriven_and_it_can_be_discarded(world: World) -> None:
    def fail(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id == "w-3":
            raise LookupError("no such shoe")

    world.consumer, world.ladder = Tally(fail), Ladder(())
    world.post(facts(5))
    world.run()
    world.worker().take(Batch([unreadable()]))
    assert asked(world, "redrive", {}) == {"changed": 1}  # w-3
    assert world.counts() == {State.APPLIED: 4, State.RETRYING: 1, State.DEAD: 1}
    assert asked(world, "redrive", {"reason": "Undecodable"}) == {"changed": 0}
    assert asked(world, "discard", {"reason": "Undecodable"}) == {"changed": 1}
    assert world.counts() == {State.APPLIED: 4, State.RETRYING: 1, State.DISCARDED: 1}
    found = audited(world)
    assert (found.unreadable, found.holds) == (1, True)


def test_a_rebuild_takes_over_one_that_was_discarded_and_the_audit_holds(world: World) -> None:
    world.post(facts(5))
    world.run()
    world.worker().take(Batch([unreadable()]))
    asked(world, "discard", {})
    world.consumer = Tally(version=2)
    world.run(lambda: world.live.version == 2)
    assert world.counts() == {State.APPLIED: 5, State.DISCARDED: 1}
    found = audited(world)
    assert (found.unreadable, found.holds) == (1, True)


def test_what_was_healed_is_told(world: World) -> None:
    world.post(facts(5))
    world.run()
    assert audited(world).healed == 0
    world.store.set_mark(HEALED, "12")
    assert audited(world).healed == 12


def test_a_fate_past_the_watermark_counts_as_what_it_is_and_the_rest_is_pending(
    world: World,
) -> None:
    world.post(facts(5))
    world.run()
    world.post(facts(10, first=5))
    world.worker().take(Batch(world.deliveries()[8:12]))
    found = audited(world)
    assert found.holds
    assert counted(found) == {"applied": 9, "pending": 6}


def test_what_a_relay_left_unsettled_is_audited_with_its_fates(world: World) -> None:
    world.post(facts(5))
    world.run()
    world.post(facts(5, first=5))
    world.worker().take(Batch(world.deliveries()[6:8]))
    log = LaggingLog(world.log)
    (relay,) = world.log.settled()
    log.held[relay] = 5
    found = audit_consumer("tally", world.store, world.live, log)
    assert found.holds
    assert found.logged == 10
    assert counted(found) == {"applied": 7, "pending": 3}


def test_a_relay_that_ended_before_it_had_settled_anything_is_audited_too(world: World) -> None:
    world.post(facts(5))
    world.run()
    former = world.log
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(5, first=5))
    log = LaggingLog(world.log)
    _, relay = world.log.settled()
    log.held[relay] = 0
    world.worker().take(Batch(world.deliveries()[6:8]))
    found = audit_consumer("tally", world.store, world.live, log)
    assert found.holds
    assert found.logged == 10
    assert counted(found) == {"applied": 7, "pending": 3}
    former.close()


# What the accepting host remembers.


def sealed(count: int) -> list[Sealed]:
    return [seal(fact, accepted_at=ACCEPTED_AT) for fact in facts(count)]


def remembered(events: list[Sealed], *, passed: int, stuck: tuple[int, ...] = ()) -> Accepting:
    rows = [(row, event.id) for row, event in enumerate(events, start=1)]
    return Accepting("door", passed, frozenset(stuck), rows)


def test_what_was_accepted_is_logged_or_in_the_outbox(world: World) -> None:
    events = sealed(1_200)
    world.log.append(events[:1_100], source="door")
    found = audit_accepting(remembered(events, passed=1_100), world.log)
    assert found == AcceptedAudit("door", accepted=1_200, logged=1_100, in_outbox=100)


def test_what_is_logged_before_the_bookmark_moves_counts_as_logged(world: World) -> None:
    events = sealed(10)
    world.log.append(events, source="door")
    found = audit_accepting(remembered(events, passed=0), world.log)
    assert (found.logged, found.in_outbox, found.missing) == (10, 0, [])


def test_what_conflicts_and_what_is_stuck_is_counted_apart(world: World) -> None:
    first = seal(workout(workout_id="w-0", user_id="ada"), accepted_at=ACCEPTED_AT)
    world.log.append([first], source="other")
    events = sealed(10)
    world.log.append([*events[:4], *events[5:]], source="door")  # w-0 tells something else
    found = audit_accepting(remembered(events, passed=10, stuck=(5,)), world.log)
    assert (found.conflicting, found.stuck, found.logged) == (1, 1, 8)
    assert found.missing == []


def test_an_accepted_event_that_the_relay_has_passed_and_the_log_has_not_is_told(
    world: World,
) -> None:
    events = sealed(600)
    world.log.append(events, source="door")
    changed(world, "log.db", "DELETE FROM events WHERE number IN (1, 400, 600)")
    found = audit_accepting(remembered(events, passed=600), world.log)
    assert found.missing == [events[0].id, events[399].id, events[599].id]
    assert found.logged == 597


def test_what_the_log_refused_for_itself_is_a_fault_with_its_id(world: World) -> None:
    world.post(facts(1))
    logged, refused = (workout_event_id("ada", f"w-{number}") for number in (0, 7))
    host = Accepting("source", 2, frozenset({2}), [(1, logged), (2, refused)])
    found = audit_accepting(host, world.log)
    assert (found.logged, found.stuck, found.set_aside, found.missing) == (1, 1, [refused], [])
