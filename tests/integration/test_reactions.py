"""Facts on their way: committed with the state, carried into the log, once."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from consumers.runtime.carrying import Carrying, StoreBookmarks
from consumers.runtime.fates import State
from consumers.runtime.parts import Parts
from consumers.runtime.store import Commit, Store
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.ways import fact_sources
from events.bus import Batch
from events.bus.embedded import EmbeddedPublisher
from events.envelope import Event, Sealed, from_bytes, seal
from events.errors import Outage
from events.log import Appended, LogReader, Selection
from events.log.mongo import MongoEventLog
from events.log.sqlite import SqliteEventLog
from events.patience import Patience
from events.reactions import seal_reaction
from events.relay import Relay
from events.settings import Settings, read_settings
from events.sources import Bookmark, Row, Source, Stuck
from tests.factories import workout
from tests.integration.doubles import Clock, Killed
from tests.integration.world import Tally, World, facts
from tests.servers.databases import Databases, databases
from tests.servers.mongod import Mongod

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OLD = datetime(2000, 1, 1, tzinfo=UTC).isoformat()


class Celebrates(Tally):
    """Tells each third workout of a person."""

    def react(self, event: Event, before: dict[str, Any], after: dict[str, Any]) -> Any:
        for key, document in after.items():
            assert document["count"] == before[key].get("count", 0) + 1
            if document["count"] % 3 == 0:
                badge = f"{document['count']}-workouts"
                yield (
                    badge,
                    {
                        "type": "achievement.unlocked",
                        "badge": badge,
                        "workout_id": event.data.workout_id,
                        "day": event.data.local_date.isoformat(),
                    },
                )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Celebrates(), vfs="memdb")
    world.store.set_mark("born", OLD)  # so that nothing is history
    yield world
    world.close()


def relay(world: World, *sources: Source) -> Relay:
    """A relay with no outbox, that carries a store's facts on."""

    def further() -> Sequence[Source]:
        return sources or [one for one in [world.store.facts()] if one]

    return Relay(
        (), world.log, EmbeddedPublisher(), world.log, patience=Patience(), further=further
    )


def badges(log: LogReader) -> list[tuple[str, str]]:
    """Person and badge of each fact that is logged."""
    rows = log.scan(Selection(kind="achievement.unlocked"), limit=1_000)
    return [(event.user_id, event.data.badge) for event in (from_bytes(row.body) for row in rows)]


EXPECTED = {(user, f"{n}-workouts") for user in ("ada", "bob", "cyd") for n in (3, 6, 9)}


def test_facts_are_logged_once_and_nothing_is_told_again(world: World) -> None:
    world.post(facts(30))
    world.run()
    carrying = relay(world)
    assert carrying.step() == len(EXPECTED)
    assert set(badges(world.log)) == EXPECTED
    assert carrying.step() == 0
    world.run()
    assert relay(world).step() == 0
    assert len(badges(world.log)) == len(EXPECTED)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_a_commit_leaves_both_or_neither(world: World, moment: str) -> None:
    def die(commit: Any) -> None:
        if commit.facts:
            raise Killed

    world.post(facts(30))
    setattr(world.store, moment, die)
    with pytest.raises(Killed):
        world.run()
    world.store.before = world.store.after = lambda commit: None
    facts_there = world.store.facts()
    assert facts_there is not None
    assert bool(facts_there.rows(0, limit=9)) == bool(world.documents()) == (moment == "after")
    world.run(lambda: world.counts() == {State.APPLIED: 30})
    assert relay(world).step() == len(EXPECTED)
    assert set(badges(world.log)) == EXPECTED


def test_a_generation_that_is_built_tells_nothing_and_its_facts_are_known_already(
    world: World,
) -> None:
    world.post(facts(30))
    world.run()
    relay(world).step()
    first = world.store.facts()
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    second = world.store.facts()
    assert first is not None
    assert second is not None
    assert first.source_id != second.source_id
    carrying = relay(world)
    assert carrying.step() == len(EXPECTED)
    assert len(badges(world.log)) == len(EXPECTED)
    assert world.log.conflicts() == []
    assert world.log.stuck(second.source_id) == []


def test_what_was_accepted_before_the_consumer_was_born_is_told_quietly(tmp_path: Path) -> None:
    world = World(tmp_path, Celebrates(), vfs="memdb")
    world.post(facts(9))
    world.run()
    relay(world).step()
    rows = world.log.scan(Selection(kind="achievement.unlocked"), limit=9)
    assert [from_bytes(row.body).data.origin for row in rows] == ["history"] * 3
    world.close()


def test_a_reaction_that_fails_is_its_events_failure_alone(world: World) -> None:
    class Fails(Celebrates):
        def react(self, event: Event, before: Any, after: Any) -> Any:
            if event.data.workout_id == "w-8":
                raise ValueError("no badge today")
            yield from super().react(event, before, after)

    world.consumer = Fails()
    world.post(facts(9))
    world.run(lambda: world.counts().get(State.DEAD) == 1)
    assert world.counts() == {State.APPLIED: 8, State.DEAD: 1}
    relay(world).step()
    assert set(badges(world.log)) == {("ada", "3-workouts"), ("bob", "3-workouts")}


class Broken:
    """A source whose file cannot be read."""

    source_id = "broken"

    def rows(self, after: int, *, limit: int) -> list[Row]:
        raise Outage("the file is gone")

    def event_id_at(self, row: int) -> str | None:
        return None


def test_a_source_that_cannot_be_read_holds_up_no_other_one(world: World) -> None:
    world.post(facts(9))
    world.run()
    there = world.store.facts()
    assert there is not None
    assert relay(world, Broken(), there).step() == 3


def test_a_leader_carries_its_own_facts_on_and_another_one_goes_on_from_there(
    world: World,
) -> None:
    made: list[int] = []

    def carry(sources: Any, bookmarks: StoreBookmarks) -> Relay:
        made.append(1)
        return Relay(
            (), world.log, EmbeddedPublisher(), bookmarks, patience=Patience(), further=sources
        )

    world.post(facts(15))
    world.run()
    parts = replace(world.parts(Patience()), carry=carry)
    first = Carrying(parts)
    assert made == []
    assert first.step()
    assert len(badges(world.log)) == 3
    world.post(facts(15, first=15))
    world.run()
    second = Carrying(parts)
    assert second.step()
    assert not second.step()
    assert set(badges(world.log)) == EXPECTED


def test_an_outage_of_the_way_out_holds_up_nothing_but_the_facts(world: World) -> None:
    class Down(SqliteEventLog):
        def append(self, events: Sequence[Any], *, source: str) -> Any:
            raise Outage("nobody answers")

    down = Down(world.folder / "down.db", vfs="memdb")

    def carry(sources: Any, bookmarks: StoreBookmarks) -> Relay:
        return Relay((), down, EmbeddedPublisher(), bookmarks, patience=Patience(), further=sources)

    world.post(facts(9))
    world.run()
    carrying = Carrying(replace(world.parts(Patience()), carry=carry))
    assert carrying.step() is False
    assert carrying.step() is False
    down.close()


def test_a_bookmark_in_a_store_is_that_of_its_source_alone(world: World) -> None:
    store: Store = world.store
    bookmarks = StoreBookmarks(store)
    assert bookmarks.load("a") is None
    bookmarks.save(Bookmark("a", 7, "id-7"))
    assert bookmarks.load("a") == Bookmark("a", 7, "id-7")
    assert bookmarks.load("b") is None
    bookmarks.set_aside(Stuck("a", 8, "id-8", "too large", b""))
    assert store.mark("stuck a 8") == '["id-8", "too large"]'


def test_a_replay_tells_nothing_again(world: World) -> None:
    world.post(facts(30))
    world.run()
    carrying = relay(world)
    carrying.step()
    rows = stored(world)
    for arguments in ({}, {"user": "ada"}):
        asked = world.control.ask("tally", "replay", arguments)
        world.run(lambda: world.control.get(asked.id).ended)  # noqa: B023
    world.worker().take(Batch(world.deliveries(redelivered=True)))
    assert stored(world) == rows
    assert relay(world).step() == 0
    assert len(badges(world.log)) == len(EXPECTED)


def stored(world: World) -> list[Row]:
    """All rows of the live generation's facts."""
    source = world.store.facts()
    return source.rows(0, limit=1_000) if source else []


def test_whatever_the_order_of_arrival_the_ids_are_the_same(tmp_path: Path) -> None:
    found = []
    for place, batch in enumerate((1, 7, 500)):
        world = World(tmp_path / str(place), Celebrates(), batch=batch, vfs="memdb")
        posted = facts(30)
        Random(place).shuffle(posted)
        world.post(posted)
        world.run()
        found.append(sorted(row.event.id for row in stored(world)))
        assert len(found[-1]) == len(set(found[-1])) == len(EXPECTED)
        world.close()
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("nonsense", [7, [None], [("k", {"type": "shoe.lost"})], [("k", {})]])
def test_nonsense_is_dead_at_once_with_what_was_given_and_its_neighbours_are_applied(
    world: World, nonsense: Any
) -> None:
    class Babbles(Celebrates):
        def react(self, event: Event, before: Any, after: Any) -> Any:
            return nonsense if event.data.workout_id == "w-8" else ()

    world.consumer = Babbles()
    world.post(facts(9))
    world.run(lambda: world.counts().get(State.DEAD) == 1)
    fate = world.fates()["w-8"]
    assert world.counts() == {State.APPLIED: 8, State.DEAD: 1}
    assert fate.attempts == 1
    assert fate.reason.startswith("BadFold: react() gave")
    assert world.documents()["cyd"]["count"] == 2


def test_a_rebuild_with_other_code_announces_what_is_new_and_nothing_twice(world: World) -> None:
    world.post(facts(30))
    world.run()
    relay(world).step()
    before = {row.event_id for row in logged(world.log)}

    class CelebratesMore(Celebrates):
        def react(self, event: Event, before: Any, after: Any) -> Any:
            yield from super().react(event, before, after)
            if after[event.user_id]["count"] == 1:
                yield "first", told("first", event)

    world.consumer = CelebratesMore(version=2)
    world.run(lambda: world.live.version == 2)
    carrying = relay(world)
    assert carrying.step() == len(EXPECTED) + 3
    now = [row.event_id for row in logged(world.log)]
    assert len(now) == len(set(now)) == len(EXPECTED) + 3
    assert before < set(now)


def logged(log: LogReader) -> list[Any]:
    return list(log.scan(Selection(kind="achievement.unlocked"), limit=1_000))


def told(badge: str, event: Event) -> dict[str, Any]:
    day = "2026-11-24"
    return {
        "type": "achievement.unlocked",
        "badge": badge,
        "workout_id": event.data.workout_id,
        "day": day,
    }


class Echo(Tally):
    """Answers each badge, its own too, with another one."""

    bindings = ("workout.completed.#", "achievement.unlocked.#")

    def fold(self, event: Event, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1

    def react(self, event: Event, before: Any, after: Any) -> Any:
        key = f"echo-{event.hops + 1}"
        yield key, told(key, event)


def test_what_feeds_itself_ends_after_eight_steps_as_a_dead_letter_that_says_why(
    world: World,
) -> None:
    world.consumer = Echo()
    world.post(facts(1))
    carrying = relay(world)
    for _ in range(12):
        world.run()
        carrying.step()
    hops = [from_bytes(row.body).hops for row in logged(world.log)]
    assert hops == list(range(1, 9))
    assert world.counts() == {State.APPLIED: 8, State.DEAD: 1}
    ((_, fate),) = world.store.open_fates(world.live.number, State.DEAD)
    assert "it follows by more than 8 steps; do two consumers feed each other?" in fate.reason
    assert fate.attempts == 1
    causes = [json.loads(row.body)["causedby"] for row in logged(world.log)]
    posted = world.log.scan(Selection(kind="workout.completed"), limit=1)
    assert causes == [posted[0].event_id, *(row.event_id for row in logged(world.log)[:-1])]


# The relay of files.


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation with four consumers by name, none of which has a store yet."""
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    settings = read_settings()
    settings.plugins.mkdir()
    for name in ("a", "b", "c", "d"):
        (settings.plugins / f"{name}.py").write_text("")
    return settings


def fact(number: int) -> Sealed:
    cause = from_bytes(seal(workout(user_id=f"u{number}"), accepted_at=NOW).body)
    return seal_reaction(cause, told("first", cause), consumer="a", key="first", quiet=False)


def with_facts(settings: Settings, name: str, *numbers: int) -> SqliteStore:
    store = SqliteStore(settings.store_file(name))
    live = store.live() or store.begin(version=1, code="", bindings=("#",), indexes={})
    store.commit(live.number, Commit(facts=[fact(number) for number in numbers]))
    return store


def damage(file: Path) -> None:
    """Overwrite all but the first page, as a bad disk does."""
    size = file.stat().st_size
    with file.open("r+b") as pages:
        pages.seek(4096)
        pages.write(b"\xa5" * (size - 4096))


def test_files_that_come_later_are_carried_on_and_one_in_pieces_holds_up_nobody(
    installed: Settings,
) -> None:
    log = SqliteEventLog(installed.log_file)
    asked = fact_sources(installed)
    carrying = Relay((), log, EmbeddedPublisher(), log, patience=Patience(), further=asked)
    assert carrying.step() == 0

    def step() -> int:
        carrying._ask_at = 0.0  # as if a second were over
        return carrying.step()

    first = with_facts(installed, "a", 1, 2)
    assert step() == 2
    with_facts(installed, "b", 3).close()
    installed.store_file("c").write_bytes(b"this is no database, and never was one" * 1_000)
    installed.store_file("d").touch()
    assert step() == 1
    broken = with_facts(installed, "b", *range(100, 200))
    broken._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    broken.close()
    damage(installed.store_file("b"))
    first.commit(1, Commit(facts=[fact(4)]))
    assert step() >= 1
    assert fact(4).id in {row.event_id for row in logged(log)}
    first.commit(1, Commit(facts=[fact(5)]))
    step()
    installed.store_file("c").unlink()
    with_facts(installed, "c", 6).close()
    step()
    ids = [row.event_id for row in logged(log)]
    assert {fact(number).id for number in range(1, 7)} <= set(ids)
    assert len(ids) == len(set(ids))
    first.close()
    log.close()


# On MongoDB the leader carries them.


class Confirms:
    """A publisher with a window that notes what it is given; it confirms while it is told to."""

    window = 2

    def __init__(self) -> None:
        self.open = self.confirms = True
        self.published: list[str] = []

    def publish(self, events: Sequence[Appended]) -> Any:
        if not self.open:
            raise Outage("nobody answers")
        self.published += [from_bytes(one.body).id for one in events]
        at = [one.position for one in events] if self.confirms else []
        return SimpleNamespace(confirmed=lambda: at)

    def close(self) -> None:
        pass


class Shared:
    """A consumer's database and the log, which any number of leaders open."""

    def __init__(self, mongo: Databases) -> None:
        self._client = mongo.client
        self.name, self._log_name = mongo.new_name(), mongo.new_name()
        self.log, self.store = self.open_log(), self.open_store()
        self.live = self.store.begin(version=1, code="", bindings=("#",), indexes={}).number

    def open_log(self) -> MongoEventLog:
        return MongoEventLog(self._client, self._log_name)

    def open_store(self) -> MongoStore:
        return MongoStore(self._client, self.name, uuid4().hex)

    def commit(self, numbers: range) -> None:
        for start in range(numbers.start, numbers.stop, 500):
            some = range(start, min(start + 500, numbers.stop))
            self.store.commit(self.live, Commit(facts=[fact(number) for number in some]))

    def leader(self, out: Confirms) -> Carrying:
        """Another process that leads: with a relay of its own, and the store's bookmarks."""

        def carry(sources: Any, bookmarks: StoreBookmarks) -> Relay:
            log = self.open_log()
            return Relay((), log, out, bookmarks, patience=Patience(), further=sources)

        loaded: Any = SimpleNamespace(consumer=Celebrates())
        parts = SimpleNamespace(loaded=loaded, store=self.open_store(), carry=carry)
        return Carrying(cast("Parts", parts))


@pytest.fixture
def shared(mongod: Mongod) -> Iterator[Shared]:
    with databases(mongod) as made:
        yield Shared(made)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("consumers.runtime.carrying", "events.relay"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


def assert_all_are_there(shared: Shared, count: int) -> None:
    """Each fact is logged once, and all that is there is settled, so that no sweep waits."""
    ids = [row.event_id for row in shared.log.scan(Selection(), limit=100_000)]
    assert sorted(ids) == sorted(fact(number).id for number in range(count))
    assert shared.log.conflicts() == []
    assert shared.log.unsettled(limit=9) == []


def until_idle(carrying: Carrying, clock: Clock) -> None:
    for _ in range(100):
        clock.now += 2.5
        if not carrying.step() and not carrying.step():
            return
    raise AssertionError("it never comes to an end")


def test_the_next_leader_carries_on_what_the_last_one_had_on_its_way(
    shared: Shared, clock: Clock
) -> None:
    shared.commit(range(2_500))
    dying = Confirms()
    dying.confirms = False
    first = shared.leader(dying)
    assert first.step()
    assert first.step()
    assert len(dying.published) == 2_000  # logged, and nobody knows whether in a queue
    shared.commit(range(2_500, 2_600))
    out = Confirms()
    until_idle(shared.leader(out), clock)
    assert_all_are_there(shared, 2_600)
    assert set(out.published) == {fact(number).id for number in range(2_600)}
    again = Confirms()
    until_idle(shared.leader(again), clock)
    assert again.published == []


def test_over_an_outage_of_the_broker_facts_wait_and_none_is_missing(
    shared: Shared, clock: Clock
) -> None:
    out = Confirms()
    carrying = shared.leader(out)
    shared.commit(range(10))
    out.open = False
    for _ in range(5):
        assert carrying.step() is False
        clock.now += 2.5
    shared.commit(range(10, 20))
    out.open = True
    until_idle(carrying, clock)
    assert out.published == [fact(number).id for number in range(20)]
    assert_all_are_there(shared, 20)


def test_while_the_way_is_closed_it_is_not_tried_at_every_turn(
    shared: Shared, clock: Clock
) -> None:
    tried: list[int] = []

    class Closed(Confirms):
        def publish(self, events: Sequence[Appended]) -> Any:
            tried.append(len(events))
            raise Outage("nobody answers")

    carrying = shared.leader(Closed())
    shared.commit(range(3))
    for _ in range(50):
        carrying.step()
        clock.now += 0.1
    assert 2 <= len(tried) <= 3  # in five seconds


def test_two_who_believe_that_they_lead_log_each_fact_once(shared: Shared, clock: Clock) -> None:
    ours, theirs = Confirms(), Confirms()
    leaders = [shared.leader(ours), shared.leader(theirs)]
    for start in range(0, 600, 100):
        shared.commit(range(start, start + 100))
        leaders[start // 100 % 2].step()
        clock.now += 0.3
    for leader in leaders:
        until_idle(leader, clock)
    assert_all_are_there(shared, 600)
    assert {*ours.published, *theirs.published} == {fact(number).id for number in range(600)}


def test_one_that_does_not_lead_any_more_carries_nothing_until_it_leads_again(
    shared: Shared, clock: Clock
) -> None:
    first, second = shared.leader(out := Confirms()), shared.leader(Confirms())
    shared.commit(range(5))
    until_idle(first, clock)
    first.stop()
    shared.commit(range(5, 10))
    until_idle(second, clock)
    second.stop()
    shared.commit(range(10, 15))
    until_idle(first, clock)
    assert out.published == [fact(number).id for number in (*range(5), *range(10, 15))]
    assert_all_are_there(shared, 15)
