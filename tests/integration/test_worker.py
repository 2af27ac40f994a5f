"""The worker on a real store: one bad event costs nothing else, and each event counts once."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.fates import Fate, Ladder, State
from consumers.runtime.store import Change, Commit
from events import upcasters
from events.bus import Batch, Delivery
from events.envelope import Event
from events.errors import Outage, Overtaken, Refused
from events.log import Selection
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


@pytest.mark.parametrize("known", [False, True])
def test_an_outage_takes_the_strike_back_and_spends_no_attempt(
    world: World, *, known: bool
) -> None:
    world.post(facts(1))
    before = None
    if known:
        world.consumer = Tally(_raise)
        world.worker().apply(world.deliveries())
        before = world.fates()["w-0"]
    world.consumer = Tally()

    def fail(commit: Commit) -> None:
        if commit.documents:
            raise Outage("the disk is full")

    world.store.before = fail
    for _ in range(4):
        found = world.fates().get("w-0")
        with pytest.raises(Outage):
            world.worker().apply_alone(world.deliveries()[0], found)
        fate = world.fates()["w-0"]
        assert (fate.state, fate.strikes) == (State.RETRYING, 0)
        assert fate.attempts == (1 if known else 0)
        assert fate == before or not known
    world.store.before = lambda commit: None
    assert world.worker().apply_alone(world.deliveries()[0], world.fates()["w-0"])
    assert world.documents() == tallied(facts(1))


def test_an_outage_while_loading_takes_the_strike_back_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.post(facts(1))
    worker = world.worker()

    def fail(generation: int, keys: object) -> dict[str, Any]:
        raise Outage("the disk is gone")

    monkeypatch.setattr(world.store, "load", fail)
    with pytest.raises(Outage):
        worker.apply_alone(world.deliveries()[0], None)
    monkeypatch.undo()
    assert world.fates()["w-0"].strikes == 0
    assert worker.apply_alone(world.deliveries()[0], world.fates()["w-0"])


def test_an_outage_changes_nothing_and_the_same_batch_counts_once_when_it_is_over(
    world: World,
) -> None:
    world.post(facts(10))
    worker = world.worker()

    def fail(commit: Commit) -> None:
        raise Outage("not primary")

    world.store.before = fail
    with pytest.raises(Outage):
        worker.apply(world.deliveries(), through=world.log.settled())
    assert world.documents() == {}
    assert world.counts() == {}
    assert world.store.watermarks(world.live.number) == {}
    world.store.before = lambda commit: None
    assert worker.apply(world.deliveries(), through=world.log.settled()) == 10
    assert world.documents() == tallied(facts(10))


def test_a_commit_that_is_overtaken_is_loaded_and_folded_again(world: World) -> None:
    world.post([replace(fact, user_id="ada") for fact in facts(2)])
    ours, theirs = world.deliveries()
    others = list[Delivery]([theirs])

    def overtake(commit: Commit) -> None:
        if others:
            world.worker().apply([others.pop()])

    world.worker()
    world.store.before = overtake
    assert world.worker().apply([ours]) == 1
    assert world.consumer.folded == ["w-0", "w-1", "w-0"]
    assert world.documents() == {"ada": {"count": 2, "ms": 60_000 + 60_001}}
    assert world.counts() == {State.APPLIED: 2}


def test_an_event_that_somebody_else_has_applied_meanwhile_is_not_applied_again(
    world: World,
) -> None:
    world.post(facts(3))
    deliveries = world.deliveries()
    others = [deliveries[1]]

    def overtake(commit: Commit) -> None:
        if others:
            world.worker().apply([others.pop()])

    world.worker()
    world.store.before = overtake
    assert world.worker().apply(deliveries) == 2
    assert world.documents() == tallied(facts(3))


def test_a_suspect_that_is_overtaken_is_not_struck_and_comes_again(world: World) -> None:
    world.post([replace(fact, user_id="ada") for fact in facts(2)])
    ours, theirs = world.deliveries()
    others = list[Delivery]([theirs])

    def overtake(commit: Commit) -> None:
        if commit.documents and others:
            world.worker().apply([others.pop()])

    world.worker()
    world.store.before = overtake
    assert not world.worker().apply_alone(ours, None)
    fate = world.fates()["w-0"]
    assert (fate.state, fate.strikes) == (State.RETRYING, 0)
    due = world.store.open_fates(
        world.live.number, State.RETRYING, due_ms=int(time.time() * 1000) + 1
    )
    assert [position for position, _ in due] == [ours.position]
    assert world.worker().apply_alone(ours, fate)
    assert world.documents() == {"ada": {"count": 2, "ms": 60_000 + 60_001}}


def test_two_workers_that_found_the_same_fate_do_not_both_act_on_it(world: World) -> None:
    world.post(facts(1))
    world.consumer = Tally(_raise)
    world.worker().apply(world.deliveries())
    found = world.fates()["w-0"]
    world.consumer = Tally()
    assert world.worker().apply_alone(world.deliveries()[0], found)
    assert not world.worker().apply_alone(world.deliveries()[0], found)
    assert world.documents() == tallied(facts(1))


def test_what_a_failed_commit_had_learned_is_not_taken_for_known(world: World) -> None:
    world.post(facts(2))
    first, second = world.deliveries()
    worker = world.worker()
    with pytest.raises(Overtaken, match="has a fate already"):
        world.store.commit(1, Commit(applied=[first.position, first.position]))
    worker.apply([first], through={first.position.relay: first.position.number})
    assert world.store.watermarks(1) == {first.position.relay: first.position.number}
    again = World(world.folder, Tally())
    assert again.store.watermarks(1) == world.store.watermarks(1)
    assert again.worker().apply([first, second]) == 1
    again.close()


def test_a_batch_may_touch_more_documents_than_a_statement_has_places(world: World) -> None:
    class Wide(Tally):
        def keys(self, event: Event) -> list[str]:
            return [f"{event.user_id}/{number}" for number in range(20_000)]

    world.post(facts(3))
    world.consumer = Wide()
    assert world.worker().apply(world.deliveries()) == 3
    assert len(world.documents()) == 60_000


def test_events_of_two_relays_are_told_apart(world: World) -> None:
    world.post(facts(3))
    world.worker().apply(world.deliveries(), through=world.log.settled())
    world.log.close()
    other = World(world.folder, Tally())
    other.post(facts(3, first=3))
    relays = {delivery.position.relay for delivery in other.deliveries()}
    assert len(relays) == 2
    worker = other.worker()
    # The same numbers under another relay are other events.
    ghosts = [
        one._replace(position=one.position._replace(relay="f" * 32)) for one in other.deliveries()
    ]
    assert worker.apply(other.deliveries(), through=other.log.settled()) == 3
    assert worker.apply(ghosts[:1]) == 1
    other.close()


Step = tuple[list[int], list[bool], str]
steps = st.lists(
    st.tuples(
        st.lists(st.integers(0, 11), max_size=10),
        st.lists(st.booleans(), min_size=10, max_size=10),
        st.sampled_from(["acked", "killed after the commit", "killed before it", "outage"]),
    ),
    max_size=8,
)


class Killed(BaseException):
    """The process ends here."""


def test_every_event_counts_once_whatever_is_delivered_how_often_and_killed_when(
    tmp_path: Path,
) -> None:
    """Duplicates in a batch, redeliveries, any order, a kill or an outage at any commit."""
    # In memory: this is not about the disk, and many times as fast.
    world = World(tmp_path, Tally(), vfs="memdb")
    world.post(facts(12))
    everything = world.deliveries()

    @given(steps=steps, bad=st.sets(st.integers(0, 11), max_size=3))
    def whatever_happens(steps: list[Step], bad: set[int]) -> None:
        world.fresh()
        bad_ids = [f"w-{number}" for number in bad]
        world.consumer.misdeed = only_bad(_raise, *bad_ids) if bad else None
        for places, suspected, end in steps:
            _deliver(world, [everything[place] for place in places], suspected, end)
        world.worker().apply(everything)
        _retry(world)
        good = without(facts(12), *bad_ids)
        assert world.documents() == tallied(good)
        expected = {State.APPLIED: len(good), State.DEAD: len(bad)}
        assert world.counts() == {state: count for state, count in expected.items() if count}

    whatever_happens()
    world.close()


def _deliver(world: World, deliveries: list[Delivery], suspected: list[bool], end: str) -> None:
    batch = Batch(
        [
            delivery._replace(redelivered=suspect)
            for delivery, suspect in zip(deliveries, suspected, strict=False)
        ]
    )

    def stop(commit: Commit) -> None:
        raise Outage("gone") if end == "outage" else Killed

    if end == "killed after the commit":
        world.store.after = stop
    elif end != "acked":
        world.store.before = stop
    try:
        world.worker().take(batch)
    except (Killed, Outage):
        assert end != "acked"
    world.store.before = world.store.after = lambda commit: None


def _retry(world: World) -> None:
    """Take what is due until nothing is, as a worker does between two batches."""
    number = world.live.number
    while due := world.store.open_fates(number, State.RETRYING, due_ms=int(time.time() * 1000)):
        for position, fate in due:
            row = world.log.scan(Selection(after=position.number - 1), limit=1)[0]
            world.worker().apply_alone(Delivery(position, row.routing_key, row.body), fate)
