"""An app reads its own write: `after` and `wait` on every read of a consumer."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.runtime.fates import Fate, State
from consumers.runtime.query.waiting import Waiting
from events.envelope import workout_event_id
from events.log import Logged
from events.workouts import Sport
from tests.factories import workout
from tests.unit.query_world import World, installed, wait_until

EVENT_ID = workout_event_id("ada", "w-1")
READS = ("users/ada/miles", "consumers/miles/documents", "consumers/miles/documents/ada/2026-11-24")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for made in installed(tmp_path, monkeypatch):
        made.plug_in()
        made.post(workout(workout_id="before"))
        made.fold()
        yield made


@pytest.fixture
def at_poll(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Do something at a given poll of the present thread, and note every poll."""
    polls: list[str] = []
    real = Waiting._logged

    def install(number: int, act: Callable[[], object]) -> list[str]:
        def logged(waiting: Waiting, event_id: str) -> Logged | None:
            polls.append(event_id)
            if len(polls) == number:
                act()
            return real(waiting, event_id)

        monkeypatch.setattr(Waiting, "_logged", logged)
        return polls

    return install


@pytest.mark.parametrize("read", READS)
def test_a_read_waits_until_the_write_is_in_its_documents(
    world: World, at_poll: Callable[..., list[str]], read: str
) -> None:
    def accept_and_fold() -> None:
        world.post(workout())
        world.fold()

    polls = at_poll(3, accept_and_fold)
    found = world.client().get(f"/v1/{read}?after={EVENT_ID}&wait=5")
    assert found.headers["Paceline-Fate"] == "applied"
    assert "10000" in found.text
    assert len(polls) == 3


@pytest.mark.parametrize("state", [State.RETRYING, State.DEAD, State.DISCARDED])
def test_a_fate_that_is_no_effect_ends_the_waiting_too(
    world: World, at_poll: Callable[..., list[str]], state: State
) -> None:
    world.post(workout())
    at_poll(2, lambda: world.set_fate(EVENT_ID, Fate(state=state)))
    found = world.client().get(f"/v1/users/ada/miles?after={EVENT_ID}&wait=5")
    assert found.headers["Paceline-Fate"] == state.value
    assert found.json == {"metres": 5000.0}


def test_what_is_not_for_the_consumer_is_not_waited_for(
    world: World, at_poll: Callable[..., list[str]]
) -> None:
    world.post(workout(sport=Sport.YOGA))
    polls = at_poll(0, lambda: None)
    found = world.client().get(f"/v1/users/ada/miles?after={EVENT_ID}&wait=5")
    assert found.headers["Paceline-Fate"] == "not-for-it"
    assert len(polls) == 1


def test_when_the_time_is_over_the_answer_comes_as_it_is(
    world: World, at_poll: Callable[..., list[str]]
) -> None:
    polls = at_poll(0, lambda: None)
    found = world.client().get(f"/v1/users/ada/miles?after={EVENT_ID}&wait=0.05")
    assert found.headers["Paceline-Fate"] == "unknown"
    assert found.json == {"metres": 5000.0}
    assert len(polls) > 1
    world.post(workout())
    found = world.client().get(f"/v1/users/ada/miles?after={EVENT_ID}&wait=0.05")
    assert found.headers["Paceline-Fate"] == "pending"


def test_who_has_waited_makes_room_for_the_next(
    world: World, at_poll: Callable[..., list[str]]
) -> None:
    polls, client = at_poll(0, lambda: None), world.client()
    for _ in range(7):
        polls.clear()
        client.get(f"/v1/users/ada/miles?after={EVENT_ID}&wait=0.02")
        assert len(polls) > 1


def test_without_wait_the_fate_is_told_at_once(
    world: World, at_poll: Callable[..., list[str]]
) -> None:
    polls = at_poll(0, lambda: None)
    world.post(workout())
    found = world.client().get(f"/v1/users/ada/miles?after={EVENT_ID}")
    assert found.headers["Paceline-Fate"] == "pending"
    assert len(polls) == 1


def test_a_refusal_tells_the_fate_too(world: World) -> None:
    world.post(workout(user_id="bob"))
    world.fold()
    event_id = workout_event_id("bob", "w-1")
    missing = world.client().get(f"/v1/users/cid/miles?after={event_id}&wait=1")
    assert missing.status_code == 404
    assert missing.headers["Paceline-Fate"] == "applied"


def test_past_the_bound_the_answer_comes_at_once_and_waiting_holds_no_seat_of_the_consumer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: Counter[int] = Counter()
    real = Waiting._logged

    def logged(waiting: Waiting, event_id: str) -> Logged | None:
        polls[threading.get_ident()] += 1
        return real(waiting, event_id)

    monkeypatch.setattr(Waiting, "_logged", logged)
    client, fates = world.client(), []
    address = f"/v1/users/ada/miles?after={EVENT_ID}&wait=5"
    waiting = [
        threading.Thread(target=lambda: fates.append(client.get(address).headers["Paceline-Fate"]))
        for _ in range(6)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(polls) == 6)
    past = client.get(address)
    assert past.status_code == 200
    assert past.headers["Paceline-Fate"] == "unknown"
    assert polls[threading.get_ident()] == 1
    world.post(workout())
    world.fold()
    for thread in waiting:
        thread.join(30)
    # A seventh that waited would have had to take the place of one of these.
    assert len(fates) == 6
    polls.clear()
    assert client.get(address).headers["Paceline-Fate"] == "applied"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("wait=1", "after"),
        ("after=x", "after"),
        ("after=", "after"),
        (f"after={EVENT_ID.upper()}", "after"),
        (f"after={EVENT_ID}&wait=5.001", "wait"),
        (f"after={EVENT_ID}&wait=-1", "wait"),
        (f"after={EVENT_ID}&wait=nan", "wait"),
        (f"after={EVENT_ID}&wait=1e0", "wait"),
        (f"after={EVENT_ID}&wait=", "wait"),
        (f"after={EVENT_ID}&wait=1%0A", "wait"),
        (f"after={EVENT_ID}&wait=%D9%A3", "wait"),
    ],
)
def test_a_wrong_parameter_is_named(world: World, query: str, named: str) -> None:
    client = world.client()
    for read in READS:
        refused = client.get(f"/v1/{read}?{query}")
        assert refused.status_code == 422
        assert named in refused.json["detail"]
