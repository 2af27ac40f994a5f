"""Events and workouts over HTTP: fates per consumer, conflicts, pages."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given

from consumers.runtime.fates import Fate, State
from consumers.runtime.query.events import as_posted
from events.envelope import Sealed, seal
from events.schemas import load_workout
from events.workouts import Sport, WorkoutCompleted
from tests.factories import workout, workouts
from tests.unit.query_world import ACCEPTED_AT, MILES, World, installed


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


def test_an_event_is_shown_as_it_was_logged(world: World) -> None:
    (event_id,) = world.post(workout())
    found = world.client().get(f"/v1/events/{event_id}")
    assert found.status_code == 200
    assert found.headers["Cache-Control"] == "no-store"
    assert found.json["event"]["id"] == event_id
    assert found.json["event"]["data"]["distance_mm"] == 5_000_000
    assert found.json["accepted_at"] == "2026-11-24T09:00:00Z"
    assert found.json["state"] == "logged"
    assert found.json["consumers"] == {}


def test_an_event_is_pending_for_a_consumer_that_has_not_started(world: World) -> None:
    world.plug_in()
    (event_id,) = world.post(workout())
    assert world.client().get(f"/v1/events/{event_id}").json["consumers"] == {
        "miles": {"fate": "pending"}
    }


def test_an_event_is_pending_until_it_is_folded_and_then_applied(world: World) -> None:
    world.plug_in()
    world.begin()
    (event_id,) = world.post(workout())
    client = world.client()
    assert client.get(f"/v1/events/{event_id}").json["consumers"]["miles"] == {"fate": "pending"}
    world.fold()
    assert client.get(f"/v1/events/{event_id}").json["consumers"]["miles"] == {"fate": "applied"}


def test_an_event_that_no_binding_wants_is_not_for_the_consumer(world: World) -> None:
    world.plug_in()
    world.begin()
    (event_id,) = world.post(workout(sport=Sport.YOGA))
    found = world.client().get(f"/v1/events/{event_id}").json
    assert found["consumers"]["miles"] == {"fate": "not-for-it"}


@pytest.mark.parametrize(
    ("fate", "shown"),
    [
        (
            Fate(
                state=State.RETRYING,
                attempts=2,
                due_ms=1_795_600_000_250,
                reason="KeyError: 'shoe'",
                trace="where",
                first_ms=1,
                last_ms=2,
                version=1,
            ),
            {
                "fate": "retrying",
                "attempts": 2,
                "due": "2026-11-25T09:46:40.250000Z",
                "reason": "KeyError: 'shoe'",
            },
        ),
        (
            Fate(state=State.RETRYING, needs=2, reason="too new"),
            {"fate": "retrying", "needs": 2, "reason": "too new"},
        ),
        (
            Fate(state=State.DEAD, attempts=6, strikes=3, reason="It hangs."),
            {"fate": "dead", "attempts": 6, "strikes": 3, "reason": "It hangs."},
        ),
        (Fate(state=State.DISCARDED), {"fate": "discarded"}),
    ],
)
def test_a_fate_shows_what_it_has_to_say(
    world: World, fate: Fate, shown: dict[str, object]
) -> None:
    world.plug_in()
    world.begin()
    (event_id,) = world.post(workout())
    world.set_fate(event_id, fate)
    assert world.client().get(f"/v1/events/{event_id}").json["consumers"]["miles"] == shown


def test_a_store_that_cannot_be_read_hides_no_fate_of_the_others(world: World) -> None:
    world.plug_in()
    (event_id,) = world.post(workout())
    world.fold()
    world.plug_in("broken", MILES.replace('"miles"', '"broken"'))
    world.settings.store_file("broken").write_bytes(b"this is no database" * 100)
    found = world.client().get(f"/v1/events/{event_id}").json["consumers"]
    assert found["miles"] == {"fate": "applied"}
    assert found["broken"]["fate"] == "unknown"
    assert "broken.db" in found["broken"]["reason"]


def test_an_event_that_conflicts_stays_beside_the_one_that_was_first(world: World) -> None:
    (event_id,) = world.post(workout())
    assert "conflicts" not in world.client().get(f"/v1/events/{event_id}").json
    world.log.append([seal(workout(distance_mm=1), accepted_at=ACCEPTED_AT)], source="other-door")
    found = world.client().get(f"/v1/events/{event_id}").json
    assert found["event"]["data"]["distance_mm"] == 5_000_000
    assert found["state"] == "conflicting"
    (conflict,) = found["conflicts"]
    assert conflict["source"] == "other-door"
    assert conflict["event"]["data"]["distance_mm"] == 1


@pytest.mark.parametrize(
    "event_id",
    ["6f1c0000-0000-5000-8000-000000000000", "6F1C0000-0000-5000-8000-00000000000A", "x", "%00"],
)
def test_an_event_that_is_not_logged_is_a_404(world: World, event_id: str) -> None:
    world.post(workout())
    found = world.client().get(f"/v1/events/{event_id}")
    assert found.status_code == 404
    assert found.json["type"] == "/problems/not-found"


def test_before_the_first_relay_there_are_no_events(tmp_path: Path, world: World) -> None:
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    client = world.client()
    missing = client.get("/v1/events/6f1c0000-0000-5000-8000-000000000000")
    assert missing.status_code == 404
    assert client.get("/v1/users/ada/workouts").json == {"items": [], "next": None}


def test_a_users_workouts_are_shown_as_they_were_posted(world: World) -> None:
    posted = {
        "workout_id": "w-7",
        "user_id": "ada",
        "sport": "running",
        "started_at": "2026-11-24T07:30:00+01:00",
        "duration_s": 1800.25,
        "distance_m": 5000,
        "energy_kcal": 412.125,
        "athlete": {"weight_kg": 61.5, "birth_year": 1990, "sex": "female"},
        "recording": {"device": "Watch 7"},
        "visibility": "private",
        "origin": "history",
    }
    (event_id,) = world.post(load_workout(posted))
    world.post(workout(user_id="bob"))
    found = world.client().get("/v1/users/ada/workouts").json
    assert found == {
        "items": [{"event_id": event_id, "accepted_at": "2026-11-24T09:00:00Z", **posted}],
        "next": None,
    }


@given(fact=workouts())
def test_what_is_shown_of_a_workout_can_be_posted_again_and_is_the_same_fact(
    fact: WorkoutCompleted,
) -> None:
    legal = replace(fact, duration_ms=max(1000, fact.duration_ms), elapsed_ms=None)
    assert load_workout(json.loads(json.dumps(as_posted(legal)))) == legal


def test_pages_of_workouts_hold_each_of_them_once_in_the_order_of_the_log(world: World) -> None:
    facts = [
        workout(workout_id=f"w{number}", user_id="bob" if number % 3 else "ada")
        for number in range(25)
    ]
    world.post(*facts)
    client, found = world.client(), []
    page = client.get("/v1/users/ada/workouts?limit=4").json
    while page["next"] is not None:
        assert len(page["items"]) == 4
        found += page["items"]
        page = client.get(f"/v1/users/ada/workouts?limit=4&cursor={page['next']}").json
    found = [item["workout_id"] for item in found + page["items"]]
    assert found == [fact.workout_id for fact in facts if fact.user_id == "ada"]


def test_a_cursor_goes_on_where_the_page_ended_though_more_came_in(world: World) -> None:
    world.post(*[workout(workout_id=f"w{number}") for number in range(3)])
    client = world.client()
    cursor = client.get("/v1/users/ada/workouts?limit=2").json["next"]
    world.post(workout(workout_id="late"))
    page = client.get(f"/v1/users/ada/workouts?cursor={cursor}").json
    assert [item["workout_id"] for item in page["items"]] == ["w2", "late"]


def test_other_events_of_a_user_are_not_among_the_workouts(world: World) -> None:
    sealed = seal(workout(workout_id="badge"), accepted_at=ACCEPTED_AT)
    other = sealed.body.replace(b'"type":"workout.completed"', b'"type":"achievement.unlocked"')
    other = other.replace(b'"routingkey":"workout.completed.', b'"routingkey":"achievement.')
    assert other != sealed.body
    world.log.append([Sealed(sealed.id, sealed.digest, other)], source="facts")
    world.post(workout())
    (item,) = world.client().get("/v1/users/ada/workouts").json["items"]
    assert item["workout_id"] == "w-1"


def test_a_workout_of_a_newer_version_is_named_and_not_hidden(world: World) -> None:
    sealed = seal(workout(), accepted_at=ACCEPTED_AT)
    newer = sealed.body.replace(b'"dataversion":1', b'"dataversion":2')
    world.log.append([Sealed(sealed.id, sealed.digest, newer)], source="door")
    (item,) = world.client().get("/v1/users/ada/workouts").json["items"]
    assert item["event_id"] == sealed.id
    assert "version 2" in item["problem"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=5&limit=6", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=-1", "cursor"),
        ("cursor=99999999999999999999", "cursor"),
        ("sport=running", "sport"),
    ],
)
def test_a_wrong_parameter_is_named(world: World, query: str, named: str) -> None:
    refused = world.client().get(f"/v1/users/ada/workouts?{query}")
    assert refused.status_code == 422
    assert refused.content_type == "application/problem+json"
    assert refused.json["type"] == "/problems/invalid-query"
    assert named in refused.json["detail"]


def test_an_unknown_parameter_is_answered_with_those_that_are_allowed(world: World) -> None:
    detail = world.client().get("/v1/users/ada/workouts?sport=running").json["detail"]
    assert "limit, cursor" in detail


def test_the_time_of_acceptance_is_told_in_utc(world: World) -> None:
    world.post(workout(), accepted_at=datetime(2026, 11, 24, 9, 0, 0, 125_000, tzinfo=UTC))
    (item,) = world.client().get("/v1/users/ada/workouts").json["items"]
    assert item["accepted_at"] == "2026-11-24T09:00:00.125000Z"
