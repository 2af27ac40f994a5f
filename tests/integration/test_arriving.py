"""A consumer that comes to a long history steps back for it, and begins anew when it is there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consumers.runtime import arriving, runner
from events.patience import Patience
from tests.integration.world import Tally, World, facts, tallied


@pytest.fixture
def steps_back(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each process that has let others go first; ten events are a long history."""
    stepped: list[None] = []
    monkeypatch.setattr(arriving, "_step_back", lambda: stepped.append(None))
    monkeypatch.setattr(arriving, "_LONG", 10)
    monkeypatch.setattr(arriving, "_NEARLY", 3)
    monkeypatch.setattr(runner, "_CHECK_EVERY_S", 0.0)
    return stepped


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Nothing is applied of 25 events; five come at once."""
    world = World(tmp_path, Tally(), batch=5)
    world.post(facts(25))
    yield world
    world.close()


def turns(world: World, count: int) -> Patience:
    """Turn so often, and end as a process that is killed does: without a word."""
    patience = Patience()
    made = world.runner(patience)
    for _ in range(count):
        made._turn()
    return patience


def test_it_steps_back_until_nearly_all_is_folded_and_then_ends(
    world: World, steps_back: list[None]
) -> None:
    with capture_logs() as logs:
        world.runner(patience := Patience()).run()
    assert patience.stopped
    assert len(steps_back) == 1
    told = [(one["action"], one["events_left"]) for one in logs if "events_left" in one]
    assert told[0] == ("arriving", 25)
    assert [action for action, _ in told].count("arrived") == 1
    world.run()
    assert len(steps_back) == 1
    assert world.documents() == tallied(facts(25))


def test_one_that_is_killed_on_the_way_steps_back_for_the_rest(
    world: World, steps_back: list[None]
) -> None:
    assert not turns(world, 2).stopped
    assert 0 < sum(world.counts().values()) < 20
    assert not turns(world, 2).stopped
    assert len(steps_back) == 2
    # What is left is no long history by itself.
    assert 15 <= sum(world.counts().values()) < 22
    world.run(lambda: False)  # until it ends by itself
    assert len(steps_back) == 3


def test_one_that_was_only_away_for_long_goes_as_fast_as_it_can(
    world: World, steps_back: list[None]
) -> None:
    world.runner(Patience()).run()
    steps_back.clear()
    world.post(facts(30, first=25))
    world.run(lambda: world.documents() == tallied(facts(55)))
    assert steps_back == []


def test_a_short_history_is_nothing_to_step_back_for(
    world: World, steps_back: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving, "_LONG", 25)
    world.run()
    assert steps_back == []
    assert world.documents() == tallied(facts(25))


def test_a_version_that_is_raised_on_the_way_arrives_as_well(
    world: World, steps_back: list[None]
) -> None:
    assert not turns(world, 2).stopped
    world.consumer = Tally(version=2)
    world.run(lambda: False)  # until it ends by itself
    assert len(steps_back) == 2
    assert world.live.version == 2
    world.run()
    assert len(steps_back) == 2
    assert world.documents() == tallied(facts(25))
