"""Each event counts once: under outages, other writers, redelivery, any order, and kills."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.fates import State
from consumers.runtime.starting import wake_waiting
from consumers.runtime.store import Commit
from events.bus import Batch, Delivery
from events.envelope import Event
from events.errors import Outage, Overtaken
from events.log import Selection
from tests.integration.world import Misdeed, Tally, World, facts, tallied, without


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally())
    yield world
    world.close()


def only_bad(misdeed: Misdeed, *ids: str) -> Misdeed:
    """Do this for these events."""

    def act(event: Event, documents: dict[str, Any]) -> None:
        if event.data.workout_id in ids:
            misdeed(event, documents)

    return act


def _raise(event: Event, documents: dict[str, Any]) -> None:
    raise LookupError("no such shoe")


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
    wake_waiting(world.store, number, by="here")  # as the next process does
    while due := world.store.open_fates(number, State.RETRYING, due_ms=int(time.time() * 1000)):
        for position, fate in due:
            row = world.log.scan(Selection(after=position.number - 1), limit=1)[0]
            world.worker().apply_alone(Delivery(position, row.routing_key, row.body), fate)
