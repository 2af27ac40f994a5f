"""A consumer that wants no history: what was accepted before is not for it, wherever one asks."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.audit import audit_consumer
from consumers.runtime.fates import State
from consumers.runtime.query.app import create_query_app
from consumers.runtime.registry import Loaded
from consumers.runtime.store import Generation, Phase
from consumers.runtime.worker import Worker
from events.bus import Delivery
from events.envelope import seal
from events.log import Position, Selection
from events.log.sqlite import SqliteEventLog
from events.settings import read_settings
from events.workouts import WorkoutCompleted
from tests.factories import workout
from tests.integration.brokered import BrokeredWorld
from tests.integration.shell import PLUGIN, printed
from tests.integration.world import Tally, World, facts, tallied

SINCE = datetime(2026, 6, 1, 12, 0, 0, 123_000, tzinfo=UTC)
EARLIER, LATER = SINCE - timedelta(days=30), datetime(2100, 1, 1, tzinfo=UTC)
OLD, NEW = facts(9), facts(6, first=9)
Post = Callable[..., list[str]]


class SinceWorld(World):
    """A consumer that says since when it wants events."""

    since: str | None = SINCE.isoformat()

    def loaded(self) -> Loaded:
        return replace(super().loaded(), since=self.since)

    def accept(self, workouts: Sequence[WorkoutCompleted], accepted_at: datetime) -> list[str]:
        """Bring workouts into the log that were accepted then; return the ids of their events."""
        sealed = [seal(one, accepted_at=accepted_at) for one in workouts]
        self.log.append(sealed, source="door")
        return [one.id for one in sealed]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SinceWorld]:
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tally.py").write_text(PLUGIN)
    world = SinceWorld(tmp_path, Tally())
    yield world
    world.close()


def shown(event_id: str) -> dict[str, Any]:
    """What `GET /v1/events/{id}` says of the consumer."""
    answer = create_query_app(read_settings()).test_client().get(f"/v1/events/{event_id}")
    found: dict[str, Any] = answer.json["consumers"]["tally"]
    return found


def audited(world: World) -> dict[str, int]:
    """What the audit counts, where it holds."""
    with world.store.moment():
        audit = audit_consumer("tally", world.store, world.live, world.log)
    assert audit.holds
    return {str(name): count for name, count in audit.fates.items() if count}


def assert_only_new(world: SinceWorld, old: list[str], new: list[str]) -> None:
    """Wherever one asks, the old events are not for it, and the new ones are applied."""
    assert world.documents() == tallied(NEW)
    assert set(world.fates()) == {one.workout_id for one in NEW}
    assert audited(world) == {"applied": len(NEW), "not-for-it": len(OLD)}
    (row,) = printed("consumers", "list")
    assert (row["lag"], row["applied"], row["oldest_pending_age_s"]) == (0, len(NEW), None)
    assert [shown(one) for one in old] == [{"fate": "not-for-it"}] * len(OLD)
    assert [shown(one) for one in new] == [{"fate": "applied"}] * len(NEW)


@pytest.mark.parametrize("since", ["now", SINCE.isoformat(), "2026-06-01T14:00:00.123+02:00"])
def test_what_was_accepted_before_is_not_for_it_wherever_one_asks_also_after_a_rebuild(
    world: SinceWorld, since: str
) -> None:
    world.since = since
    old = world.accept(OLD, EARLIER)
    world.run()
    new = world.accept(NEW, LATER)
    world.run()
    assert_only_new(world, old, new)
    for generation in (2, 3):
        asked = world.control.ask("tally", "rebuild", {})
        world.run(lambda: world.control.get(asked.id).ended)  # noqa: B023
        assert world.control.get(asked.id).answer["applied"] == len(NEW)
        assert world.live.number == generation
        assert_only_new(world, old, new)


def test_now_is_when_it_came_and_neither_a_restart_nor_a_raised_version_moves_it(
    world: SinceWorld,
) -> None:
    world.since = "now"
    before = datetime.now(UTC)
    world.run()
    came = world.live.since
    assert came is not None
    # It is kept in whole ms.
    assert before - timedelta(milliseconds=1) <= came <= datetime.now(UTC)
    world.accept(OLD, came - timedelta(milliseconds=1))
    world.accept(NEW, came)
    world.run()
    assert world.documents() == tallied(NEW)
    world.consumer.version = 2
    world.run(lambda: world.live.version == 2)
    assert world.live.since == came
    assert world.documents() == tallied(NEW)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (None, [*OLD, *NEW]),
        ((EARLIER + timedelta(days=1)).isoformat(), NEW),
        (EARLIER.isoformat(), [*OLD, *NEW]),
        ("now", NEW),
    ],
    ids=["all", "another day", "an earlier day", "now"],
)
def test_a_raised_version_may_want_more_of_the_past_and_is_given_it(
    world: SinceWorld, since: str | None, expected: list[WorkoutCompleted]
) -> None:
    world.accept(OLD, EARLIER)
    world.accept(NEW, LATER)
    world.run()
    assert world.documents() == tallied(NEW)
    world.since, world.consumer.version = since, 2
    world.run(lambda: world.live.version == 2)
    assert world.documents() == tallied(expected)
    assert sum(audited(world).values()) == len(OLD) + len(NEW)


def test_lag_and_progress_count_only_what_is_for_it(world: SinceWorld) -> None:
    world.run()
    world.accept(OLD, EARLIER)
    world.accept(NEW, LATER)
    (row,) = printed("consumers", "list")
    assert row["lag"] == len(NEW)
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    assert world.control.get(asked.id).total == len(NEW)


def test_a_replay_brings_nothing_that_is_not_for_it(world: SinceWorld) -> None:
    old = world.accept(OLD, EARLIER)
    world.accept(NEW, LATER)
    world.run()
    whole, early = {}, {"from": (EARLIER - timedelta(days=1)).isoformat()}
    for arguments in (whole, early, {"ids": old}):
        asked = world.control.ask("tally", "replay", arguments)
        world.run(lambda: world.control.get(asked.id).ended)  # noqa: B023
        answer = world.control.get(asked.id).answer
        assert (answer["applied"], answer["others"]) == (0, 0)
    assert world.documents() == tallied(NEW)
    selected = [{"consumer": "tally", "selected": len(NEW)}]
    assert printed("replay", "--consumer", "tally", "--dry-run") == selected


def test_what_a_queue_brings_and_is_not_for_it_is_acked_and_leaves_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brokered(BrokeredWorld):
        def loaded(self) -> Loaded:
            return replace(super().loaded(), since=SINCE.isoformat())

    world = Brokered(tmp_path, Tally(), monkeypatch)
    world.run()
    for workouts, accepted_at in ((OLD, EARLIER), (NEW, LATER)):
        sealed = [seal(one, accepted_at=accepted_at) for one in workouts]
        at = {one.position for one in world.log.append(sealed, source="door")}
        world.queue.bring(one for one in world.deliveries() if one.position in at)
    world.run(lambda: world.clock.now > 1_060)  # so that the sweep was there too
    assert (world.queue.length(), world.queue.in_hand) == (0, 0)
    assert world.documents() == tallied(NEW)
    assert world.counts() == {State.APPLIED: len(NEW)}
    assert world.store.watermarks(world.live.number) == world.log.settled()
    assert audited(world) == {"applied": len(NEW), "not-for-it": len(OLD)}
    world.close()


MICROSECONDS = st.integers(-3_000, 3_000) | st.integers(-(10**12), 10**12)


@given(MICROSECONDS, st.integers(0, 10**12))
def test_to_the_microsecond_all_agree_on_what_is_before(away: int, moment_ms: int) -> None:
    since = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment_ms)
    accepted_at = since + timedelta(microseconds=away)
    event = seal(workout(), accepted_at=accepted_at)
    since_ms = (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    live = Generation(
        number=1,
        phase=Phase.LIVE,
        version=1,
        code="",
        bindings=("#",),
        indexes={},
        since_ms=since_ms,
    )
    assert live.since == since
    assert live.is_before(event.body) == (accepted_at < since)
    worker = _worker(since_ms)
    delivery = Delivery(Position("r", 1), "workout.completed.running", event.body, False)
    assert worker._is_for_us(delivery) == (accepted_at >= since)


def _worker(since_ms: int) -> Worker:
    nothing: Any = None
    return Worker(Tally(), nothing, 1, guard=nothing, limits=nothing, since_ms=since_ms)


@pytest.mark.parametrize("away_us", [-1_000, -1, 0, 1, 1_000])
def test_the_log_counts_as_the_worker_does(tmp_path: Path, away_us: int) -> None:
    log = SqliteEventLog(tmp_path / "log.db")
    accepted_at = SINCE + timedelta(microseconds=away_us)
    log.append([seal(workout(), accepted_at=accepted_at)], source="door")
    assert log.count(Selection(accepted_from=SINCE)) == (away_us >= 0)
    log.close()


def test_without_it_all_of_the_past_is_for_it(world: SinceWorld) -> None:
    world.since = None
    world.accept(OLD, EARLIER)
    world.accept(NEW, LATER)
    world.run()
    assert world.live.since is None
    assert world.documents() == tallied([*OLD, *NEW])
    assert json.loads(json.dumps(audited(world))) == {"applied": len(OLD) + len(NEW)}
