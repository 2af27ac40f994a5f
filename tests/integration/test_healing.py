"""Healing: what a queue lost is folded from the log, late and once, and is counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from consumers.runtime import healing as module
from consumers.runtime.fates import State
from consumers.runtime.healing import HEALED, YOUNG_S, Healing
from consumers.runtime.store import Commit
from events.bus import Batch
from events.errors import Outage
from events.log import Selection, stretch_ahead
from events.log.sqlite import SqliteEventLog
from events.patience import Patience
from events.workouts import Sport
from tests.factories import workout
from tests.integration.brokered import BrokeredWorld
from tests.integration.world import Tally, append, facts, tallied, without


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokeredWorld]:
    world = BrokeredWorld(tmp_path, Tally(), monkeypatch, batch=10)
    yield world
    world.close()


def begun(world: BrokeredWorld, *, after: int = 3) -> Healing:
    """Healing of a generation that has looked at so many events of the past."""
    worker = world.worker()
    if after:
        world.post(facts(after))
        worker.take(Batch(world.deliveries(), world.log.settled()))
    return healing(world)


def healing(world: BrokeredWorld) -> Healing:
    """Healing of the live generation."""
    made = Healing(world.parts(Patience()), world.worker)
    made.begin(world.live, suspects=0)
    return made


def healed(world: BrokeredWorld) -> int:
    return int(world.store.mark(HEALED) or 0)


def steps(world: BrokeredWorld, made: Healing, seconds: float, *, busy: bool = False) -> int:
    """Step for so long, twice a second; return how often anything was done."""
    done, end = 0, world.clock.now + seconds
    while world.clock.now < end:
        done += made.step(busy=busy)
        world.clock.now += 0.5
    return done


# What a queue loses.


def test_what_a_queue_lost_is_folded_once_it_is_not_young_any_more_and_is_counted(
    world: BrokeredWorld,
) -> None:
    made = begun(world)
    steps(world, made, 2)
    world.post(facts(4, first=3))
    steps(world, made, YOUNG_S - 0.5)
    assert world.documents() == tallied(facts(3))  # young: the queue may still bring it
    with capture_logs() as journal:
        steps(world, made, 3)
    assert world.documents() == tallied(facts(7))
    assert healed(world) == 4
    assert [(one["action"], one["events"]) for one in journal] == [("healed", 4)]
    steps(world, made, 60)
    assert (healed(world), world.documents()) == (4, tallied(facts(7)))
    assert world.store.watermarks(world.live.number) == world.log.settled()


def test_a_delivery_that_comes_late_after_the_sweep_changes_nothing(world: BrokeredWorld) -> None:
    made = begun(world)
    world.post(facts(4, first=3))
    steps(world, made, 10)
    before = world.documents()
    assert before == tallied(facts(7))
    late = world.deliveries(redelivered=True)
    assert world.worker().take(Batch(late[3:])) == 0
    assert world.worker().take(Batch(world.deliveries())) == 0
    assert world.documents() == before
    assert world.counts() == {State.APPLIED: 7}


def test_what_the_queue_brought_is_passed_over_and_counted_as_nothing(
    world: BrokeredWorld,
) -> None:
    made = begun(world)
    world.post(facts(30, first=3))
    world.worker().take(Batch(world.deliveries()[3:]))
    folded = len(world.consumer.folded)
    steps(world, made, 20)
    assert len(world.consumer.folded) == folded
    assert world.store.watermarks(world.live.number) == world.log.settled()
    assert world.store.mark(HEALED) is None


def test_what_is_healed_is_added_up_over_restarts(world: BrokeredWorld) -> None:
    begun(world)
    for first in (3, 5, 7):
        world.post(facts(2, first=first))
        steps(world, healing(world), 10)
    assert healed(world) == 6


def test_what_nobody_wants_is_not_healed(world: BrokeredWorld) -> None:
    world.consumer.bindings = ("workout.completed.running",)
    made = begun(world)
    world.post([workout(workout_id=f"ride-{n}", sport=Sport.CYCLING) for n in range(3)])
    steps(world, made, 10)
    assert world.documents() == tallied(facts(3))
    assert healed(world) == 0
    assert world.store.watermarks(world.live.number) == world.log.settled()


# The past.


def test_the_past_is_swept_at_once_into_a_new_generation_and_not_counted_as_healed(
    world: BrokeredWorld,
) -> None:
    world.post(facts(25))
    made = begun(world, after=0)
    before = world.clock.now
    while made.step(busy=False):
        pass
    assert world.clock.now == before
    assert world.documents() == tallied(facts(25))
    steps(world, made, 60)
    assert healed(world) == 0


def test_what_is_logged_while_the_past_is_swept_is_still_left_to_the_queue(
    world: BrokeredWorld,
) -> None:
    world.post(facts(25))
    made = begun(world, after=0)
    made.step(busy=False)
    world.post(facts(5, first=25))
    while made.step(busy=False):
        pass
    assert world.documents() == tallied(facts(25))
    world.worker().take(Batch(world.deliveries()[25:]))
    steps(world, made, 20)
    assert healed(world) == 0
    world.post(facts(2, first=30))
    steps(world, made, 20)
    assert (healed(world), world.documents()) == (2, tallied(facts(32)))


def test_a_consumer_that_begins_with_an_empty_log_has_no_past_and_what_it_loses_is_counted(
    world: BrokeredWorld,
) -> None:
    made = begun(world, after=0)
    steps(world, made, 20)
    world.post(facts(4))
    steps(world, made, 20)
    assert world.documents() == tallied(facts(4))
    assert healed(world) == 4


def test_a_past_that_an_end_has_interrupted_is_swept_on_though_it_is_counted(
    world: BrokeredWorld,
) -> None:
    world.post(facts(25))
    begun(world, after=0).step(busy=False)
    assert world.documents() == tallied(facts(10))
    steps(world, healing(world), 20)
    assert world.documents() == tallied(facts(25))


# While the queue is busy.


def test_while_the_queue_is_busy_what_is_missing_is_looked_for_seldom_and_not_counted(
    world: BrokeredWorld,
) -> None:
    made = begun(world)
    world.post(facts(100, first=3))
    made.step(busy=True)
    looked = steps(world, made, 60, busy=True)
    assert 3 <= looked <= 5  # every 15 s, and a part each time
    assert 0 < world.counts()[State.APPLIED] - 3 <= 50
    assert healed(world) == 0
    # When it is quiet again, the rest is healed without such waits.
    steps(world, made, 10)
    assert world.documents() == tallied(facts(103))
    assert 0 < healed(world) < 100


# What a relay left unsettled.


def test_what_a_dead_relay_left_unsettled_is_folded_after_two_looks_and_once(
    world: BrokeredWorld,
) -> None:
    made = begun(world)
    (relay,) = world.log.settled()
    world.post(facts(4, first=3))
    world.lagging.held[relay] = 4
    steps(world, made, module._LEFT_EVERY_S - 1)
    assert world.documents() == tallied(facts(4)) or world.documents() == tallied(facts(3))
    assert "w-4" not in world.consumer.folded
    steps(world, made, module._LEFT_EVERY_S + 10)
    assert world.documents() == tallied(facts(7))
    assert world.store.watermarks(world.live.number) == {relay: 4}
    assert healed(world) == 4
    folded = list(world.consumer.folded)
    steps(world, made, 60)
    del world.lagging.held[relay]  # a later relay settles it
    steps(world, made, 60)
    assert world.consumer.folded == folded
    assert world.store.watermarks(world.live.number) == world.log.settled()
    assert healed(world) == 4


def test_what_is_unsettled_for_a_moment_at_each_look_is_left_to_the_queue(
    world: BrokeredWorld,
) -> None:
    made = begun(world)
    (relay,) = world.log.settled()
    for count in range(3, 9):
        world.post(facts(1, first=count))
        world.lagging.held[relay] = count  # the last one is never settled yet
        world.worker().take(Batch(world.deliveries()[-1:]))
        steps(world, made, module._LEFT_EVERY_S)
    assert sorted(world.consumer.folded) == [f"w-{number}" for number in range(9)]
    assert healed(world) == 0


def test_what_is_left_unsettled_and_not_wanted_stays_without_a_row(world: BrokeredWorld) -> None:
    world.consumer.bindings = ("workout.completed.running",)
    made = begun(world)
    (relay,) = world.log.settled()
    world.post([workout(workout_id="ride", sport=Sport.CYCLING), *facts(1, first=3)])
    world.lagging.held[relay] = 3
    steps(world, made, 40)
    assert world.documents() == tallied(facts(4))
    assert world.counts() == {State.APPLIED: 4}


# What fails in between.


def test_an_outage_in_a_sweep_costs_nothing_and_it_goes_on(world: BrokeredWorld) -> None:
    made = begun(world)
    world.post(facts(4, first=3))
    steps(world, made, 1)
    world.clock.now += 10

    def away(commit: Commit) -> None:
        raise Outage("no server")

    world.store.before = away
    for _ in range(3):
        with pytest.raises(Outage):
            made.step(busy=False)
    world.store.before = lambda commit: None
    steps(world, made, 10)
    assert world.documents() == tallied(facts(7))
    assert healed(world) == 4


def test_who_leads_no_more_sweeps_no_more(world: BrokeredWorld) -> None:
    made = begun(world)
    world.post(facts(4, first=3))
    made.stop()
    assert steps(world, made, 60) == 0
    assert world.documents() == tallied(facts(3))


# The runner, with a queue that loses.


def test_a_runner_takes_what_comes_at_once_and_heals_what_does_not(world: BrokeredWorld) -> None:
    world.post(facts(3))
    world.run()
    lost = ("w-3", "w-11", "w-19")
    runner = world.runner(world.patience(lambda: world.counts().get(State.APPLIED) == 20))
    world.publish(facts(17, first=3), lost=lost)
    began = world.clock.now
    while runner._take_live():
        pass
    assert world.documents() == tallied(without(facts(20), *lost))
    assert world.clock.now == began
    runner.run()
    assert world.documents() == tallied(facts(20))
    assert YOUNG_S <= world.clock.now - began <= 4 * YOUNG_S
    assert (world.queue.in_hand, healed(world)) == (0, 3)


def test_a_consumer_that_healed_what_a_dead_relay_left_does_not_take_the_log_for_restored(
    world: BrokeredWorld,
) -> None:
    world.publish(facts(3))
    world.run()
    (relay,) = world.log.settled()
    world.publish(facts(4, first=3), lost=[f"w-{number}" for number in range(3, 7)])
    world.lagging.held[relay] = 3
    world.run(lambda: world.counts().get(State.APPLIED) == 7)
    began = world.clock.now
    world.run(lambda: world.clock.now > began + 30)
    assert world.store.mark("problem") is None
    world.publish(facts(1, first=7))
    world.run(lambda: world.counts().get(State.APPLIED) == 8)
    assert world.documents() == tallied(facts(8))


def test_what_a_later_relay_published_of_a_dead_one_is_not_taken_for_a_restored_log(
    world: BrokeredWorld,
) -> None:
    """What it appends again is a duplicate, and is published under its old stamp.

    Only once it has read all of its source it settles what the former relay has left.
    """
    world.publish(facts(3))
    world.run()
    (relay,) = world.log.settled()
    world.lagging.held[relay] = 3
    world.publish(facts(4, first=3))
    began = world.clock.now
    world.run(lambda: world.clock.now > began + 20)
    assert world.store.mark("problem") is None
    assert world.documents() == tallied(facts(7))


def test_a_detached_consumer_that_is_back_gets_from_the_log_what_its_queue_had(
    world: BrokeredWorld,
) -> None:
    world.publish(facts(3))
    world.run()
    world.detach_at = 20
    world.store.set_mark("paused", "1")
    runner = world.runner(world.patience(lambda: world.queue.deleted))
    world.publish(facts(30, first=3))
    runner.run()
    assert world.queue.deleted == 1
    world.store.set_mark("paused", None)
    world.publish(facts(2, first=33))
    world.run(lambda: world.counts().get(State.APPLIED) == 35)
    assert world.documents() == tallied(facts(35))


def test_who_was_detached_and_goes_on_leaves_no_subscription_behind(world: BrokeredWorld) -> None:
    world.run()
    world.detach_at = 20
    world.store.set_mark("paused", "1")
    resumed = []

    def back() -> bool:
        if world.queue.deleted and not resumed:
            world.store.set_mark("paused", None)
            resumed.append(world.clock.now)
        return bool(resumed) and world.clock.now > resumed[0] + 10

    runner = world.runner(world.patience(back))
    world.publish(facts(30))
    runner.run()
    mine = world.queue.subscriptions[1:]  # the first was of the first run
    assert len(mine) > 1, "the queue was not made again"
    assert [one.closed for one in mine] == [True] * len(mine)
    assert world.documents() == tallied(facts(30))


# Whatever happens.


def test_no_watermark_ever_passes_an_event_that_has_no_fate(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Two relays in turn, whose settling lags; a queue that loses, doubles and reorders; sweeps."""

    @given(data=st.data())
    def whatever_happens(data: st.DataObject) -> None:
        folder = tmp_path_factory.mktemp("world")
        with pytest.MonkeyPatch.context() as patch, capture_logs():
            world = BrokeredWorld(folder, Tally(), patch, batch=data.draw(st.integers(1, 4)))
            relays = [world.log, SqliteEventLog(folder / "log.db", vfs="memdb")]
            try:
                _lose_and_heal(data, world, relays)
            finally:
                world.close()
                relays[1].close()

    whatever_happens()


def _lose_and_heal(data: st.DataObject, world: BrokeredWorld, relays: list[SqliteEventLog]) -> None:
    count, waiting = 0, []
    if data.draw(st.booleans(), label="a past"):
        world.post(facts(count := 3))
        world.lagging.held.update(world.log.settled())
    world.worker()
    made = healing(world)
    does = ["post", "settle", "bring", "step", "step", "wait", "again"]
    for what in data.draw(st.lists(st.sampled_from(does), max_size=30), label="what happens"):
        match what:
            case "post":
                log, size = data.draw(st.sampled_from(relays)), data.draw(st.integers(1, 3))
                at = set(append(log, facts(size, first=count)))
                waiting += [one for one in world.deliveries() if one.position in at]
                count += size
                _settle_in_part(data, world)
            case "settle":
                _settle_in_part(data, world)
            case "bring" if waiting:
                batch = data.draw(st.lists(st.sampled_from(waiting), max_size=4))
                world.worker().take(Batch(batch))
            case "step":
                made.step(busy=data.draw(st.booleans()))
            case "wait":
                world.clock.now += data.draw(st.floats(0, 12))
            case "again":
                made = healing(world)
        _assert_nothing_is_passed(world)
    world.lagging.held.clear()
    steps(world, made, 60)
    assert world.documents() == tallied(facts(count))
    assert sorted(world.consumer.folded) == sorted(f"w-{number}" for number in range(count))
    assert stretch_ahead(world.log, world.store.watermarks(1), ("#",), limit=1) is None


def _settle_in_part(data: st.DataObject, world: BrokeredWorld) -> None:
    """Let each relay have settled something from what it had before to all that it wrote."""
    for relay, most in world.log.settled().items():  # oldest first
        least = min(world.lagging.held.get(relay, 0), most)
        world.lagging.held[relay] = data.draw(st.integers(least, most))


def _assert_nothing_is_passed(world: BrokeredWorld) -> None:
    marks, settled = world.store.watermarks(world.live.number), world.lagging.settled()
    for relay, number in marks.items():
        assert number <= settled.get(relay, 0)
        rows = world.log.scan(Selection(relay=relay, through=number), limit=1_000)
        having = world.store.rows(world.live.number, relay, 0, number)
        assert [row.position.number for row in rows] == sorted(having)
