"""A log that was restored from an older copy: consumers that are ahead of it stop, and say so."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime import runner
from consumers.runtime.control import RequestState
from consumers.runtime.fates import State
from consumers.runtime.operations import delivered
from consumers.runtime.sweep import Sweep
from consumers.runtime.worker import Limits, Worker
from events.log import Selection
from events.log.sqlite import SqliteEventLog
from tests.integration.doubles import StillGuard
from tests.integration.world import Tally, World, facts, tallied


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, Tally(), batch=10)
    yield world
    world.close()


def rebuilt(world: World) -> Any:
    """Ask for a rebuild, run until it has ended, and return the request."""
    asked = world.control.ask("tally", "rebuild", {})
    world.run(lambda: world.control.get(asked.id).ended)
    return world.control.get(asked.id)


def restored(world: World) -> None:
    """Put an older copy in the place of the log, which another relay then goes on with."""
    world.post(facts(20))
    world.log.close()
    shutil.copy(world.folder / "log.db", world.folder / "copy.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(15, first=20))
    world.run()
    world.log.close()
    shutil.copy(world.folder / "log.db", world.folder / "whole.db")
    shutil.copy(world.folder / "copy.db", world.folder / "log.db")
    world.log = SqliteEventLog(world.folder / "log.db")


@pytest.mark.parametrize("extended", [False, True])
def test_a_consumer_that_is_ahead_of_a_restored_log_stops_and_says_what_to_do(
    world: World, *, extended: bool
) -> None:
    restored(world)
    if extended:
        world.post(facts(9, first=100))
    before = world.documents()
    for _ in range(2):
        world.run()
        problem = world.store.mark("problem") or ""
        assert "restored from an older copy" in problem
        assert "rebuild this consumer: `paceline rebuild NAME`" in problem
        assert world.documents() == before


def test_a_consumer_goes_on_when_the_right_log_is_back_at_its_next_start(world: World) -> None:
    restored(world)
    world.run()
    assert world.store.mark("problem") is not None
    world.log.close()
    shutil.copy(world.folder / "whole.db", world.folder / "log.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(1, first=35))
    world.run()
    assert world.store.mark("problem") is None
    assert world.documents() == tallied(facts(36))


def test_a_running_consumer_notices_that_the_log_was_restored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_CHECK_EVERY_S", 0.0)
    world.post(facts(5))
    world.run()
    less = dict.fromkeys(world.log.settled(), 1)

    def condition() -> bool:
        monkeypatch.setattr(world.log, "settled", lambda: less)
        monkeypatch.setattr(world.log, "scan", lambda selection, limit: [])
        return world.store.mark("problem") is not None

    world.run(condition)
    assert world.documents() == tallied(facts(5))


def test_a_rebuild_heals_a_consumer_whose_log_was_restored_and_refilled(world: World) -> None:
    restored(world)
    world.post(facts(9, first=100))
    world.post(facts(35))  # as `relay --again 1` does
    request = rebuilt(world)
    assert request.state is RequestState.DONE
    assert world.store.mark("problem") is None
    world.post(facts(1, first=200))
    world.run()
    everything = facts(35) + facts(9, first=100) + facts(1, first=200)
    assert world.documents() == tallied(everything)
    assert world.counts() == {State.APPLIED: 45}
    assert world.store.mark("problem") is None


def test_events_that_were_replayed_past_the_watermark_tell_a_restored_log_too(
    world: World,
) -> None:
    world.post(facts(30))
    world.log.close()
    shutil.copy(world.folder / "log.db", world.folder / "copy.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(10, first=30))
    live = world.store.begin(version=1, code="", bindings=("#",), indexes={})
    worker = Worker(world.consumer, world.store, live.number, guard=StillGuard(), limits=Limits())
    Sweep(world.log, world.store, worker, live, size=10).step()
    late = world.log.scan(Selection(after=30), limit=100)
    worker.apply([delivered(row) for row in late])
    assert len(late) == 10
    world.log.close()
    shutil.copy(world.folder / "copy.db", world.folder / "log.db")
    world.log = SqliteEventLog(world.folder / "log.db")
    world.post(facts(10, first=30))
    world.run()
    assert "restored from an older copy" in (world.store.mark("problem") or "")
