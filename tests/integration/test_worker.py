"""The worker on a real store: one bad event costs nothing else, and each event counts once."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.fates import Fate, Ladder, State
from consumers.runtime.store import Change, Commit
from events import upcasters
from events.bus import Batch, Delivery
from events.envelope import Event
from events.errors import Refused
from tests.integration.world import Misdeed, Tally, World, facts, tallied, without

BAD = "w-250"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally())
    yield world
    world.close()


def only_bad(misdeed: Misdeed, *ids: str) -> Misdeed:
    """Do this for the bad event, or for these."""

    def act(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id in (ids or (BAD,)):
            misdeed(event, documents)

    return act


def _raise(event: Event, documents: dict[str, Any]) -> None:
    raise LookupError("no such shoe")


def _raise_half_way(event: Event, documents: dict[str, Any]) -> None:
    for document in documents.values():
        document.clear()
        document["count"] = -1
    raise LookupError("no such shoe")


def _add_key(event: Event, documents: dict[str, Any]) -> None:
    documents["another"] = {"count": 1}


def _write_no_json(event: Event, documents: dict[str, Any]) -> None:
    documents[event.user_id]["odd"] = {"deep": [object()]}


def _write_a_list(event: Event, documents: dict[str, Any]) -> None:
    documents[event.user_id] = [1]


def _grow(event: Event, documents: dict[str, Any]) -> None:
    documents[event.user_id]["odd"] = "x" * (1 << 20)


class BadKeys(Tally):
    """Has keys for the bad event that no document can have."""

    def keys(self, event: Event) -> list[str]:
        return ["new\nline"] if event.data.workout_id == BAD else super().keys(event)


BAD_CONSUMERS: dict[str, tuple[Callable[[], Tally], State, str]] = {
    "raises": (lambda: Tally(only_bad(_raise)), State.RETRYING, "LookupError: no such shoe"),
    "raises half way": (lambda: Tally(only_bad(_raise_half_way)), State.RETRYING, "LookupError"),
    "adds a key": (lambda: Tally(only_bad(_add_key)), State.DEAD, "BadFold: fold() added"),
    "writes no JSON": (lambda: Tally(only_bad(_write_no_json)), State.RETRYING, "TypeError"),
    "writes a list": (lambda: Tally(only_bad(_write_a_list)), State.DEAD, "BadFold: fold() put"),
    "grows": (lambda: Tally(only_bad(_grow)), State.DEAD, "TooLarge: Document bob has 1048"),
    "returns bad keys": (BadKeys, State.DEAD, "BadFold: keys() gave"),
}


@pytest.mark.parametrize(
    ("consumer", "state", "reason"), BAD_CONSUMERS.values(), ids=BAD_CONSUMERS.keys()
)
def test_one_bad_event_in_a_batch_of_500_costs_the_other_499_nothing(
    world: World, consumer: Callable[[], Tally], state: State, reason: str
) -> None:
    workouts = facts(500)
    world.post(workouts)
    world.consumer = consumer()
    applied = world.worker().apply(world.deliveries(), through=world.log.settled())
    assert applied == 499
    assert world.documents() == tallied(without(workouts, BAD))
    assert world.counts() == {State.APPLIED: 499, state: 1}
    fate = world.fates()[BAD]
    assert (fate.state, fate.attempts, fate.version) == (state, 1, 1)
    assert fate.reason.startswith(reason)
    assert fate.reason.partition(":")[0] in fate.trace
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_what_is_refused_for_its_size_is_found_among_neighbours_that_touch_the_same_document(
    world: World,
) -> None:
    workouts = [replace(fact, user_id="ada") for fact in facts(200)]
    world.post(workouts)
    world.consumer = Tally(only_bad(_grow, "w-7", "w-150"))
    assert world.worker().apply(world.deliveries()) == 198
    assert world.documents() == tallied(without(workouts, "w-7", "w-150"))
    assert {name for name, fate in world.fates().items() if fate.state is State.DEAD} == {
        "w-7",
        "w-150",
    }


def test_an_event_that_is_refused_alone_is_dead_and_its_document_as_before(world: World) -> None:
    world.post(facts(4))
    world.worker().apply(world.deliveries()[:3])
    before = world.documents()
    world.consumer = Tally(_grow)
    assert not world.worker().apply_alone(world.deliveries()[3], None)
    assert world.documents() == before
    fate = world.fates()["w-3"]
    assert (fate.state, fate.attempts, fate.strikes) == (State.DEAD, 1, 0)


def test_a_refusal_that_may_pass_climbs_the_ladder(world: World) -> None:
    world.post(facts(9))
    deliveries = world.deliveries()

    def refuse(commit: Commit) -> None:
        if deliveries[4].position in commit.applied:
            raise Refused("this store does not like it")

    world.store.before = refuse
    assert world.worker().apply(deliveries) == 8
    fate = world.fates()["w-4"]
    assert (fate.state, fate.attempts) == (State.RETRYING, 1)
    assert fate.reason == "Refused: this store does not like it"
    assert world.worker().apply_alone(deliveries[4], fate)
    assert world.documents() == tallied(facts(9))


def test_bytes_that_are_no_event_are_dead_with_their_reason(world: World) -> None:
    world.post(facts(3))
    good = world.deliveries()
    worker = world.worker()
    broken = [good[0], good[1]._replace(body=b'{"id": 7}'), good[2]._replace(body=b"\xff")]
    assert worker.apply(broken) == 1
    assert world.counts() == {State.APPLIED: 1, State.DEAD: 2}
    assert world.fates()["w-1"].reason.startswith("Undecodable: These bytes are not an event")


def newer(delivery: Delivery, version: int) -> Delivery:
    body = json.loads(delivery.body) | {"dataversion": version}
    return delivery._replace(body=json.dumps(body).encode())


def test_an_event_of_a_newer_version_waits_and_its_neighbours_do_not(world: World) -> None:
    world.post(facts(3))
    old, new, other = world.deliveries()
    assert world.worker().apply([old, newer(new, 2), other]) == 2
    fate = world.fates()["w-1"]
    assert (fate.state, fate.needs, fate.attempts) == (State.RETRYING, 2, 0)
    later_ms = int(time.time() * 1000) + 10**9
    due = world.store.open_fates(world.live.number, State.RETRYING, due_ms=later_ms)
    assert due == []
    assert world.documents() == tallied(without(facts(3), "w-1"))


def test_a_suspect_of_a_newer_version_waits_too(world: World) -> None:
    world.post(facts(1))
    assert not world.worker().apply_alone(newer(world.deliveries()[0], 2), None)
    fate = world.fates()["w-0"]
    assert (fate.state, fate.needs, fate.attempts, fate.strikes) == (State.RETRYING, 2, 0, 0)


def test_a_newer_event_is_folded_by_code_that_knows_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.post(facts(1))
    delivery = newer(world.deliveries()[0], 2)
    world.worker().apply([delivery])
    monkeypatch.setitem(upcasters.CURRENT, "workout.completed", 2)
    assert world.worker().apply_alone(delivery, world.fates()["w-0"])
    assert world.counts() == {State.APPLIED: 1}
    assert world.documents() == tallied(facts(1))


def test_a_failing_event_climbs_the_ladder_and_is_dead_after_its_last_rung(world: World) -> None:
    world.post(facts(4))
    world.ladder = Ladder((5.0, 50.0))
    world.consumer = Tally(only_bad(_raise, "w-1"))
    before_ms = int(time.time() * 1000)
    world.worker().apply(world.deliveries())
    fates = [world.fates()["w-1"]]
    for _ in range(2):
        assert not world.worker().apply_alone(world.deliveries()[1], fates[-1])
        fates.append(world.fates()["w-1"])
    assert [fate.attempts for fate in fates] == [1, 2, 3]
    assert [fate.state for fate in fates] == [State.RETRYING, State.RETRYING, State.DEAD]
    first, second = fates[0].due_ms or 0, fates[1].due_ms or 0
    now_ms = int(time.time() * 1000)
    assert before_ms + 5_000 <= first <= now_ms + 6_000
    assert before_ms + 50_000 <= second <= now_ms + 60_000
    assert {fate.strikes for fate in fates} == {0}
    assert world.documents() == tallied(without(facts(4), "w-1"))


def test_a_retry_that_succeeds_is_applied_and_nothing_of_its_failure_is_left(world: World) -> None:
    world.post(facts(2))
    world.consumer = Tally(only_bad(_raise, "w-1"))
    world.worker().apply(world.deliveries())
    world.consumer.misdeed = None
    assert world.worker().apply_alone(world.deliveries()[1], world.fates()["w-1"])
    assert world.fates()["w-1"] == Fate(state=State.APPLIED)
    assert world.documents() == tallied(facts(2))


def test_a_strike_is_safe_before_a_suspect_is_folded_and_its_fate_replaces_it(
    world: World,
) -> None:
    world.post(facts(1))
    seen: list[Fate] = []
    world.consumer = Tally(lambda event, documents: seen.append(world.fates()["w-0"]))
    assert world.worker().apply_alone(world.deliveries()[0], None)
    assert [(fate.state, fate.strikes) for fate in seen] == [(State.RETRYING, 1)]
    assert world.fates()["w-0"] == Fate(state=State.APPLIED)


def test_the_third_strike_is_dead_without_being_folded(world: World) -> None:
    world.post(facts(1))
    twice = Fate(state=State.RETRYING, strikes=2, due_ms=1, reason="It hung.", trace="line 7")
    world.worker().apply_alone(newer(world.deliveries()[0], 9), None)
    waiting = world.fates()["w-0"]
    world.store.commit(world.live.number, _change(world, waiting, twice))
    assert not world.worker().apply_alone(world.deliveries()[0], twice)
    fate = world.fates()["w-0"]
    assert (fate.state, fate.strikes, fate.reason) == (State.DEAD, 3, "It hung.")
    assert world.consumer.folded == []


def _change(world: World, before: Fate, after: Fate) -> Commit:
    return Commit(changes=[Change(world.deliveries()[0].position, before, after)])


def test_suspects_go_alone_and_first_and_then_their_neighbours_together(world: World) -> None:
    world.post(facts(6))
    deliveries = [
        delivery._replace(redelivered=place in (3, 4))
        for place, delivery in enumerate(world.deliveries())
    ]
    sizes: list[int] = []
    world.store.after = lambda commit: sizes.append(len(commit.applied))
    world.worker().take(Batch(deliveries, world.log.settled()))
    assert world.consumer.folded == ["w-3", "w-4", "w-0", "w-1", "w-2", "w-5"]
    assert sizes == [0, 0, 0, 0, 4]
    assert world.documents() == tallied(facts(6))
