"""What keeps a raised version from going live: a question, a pause, events that fail in it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.comparing import waits
from consumers.runtime.control import Request, RequestState
from consumers.runtime.fates import State
from events.envelope import Event
from tests.integration.world import Misdeed, Tally, World, facts, tallied, without

DONE = RequestState.DONE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Tally has applied 25 events."""
    world = World(tmp_path, Tally(), batch=10)
    world.post(facts(25))
    world.run()
    yield world
    world.close()


def asked(world: World, arguments: dict[str, Any]) -> Request:
    """Ask for a rebuild, run until it has ended or waits for somebody, and return the request."""
    request = world.control.ask("tally", "rebuild", arguments)

    def is_still() -> bool:
        now = world.control.get(request.id)
        return now.ended or waits(now)

    world.run(is_still)
    return world.control.get(request.id)


def version(world: World, number: int, misdeed: Misdeed | None = None) -> None:
    world.consumer = Tally(misdeed, version=number)


def fails_on(*bad: str) -> Misdeed:
    """A fold that fails on these workouts, or on all."""

    def fail(event: Event, documents: dict[str, Any]) -> None:
        if not bad or event.data.workout_id in bad:
            raise LookupError("no such shoe")

    return fail


def held_by(world: World) -> str:
    """The operation that the status names."""
    return (world.store.mark("held") or "").split(" ")[0]


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "while no worker ran"])
def test_a_question_that_is_cancelled_lets_nothing_go_live(
    world: World, *, restarted: bool
) -> None:
    version(world, 2)
    question = asked(world, {"then": "ask"})
    assert waits(question)
    if restarted:
        assert world.control.cancel(question.id)
        version(world, 2)
        world.run()
    else:
        turns = iter([None] * 3)
        world.run(lambda: next(turns, 1) and world.control.cancel(question.id))
        world.run()
    assert world.live.version == 1
    assert "was thrown away" in (world.store.mark("problem") or "")
    assert asked(world, {}).state is DONE
    assert world.live.version == 2


def test_a_question_that_is_open_is_told_by_its_number_until_it_is_answered(world: World) -> None:
    version(world, 2)
    question = asked(world, {"then": "ask"})
    assert held_by(world) == str(question.id)
    version(world, 2)
    world.run(lambda: world.control.get(question.id).state is RequestState.RUNNING)
    assert held_by(world) == str(question.id)
    assert world.control.cancel(question.id)
    world.run()
    assert world.store.mark("held") is None


def test_a_raised_version_that_fails_where_the_old_one_did_not_waits_for_somebody(
    world: World,
) -> None:
    bad = ("w-3", "w-5", "w-7")
    version(world, 2, fails_on(*bad))
    for _ in range(2):
        world.run(lambda: world.store.mark("problem"))
        version(world, 2, fails_on(*bad))
        assert world.live.version == 1
        assert world.documents() == tallied(facts(25))
    assert world.store.mark("problem") == (
        "Version 2 of its code fails on 3 of 25 events (LookupError: no such shoe), version 1 on "
        "0. Mend it, put the old code back, or let it go live: `paceline rebuild tally`."
    )
    assert asked(world, {}).state is DONE
    assert (world.live.version, world.store.mark("problem")) == (2, None)
    assert world.documents() == tallied(without(facts(25), *bad))


def test_it_goes_live_by_itself_once_it_is_mended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    version(world, 2, fails_on())
    world.run(lambda: world.store.mark("problem"))
    assert world.live.version == 1
    version(world, 2)
    mended = replace(world.loaded(), code="mended source of version 2")
    monkeypatch.setattr(world, "loaded", lambda: mended)
    world.run(lambda: world.live.version == 2)
    assert world.documents() == tallied(facts(25))
    assert world.store.mark("problem") is None


def test_what_failed_before_as_well_keeps_no_version_from_going_live(world: World) -> None:
    version(world, 1, fails_on())
    world.post(facts(5, first=25))
    world.run(lambda: world.counts().get(State.DEAD) == 5)
    version(world, 2, fails_on(*(f"w-{number}" for number in range(25, 30))))
    world.run(lambda: world.live.version == 2)
    assert world.documents() == tallied(facts(25))


def test_a_paused_consumer_can_be_shown_a_raised_version_before_it_is_live(world: World) -> None:
    assert world.control.ask("tally", "pause", {})
    world.run(lambda: world.store.mark("paused"))
    version(world, 2, fails_on("w-3"))
    world.run(lambda: len(world.consumer.folded) >= 25)
    assert world.live.version == 1
    shown = asked(world, {"then": "ask"}).memory["difference"]
    assert (shown["changed"], shown["failing_before"], shown["failing"]) == (1, 0, 1)
    world.control.cancel(world.control.open("tally")[0].id)
    version(world, 3)
    world.run(lambda: len(world.consumer.folded) >= 25)
    assert world.live.version == 1
    world.control.ask("tally", "resume", {})
    world.run(lambda: world.live.version == 3)
