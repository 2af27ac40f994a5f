"""Facts on their way: committed with the state, carried into the log, once."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.carrying import Carrying, StoreBookmarks
from consumers.runtime.fates import State
from consumers.runtime.store import Store
from events.bus.embedded import EmbeddedPublisher
from events.envelope import Event, from_bytes
from events.errors import Outage
from events.log import LogReader, Selection
from events.log.sqlite import SqliteEventLog
from events.patience import Patience
from events.relay import Relay
from events.sources import Row, Source
from tests.integration.doubles import Killed
from tests.integration.world import Tally, World, facts

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

    from dataclasses import replace

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

    from dataclasses import replace

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
    from events.sources import Bookmark, Stuck

    store: Store = world.store
    bookmarks = StoreBookmarks(store)
    assert bookmarks.load("a") is None
    bookmarks.save(Bookmark("a", 7, "id-7"))
    assert bookmarks.load("a") == Bookmark("a", 7, "id-7")
    assert bookmarks.load("b") is None
    bookmarks.set_aside(Stuck("a", 8, "id-8", "too large", b""))
    assert store.mark("stuck a 8") == '["id-8", "too large"]'
