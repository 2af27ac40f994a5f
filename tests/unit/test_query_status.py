"""What every consumer is doing: state, lag, age, counts; over HTTP and for the command."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumers.runtime.fates import Fate, State
from consumers.runtime.status import Building, Condition, ConsumerStatus, Installation, statuses
from consumers.runtime.store import Change, Commit
from events.log.sqlite import SqliteEventLog
from events.workouts import Sport
from tests.factories import workout
from tests.unit.query_world import ACCEPTED_AT, MILES, NOW, World, installed


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


def status_of(world: World, name: str = "miles", *, now: datetime = NOW) -> ConsumerStatus:
    found = statuses(Installation(world.settings), now=now)
    return next(one for one in found if one.name == name)


def running(world: World) -> None:
    world.store().set_mark("running", str(os.getpid()))


def test_a_consumer_that_no_worker_has_run_has_not_started(world: World) -> None:
    world.plug_in()
    status = status_of(world)
    assert status.state is Condition.NOT_STARTED
    assert status.place.endswith("plugins/miles.py")
    assert status.version is None


def test_a_consumer_that_has_everything_is_live(world: World) -> None:
    world.plug_in()
    world.post(workout(), workout(workout_id="w2"), workout(workout_id="y", sport=Sport.YOGA))
    world.fold()
    running(world)
    # Its commit was today, whenever the test's own time is.
    assert replace(status_of(world), rate_per_s=0.0) == ConsumerStatus(
        name="miles",
        place=status_of(world).place,
        state=Condition.LIVE,
        version=1,
        generation=1,
        bindings=("workout.completed.running", "workout.completed.walking"),
        lag=0,
        applied=2,
    )


def test_the_rate_is_told_for_ten_seconds_after_the_last_commit(world: World) -> None:
    world.plug_in()
    world.post(workout())
    before = datetime.now(UTC)
    world.fold()
    after = datetime.now(UTC)
    running(world)
    assert status_of(world, now=before + timedelta(seconds=9)).rate_per_s == 12.5
    assert status_of(world, now=after + timedelta(seconds=11)).rate_per_s == 0.0


def test_lag_counts_only_what_the_bindings_want_and_nobody_looked_at(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    world.post(
        workout(workout_id="y", sport=Sport.YOGA), accepted_at=ACCEPTED_AT - timedelta(days=9)
    )
    world.post(workout(workout_id="w2"), accepted_at=NOW - timedelta(seconds=2.5))
    world.post(workout(workout_id="w3"), accepted_at=NOW - timedelta(seconds=1))
    status = status_of(world)
    assert (status.lag, status.oldest_pending_age_s) == (2, 2.5)
    assert status.state is Condition.LIVE


def test_lag_is_added_up_over_the_relays_that_wrote(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    for restart in range(3):
        world.log.close()
        world.log = SqliteEventLog(world.settings.log_file)
        late = NOW - timedelta(seconds=restart + 1)
        world.post(
            workout(workout_id=f"r{restart}"),
            workout(workout_id=f"s{restart}"),
            accepted_at=late,
        )
    status = status_of(world)
    assert (status.lag, status.oldest_pending_age_s) == (6, 3.0)
    world.fold()
    assert status_of(world).lag == 0


def test_a_consumer_that_has_begun_and_folded_nothing_lags_by_all(world: World) -> None:
    world.plug_in()
    world.begin()
    running(world)
    world.post(workout(), workout(workout_id="y", sport=Sport.YOGA), workout(workout_id="w2"))
    status = status_of(world)
    assert status.lag == 2
    assert status.state is Condition.CATCHING_UP
    assert status.oldest_pending_age_s == (NOW - ACCEPTED_AT).total_seconds()


def test_what_is_set_aside_is_counted(world: World) -> None:
    world.plug_in()
    world.begin()
    running(world)
    ids = world.post(*[workout(workout_id=f"w{number}") for number in range(6)])
    states = [State.RETRYING] * 3 + [State.DEAD] * 2 + [State.DISCARDED]
    for event_id, state in zip(ids, states, strict=True):
        world.set_fate(event_id, Fate(state=state, reason="x"))
    status = status_of(world)
    assert (status.retrying, status.dead, status.discarded, status.applied) == (3, 2, 1, 0)
    assert status.lag == 0


def applied(world: World, *event_ids: str) -> None:
    """Give events their fates as a queue does that brings them: the watermarks stay."""
    live = world.store().live()
    assert live is not None
    rows = [row for row in map(world.log.get, event_ids) if row is not None]
    world.store().commit(live.number, Commit(applied=[row.position for row in rows]))


def test_what_a_queue_has_brought_past_the_watermarks_is_no_lag(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    late = NOW - timedelta(seconds=60)
    ids = world.post(*[workout(workout_id=f"w{n}") for n in range(6)], accepted_at=late)
    world.post(workout(workout_id="y", sport=Sport.YOGA), accepted_at=late)
    applied(world, *ids)
    status = status_of(world)
    assert (status.lag, status.oldest_pending_age_s) == (0, None)
    assert status.state is Condition.LIVE


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_what_a_queue_has_not_brought_between_others_is_the_lag_and_its_age(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("consumers.runtime.lag._LOOK_AT", at_once)
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    ids = [
        *world.post(workout(workout_id="w0"), accepted_at=NOW - timedelta(seconds=60)),
        *world.post(workout(workout_id="w1"), accepted_at=NOW - timedelta(seconds=40)),
        *world.post(workout(workout_id="w2"), accepted_at=NOW - timedelta(seconds=30)),
        *world.post(workout(workout_id="w3"), accepted_at=NOW - timedelta(seconds=20)),
    ]
    applied(world, ids[0], ids[1])
    status = status_of(world)
    assert (status.lag, status.oldest_pending_age_s) == (2, 30.0)
    assert status.state is Condition.CATCHING_UP


def test_what_is_set_aside_past_the_watermarks_is_no_lag_either(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    (event_id,) = world.post(workout(workout_id="w2"), accepted_at=ACCEPTED_AT)
    logged, live = world.log.get(event_id), world.store().live()
    assert logged is not None
    assert live is not None
    dead = Change(logged.position, None, Fate(state=State.DEAD, reason="x"))
    world.store().commit(live.number, Commit(changes=[dead]))
    status = status_of(world)
    assert (status.lag, status.dead) == (0, 1)


def test_a_consumer_that_has_looked_at_nothing_and_got_all_by_its_queue_has_no_lag(
    world: World,
) -> None:
    world.plug_in()
    world.begin()
    running(world)
    applied(world, *world.post(workout(), workout(workout_id="w2")))
    status = status_of(world)
    assert (status.lag, status.oldest_pending_age_s, status.state) == (0, None, Condition.LIVE)


WHY = "The broker refuses queue paceline.miles: no access."


def test_a_consumer_without_its_queue_says_why_and_that_events_come_all_the_same(
    world: World,
) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    world.store().set_mark("no-queue", WHY)
    status = status_of(world)
    assert status.state is Condition.WITHOUT_QUEUE
    assert status.reason.startswith(WHY)
    assert "from the log" in status.reason
    assert world.client().get("/v1/consumers/miles").json["state"] == "without-queue"


def test_what_stops_a_consumer_is_told_before_its_queue(world: World) -> None:
    world.plug_in()
    world.begin()
    world.store().set_mark("no-queue", WHY)
    assert status_of(world).state is Condition.STOPPED
    running(world)
    world.store().set_mark("paused", "1")
    assert status_of(world).state is Condition.PAUSED
    world.store().set_mark("problem", "The log was restored.")
    assert status_of(world).state is Condition.STOPPED


def test_a_paused_consumer_says_so(world: World) -> None:
    world.plug_in()
    world.begin()
    running(world)
    world.store().set_mark("paused", "1")
    assert status_of(world).state is Condition.PAUSED


def test_code_that_changed_without_its_version_is_told_and_a_handler_has_none(
    world: World,
) -> None:
    world.plug_in()
    world.fold()
    running(world)
    world.store().set_mark("code", world.loaded().code)
    assert (status_of(world).state, status_of(world).reason) == (Condition.LIVE, "")
    world.store().set_mark("code", "another")
    status = status_of(world)
    assert status.state is Condition.LIVE
    assert status.reason.startswith("Its code changed and its version did not: raise it")
    world.store().set_mark("kind", "handler")
    assert status_of(world).reason == ""


def test_a_generation_that_is_built_shows_its_progress(world: World) -> None:
    world.plug_in()
    world.post(workout(), workout(workout_id="w2"))
    world.fold()
    running(world)
    world.plug_in(source=MILES.replace("version = 1", "version = 2"))
    built = world.begin()
    world.fold(generation=built)
    world.post(workout(workout_id="w3"), accepted_at=NOW)
    status = status_of(world)
    assert status.state is Condition.REBUILDING
    assert status.building == Building(generation=2, version=2, applied=2, total=3)
    assert (status.version, status.generation) == (1, 1)


@pytest.mark.parametrize(
    ("problem", "state"),
    [
        ("{place}: fold() is missing.", Condition.UNFIT),
        ("The log ends at 5, and 9 was read.", Condition.STOPPED),
    ],
)
def test_a_problem_is_told_before_the_first_generation_and_after(
    world: World, problem: str, state: Condition
) -> None:
    world.plug_in()
    running(world)
    problem = problem.format(place=status_of(world).place)
    world.store().set_mark("problem", problem)
    assert (status_of(world).state, status_of(world).reason) == (state, problem)
    world.begin()
    assert (status_of(world).state, status_of(world).reason) == (state, problem)


def test_a_worker_that_was_killed_is_not_shown_as_running(world: World) -> None:
    world.plug_in()
    world.begin()
    ended = subprocess.Popen(["true"])
    ended.wait()
    world.store().set_mark("running", str(ended.pid))
    status = status_of(world)
    assert status.state is Condition.STOPPED
    assert "No worker runs" in status.reason


def test_a_store_that_cannot_be_read_hides_no_other_consumer(world: World) -> None:
    world.plug_in()
    world.begin()
    running(world)
    world.plug_in("broken", MILES.replace('"miles"', '"broken"'))
    world.settings.store_file("broken").write_bytes(b"this is no database" * 100)
    assert status_of(world, "broken").state is Condition.STOPPED
    assert "broken.db" in status_of(world, "broken").reason
    assert status_of(world).state is Condition.LIVE


def test_the_status_over_http_is_that_of_the_command(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    running(world)
    client = world.client()
    listed = client.get("/v1/consumers").json
    expected = {**asdict(status_of(world)), "bindings": list(status_of(world).bindings)}
    assert listed == {"items": [expected], "next": None}
    assert client.get("/v1/consumers/miles").json == expected


def test_a_consumer_that_is_not_there_is_a_404_that_names_those_that_are(world: World) -> None:
    world.plug_in()
    missing = world.client().get("/v1/consumers/kilometres")
    assert missing.status_code == 404
    assert "there are: miles" in missing.json["detail"]
