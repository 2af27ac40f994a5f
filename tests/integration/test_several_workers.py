"""Several workers of one consumer: all take live events, one leads, and nothing counts twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.control import RequestState
from consumers.runtime.fates import Fate, State
from consumers.runtime.guard import Guard
from consumers.runtime.places import WorkerPlace
from consumers.runtime.registry import Found, Unfit
from consumers.runtime.starting import load_watched
from consumers.runtime.store import Change, Commit, Lead, Phase
from events import upcasters
from events.bus import UNREADABLE, Delivery
from events.envelope import Event
from events.errors import Gone, Outage
from events.log import Position
from tests.integration.brokered import BrokeredWorld, Several
from tests.integration.doubles import LedStore, StillGuard
from tests.integration.world import Tally, facts, tallied


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokeredWorld]:
    world = BrokeredWorld(tmp_path, Tally(), monkeypatch, batch=10)
    world.post(facts(3))
    world.run()
    world.consumer.folded.clear()
    yield world
    world.close()


def idle(*workers: Several) -> None:
    """Turn all of them until none has anything to do."""
    for _ in range(1_000):
        if not sum(worker.turn() for worker in workers):
            return
    raise AssertionError("they never come to an end")


# Live events.


def test_two_workers_share_what_comes(world: BrokeredWorld) -> None:
    first, second = world.one_of_several(Lead.TAKEN), world.one_of_several(Lead.NONE)
    world.publish(facts(40, first=3))
    idle(first, second)
    assert world.documents() == tallied(facts(43))
    assert sorted(world.consumer.folded) == sorted(f"w-{number}" for number in range(3, 43))
    took = [one.fetched for one in world.queue.subscriptions[-2:]]
    assert min(took) >= 2
    assert world.queue.in_hand == 0


def test_what_one_had_in_hand_when_its_connection_was_lost_is_taken_by_the_other(
    world: BrokeredWorld,
) -> None:
    first, second = world.one_of_several(Lead.TAKEN), world.one_of_several(Lead.NONE)
    world.publish(facts(10, first=3))
    _failing(world, times=1)
    first.turn()
    assert world.queue.in_hand == 10
    world.queue.subscriptions[-2].lose_connection()
    idle(second)
    idle(first)  # it still holds them: they have their fates, and its acks go nowhere
    assert world.documents() == tallied(facts(13))
    assert (world.queue.in_hand, world.queue.length()) == (0, 0)


def _failing(world: BrokeredWorld, *, times: int, error: Exception | None = None) -> None:
    left = iter(range(times))

    def fail(commit: Commit) -> None:
        if next(left, None) is not None:
            raise error or Outage("no server")

    world.store.before = fail


def test_a_batch_that_met_an_outage_is_held_and_taken_again_without_being_fetched_again(
    world: BrokeredWorld,
) -> None:
    worker = world.one_of_several(Lead.TAKEN)
    world.publish(facts(10, first=3))
    fetched = world.queue.brought
    _failing(world, times=3)
    assert [worker.turn() for _ in range(3)] == [False] * 3
    assert world.queue.brought == fetched + 1
    assert world.queue.in_hand == 10
    idle(worker)
    assert world.queue.brought == fetched + 1
    assert (world.queue.in_hand, world.documents()) == (0, tallied(facts(13)))
    assert world.counts() == {State.APPLIED: 13}
    assert {fate.attempts for fate in world.fates().values()} == {0}


def test_what_is_behind_a_held_batch_waits_and_comes_after_it(world: BrokeredWorld) -> None:
    worker = world.one_of_several(Lead.NONE)
    world.publish(facts(25, first=3))
    _failing(world, times=2)
    idle_turns = [worker.turn() for _ in range(2)]
    assert idle_turns == [False, False]
    idle(worker)
    assert world.documents() == tallied(facts(28))
    assert world.consumer.folded[-25:] == [f"w-{number}" for number in range(3, 28)]


# Swaps.


def test_a_swap_by_another_worker_is_followed(world: BrokeredWorld) -> None:
    leader, other = world.one_of_several(Lead.TAKEN), world.one_of_several(Lead.NONE)
    asked = world.control.ask("tally", "rebuild", {})
    while not world.control.get(asked.id).ended:
        leader.turn()
        world.clock.now += 0.5
    assert world.live.number == 2
    other.turns(3)
    world.publish(facts(5, first=3))
    idle(other)
    assert world.documents() == tallied(facts(8))
    assert world.queue.in_hand == 0
    open_ones = [one for one in world.queue.subscriptions if not one.closed]
    assert len(open_ones) == 2


def test_what_is_still_committed_to_the_old_generation_is_found_by_the_new_ones_sweep(
    world: BrokeredWorld,
) -> None:
    leader, other = world.one_of_several(Lead.TAKEN), world.one_of_several(Lead.NONE)
    other.turn()
    world.control.ask("tally", "rebuild", {})
    while world.live.number == 1:
        leader.turn()
        world.clock.now += 0.1
    world.publish(facts(5, first=3))
    other.turn()  # it has not looked yet what is live
    assert len(world.consumer.folded) >= 5
    leader.turns(20)
    assert world.documents() == tallied(facts(8))


def test_a_worker_whose_generation_is_gone_looks_what_is_live_and_folds_there(
    world: BrokeredWorld,
) -> None:
    worker = world.one_of_several(Lead.NONE)
    worker.turn()
    world.publish(facts(5, first=3))
    world.fresh()
    _failing(world, times=1, error=Gone("it was dropped"))
    assert worker.turn() is False
    idle(worker)
    assert set(world.documents()) == set(tallied(facts(5, first=3)))
    assert sum(one["count"] for one in world.documents().values()) == 5
    assert world.queue.in_hand == 0


def test_bindings_of_the_new_generation_are_subscribed_to(world: BrokeredWorld) -> None:
    worker = world.one_of_several(Lead.NONE)
    worker.turn()
    bindings = ("workout.completed.running",)
    made = world.store.begin(version=1, code="c", bindings=bindings, indexes={})
    world.store.swap(made.number, expected=1)
    worker.turns(3)
    assert world.queue.subscriptions[-1].bindings == bindings
    assert world.queue.subscriptions[-2].closed


# The lead.


def test_only_the_leader_sweeps(world: BrokeredWorld) -> None:
    world.publish(facts(5, first=3), lost=[f"w-{number}" for number in range(3, 8)])
    follower = world.one_of_several(Lead.NONE)
    follower.turns(60)
    assert world.documents() == tallied(facts(3))
    leader = world.one_of_several(Lead.TAKEN)
    leader.turns(20)
    assert world.documents() == tallied(facts(8))


def test_only_the_leader_does_what_is_asked(world: BrokeredWorld) -> None:
    follower = world.one_of_several(Lead.NONE)
    asked = world.control.ask("tally", "pause", {})
    follower.turns(10)
    assert world.control.get(asked.id).state is RequestState.WAITING
    leader = world.one_of_several(Lead.TAKEN)
    leader.turns(3)
    assert world.control.get(asked.id).state is RequestState.DONE


def test_a_pause_holds_for_all_of_them(world: BrokeredWorld) -> None:
    leader, follower = world.one_of_several(Lead.TAKEN), world.one_of_several(Lead.NONE)
    world.control.ask("tally", "pause", {})
    leader.turns(3)
    world.publish(facts(5, first=3))
    follower.turns(10)
    leader.turns(20)
    assert world.documents() == tallied(facts(3))
    assert world.queue.length() == 5


def test_only_the_leader_tries_again_what_is_due(world: BrokeredWorld) -> None:
    (delivery,) = world.publish(facts(1, first=3), lost=["w-3"])
    due = Fate(state=State.RETRYING, attempts=1, due_ms=1)
    world.store.commit(1, Commit(changes=[Change(delivery.position, None, due)]))
    world.one_of_several(Lead.NONE).turns(10)
    assert world.fates()["w-3"] == due
    world.one_of_several(Lead.TAKEN).turns(1)
    assert world.fates()["w-3"].state is State.APPLIED


def test_who_loses_the_lead_stops_sweeping_and_building_and_doing_what_is_asked(
    world: BrokeredWorld,
) -> None:
    world.post(facts(60, first=3))  # the queue has lost them all
    worker = world.one_of_several(Lead.TAKEN)
    asked = world.control.ask("tally", "rebuild", {})
    worker.turn()
    assert [one.phase for one in world.store.generations()] == [Phase.LIVE, Phase.BUILDING]
    worker.store.says = Lead.NONE
    world.clock.now += 2.5
    worker.turn()
    counted = world.counts(), world.store.counts(2), list(world.consumer.folded)
    reported = world.control.get(asked.id)
    worker.turns(60)
    assert (world.counts(), world.store.counts(2), world.consumer.folded) == counted
    assert world.control.get(asked.id) == reported
    # Another one goes on with all of it, from where it was.
    other = world.one_of_several(Lead.TAKEN)
    other.turns(30)
    assert world.control.get(asked.id).state is RequestState.DONE
    assert world.live.number == 2
    assert world.documents() == tallied(facts(63))
    assert len(world.consumer.folded) < 3 * 63


def test_who_lost_the_lead_still_takes_live_events_and_may_lead_again(
    world: BrokeredWorld,
) -> None:
    worker = world.one_of_several(Lead.TAKEN)
    worker.store.says = Lead.NONE
    worker.turns(3)
    world.publish(facts(10, first=3), lost=["w-5"])
    worker.turns(30)
    assert world.counts() == {State.APPLIED: 12}
    worker.store.says = Lead.TAKEN
    worker.turns(30)
    assert world.documents() == tallied(facts(13))


def test_code_of_a_raised_version_waits_beside_the_old_and_builds_when_it_leads(
    world: BrokeredWorld,
) -> None:
    old = world.one_of_several(Lead.TAKEN)
    world.consumer = Tally(version=2)
    new = world.one_of_several(Lead.NONE)
    world.publish(facts(10, first=3))
    new.turns(10)
    assert world.queue.length() == 10  # it does not take what it would fold into another's state
    idle(old)
    assert world.documents() == tallied(facts(13))
    assert len(world.store.generations()) == 1
    old.store.says, new.store.says = Lead.NONE, Lead.TAKEN
    old.turns(3)
    new.turns(10)
    assert world.live.version == 2
    world.publish(facts(2, first=13))
    old.turns(10)
    assert world.queue.length() == 2  # now the old code stands still
    new.turns(10)
    assert world.documents() == tallied(facts(15))


def test_what_waits_for_newer_code_is_taken_by_such_code_when_it_comes_to_lead(
    world: BrokeredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    (delivery,) = world.publish(facts(1, first=3), lost=["w-3"])
    needs = Fate(state=State.RETRYING, needs=2, first_ms=1)
    world.store.commit(1, Commit(changes=[Change(delivery.position, None, needs)]))
    worker = world.one_of_several(Lead.NONE)  # of code that knows it, while the old one leads
    worker.turns(10)
    monkeypatch.setitem(upcasters.CURRENT, "workout.completed", 2)
    monkeypatch.setitem(upcasters.STEPS, ("workout.completed", 1), lambda data: data)
    worker.store.says = Lead.TAKEN
    worker.turns(10)
    assert world.counts() == {State.APPLIED: 4}


def test_who_inherits_the_lead_suspects_what_the_last_leader_had_in_hand(
    world: BrokeredWorld,
) -> None:
    worker = world.one_of_several(Lead.NONE)
    world.post(facts(20, first=3))
    world.store.set_mark("in-hand", "4")
    struck: list[str] = []

    def note(event: Event, documents: dict[str, Any]) -> None:
        struck.extend(name for name, fate in world.fates().items() if fate.strikes)

    world.consumer.misdeed = note
    worker.store.says = Lead.INHERITED
    worker.turns(30)
    assert struck == ["w-3", "w-4", "w-5", "w-6"]
    assert world.documents() == tallied(facts(23))


def test_a_clean_end_of_one_that_does_not_lead_leaves_the_leaders_marks(
    world: BrokeredWorld,
) -> None:
    world.store.set_mark("in-hand", "8")
    store = LedStore(world.store, Lead.NONE)
    patience = world.patience(lambda: True)
    world.consumer = Tally()
    runner = type(world.runner(patience))(replace(world.parts(patience), store=store))
    world.store.set_mark("in-hand", "8")
    runner.run()
    assert store.left
    assert world.store.mark("in-hand") == "8"


# Problems.


def test_why_a_queue_brings_nothing_is_told_until_it_brings_again(world: BrokeredWorld) -> None:
    worker = world.one_of_several(Lead.NONE)
    worker.turn()
    world.queue.subscriptions[-1].problem = "It was made with other arguments."
    worker.turns(3)
    assert world.store.mark("no-queue") == "It was made with other arguments."
    world.queue.subscriptions[-1].problem = None
    worker.turns(3)
    assert world.store.mark("no-queue") is None


def test_a_message_without_a_position_is_not_taken_for_a_log_that_was_restored(
    world: BrokeredWorld,
) -> None:
    worker = world.one_of_several(Lead.TAKEN)
    world.queue.bring([Delivery(Position(UNREADABLE, 77), "workout.completed.running", b"\xff")])
    worker.turns(30)
    assert world.counts() == {State.APPLIED: 3, State.DEAD: 1}
    assert world.store.mark("problem") is None


def found(module: Any) -> Found:
    return Found("tally", "plugins/tally.py", module)


def _unfit() -> Any:
    raise Unfit("plugins/tally.py: fold() is missing.")


@pytest.mark.parametrize("others", [True, False])
def test_code_that_cannot_be_loaded_here_stops_no_worker_that_runs_elsewhere(
    world: BrokeredWorld, monkeypatch: pytest.MonkeyPatch, *, others: bool
) -> None:
    monkeypatch.setattr(world.store, "running", lambda: others, raising=False)
    guard: Guard = StillGuard()
    place = WorkerPlace(world.folder / "x.traceback", "loading here 1")
    with pytest.raises(Unfit):
        load_watched(found(_unfit), world.store, guard, place, deadline_s=1)
    assert (world.store.mark("problem") is None) == others
    assert world.store.mark(place.loading) is None


def test_code_that_ended_the_process_while_it_was_loaded_is_known_at_the_next_start(
    world: BrokeredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "running", lambda: False, raising=False)
    place = WorkerPlace(world.folder / "x.traceback", "loading here 1")
    other = WorkerPlace(world.folder / "y.traceback", "loading there 1")
    seen: list[Any] = []

    def loads() -> Any:
        seen.append((world.store.mark(place.loading), world.store.mark("problem")))
        raise Unfit("plugins/tally.py: it is seen, and that is enough.")

    world.store.set_mark(place.loading, "1")  # as the process that ended has left it
    with pytest.raises(Unfit):
        load_watched(found(loads), world.store, StillGuard(), place, deadline_s=1)
    marked, problem = seen[0]
    assert marked == "1"
    assert problem == f"plugins/tally.py ends or hangs when it is loaded; see {place.traces}."
    # What happened at one place says nothing about another.
    world.store.set_mark(place.loading, "1")
    world.store.set_mark("problem", None)
    with pytest.raises(Unfit):
        load_watched(found(loads), world.store, StillGuard(), other, deadline_s=1)
    assert seen[1] == ("1", None)


# Whatever happens.


def test_each_event_counts_once_whoever_has_it_whenever_and_whoever_leads(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Two workers in turn; a queue that loses; connections, a store and a lead that come and go."""

    @given(data=st.data())
    def whatever_happens(data: st.DataObject) -> None:
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("world")
            world = BrokeredWorld(folder, Tally(), patch, batch=data.draw(st.integers(1, 5)))
            try:
                _turn_about(data, world)
            finally:
                world.close()

    whatever_happens()


def _turn_about(data: st.DataObject, world: BrokeredWorld) -> None:
    world.post(facts(2))
    world.run()
    workers, count = [world.one_of_several(lead) for lead in (Lead.TAKEN, Lead.NONE)], 2
    does = ["publish", "publish", "turn", "turn", "outage", "lose", "lead", "wait"]
    for what in data.draw(st.lists(st.sampled_from(does), max_size=30), label="what happens"):
        if what == "publish":
            count += _publish(data, world, count)
        elif what == "lead":
            workers.reverse()
            workers[0].store.says, workers[1].store.says = Lead.TAKEN, Lead.NONE
        else:
            _happen(what, data, world, data.draw(st.sampled_from(workers)))
    world.store.before = lambda commit: None
    for _ in range(8):
        for worker in workers:
            worker.turns(5)
    assert world.documents() == tallied(facts(count))
    assert world.counts() == {State.APPLIED: count}
    assert (world.queue.in_hand, world.queue.length()) == (0, 0)


def _publish(data: st.DataObject, world: BrokeredWorld, count: int) -> int:
    size = data.draw(st.integers(1, 6))
    names = [f"w-{number}" for number in range(count, count + size)]
    world.publish(facts(size, first=count), lost=data.draw(st.sets(st.sampled_from(names))))
    return size


def _happen(what: str, data: st.DataObject, world: BrokeredWorld, worker: Several) -> None:
    match what:
        case "turn":
            worker.turn()
        case "outage":
            _failing(world, times=data.draw(st.integers(1, 2)))
        case "lose":
            for one in world.queue.subscriptions[-2:]:
                one.lose_connection()
        case "wait":
            world.clock.now += data.draw(st.floats(0, 7))
