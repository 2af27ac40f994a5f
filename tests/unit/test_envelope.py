"""The wire: what was written once is read for ever, and nothing else passes for an event."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import envelope
from events.envelope import (
    Event,
    from_bytes,
    id_bytes,
    id_text,
    read_envelope,
    same_fact,
    seal,
    to_json,
    workout_event_id,
)
from events.errors import NewerVersion, Undecodable
from events.upcasters import CURRENT, STEPS, upcast
from events.workouts import (
    Athlete,
    Origin,
    Recording,
    Sex,
    Source,
    Sport,
    Visibility,
    WorkoutCompleted,
)
from tests.factories import workout, workouts

SAMPLE = (Path(__file__).parent / "samples" / "workout_completed_v1.json").read_bytes()
CET = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 24, 8, 40, 1, 123456, tzinfo=UTC)
WORKOUT = "workout.completed"

# What the sample tells, written down when it was frozen. Neither is ever edited.
TOLD = WorkoutCompleted(
    workout_id="2026-11-24T07.30_ada-1",
    user_id="ada",
    sport=Sport.CYCLING,
    started_at=datetime(2026, 11, 24, 7, 30, 0, 250_000, tzinfo=CET),
    zone="Europe/Berlin",
    duration_ms=3_599_500,
    elapsed_ms=4_000_001,
    distance_mm=30_123_456,
    ascent_mm=250_500,
    avg_heart_rate_mbpm=141_250,
    max_heart_rate_mbpm=178_000,
    avg_power_mw=201_500,
    energy_cal=720_125,
    athlete=Athlete(weight_g=61_250, birth_year=1991, sex=Sex.FEMALE),
    source=Source.DEVICE,
    recording=Recording(provider="Räder & Söhne", device="Edge 1040", external_id="a/1"),
    visibility=Visibility.PRIVATE,
    origin=Origin.HISTORY,
)
LINES = st.none() | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
FACTS = workouts(
    zone=st.sampled_from((None, "Europe/Berlin")),
    recording=st.none() | st.builds(Recording, provider=LINES, device=LINES, external_id=LINES),
)


def altered(body: bytes, **fields: Any) -> bytes:
    """The same event with other envelope fields; None takes one away."""
    whole = json.loads(body) | fields
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def test_the_frozen_sample_of_version_1_is_read_as_it_was_meant() -> None:
    event = from_bytes(SAMPLE)
    assert event == Event(
        id="f4b498f6-12fc-5e69-bb1a-050a5c86a7a1",
        type=WORKOUT,
        version=1,
        user_id="ada",
        time=datetime(2026, 11, 24, 8, 36, 40, 251_000, tzinfo=CET),
        accepted_at=NOW,
        routing_key="workout.completed.cycling",
        data=TOLD,
    )
    assert event.data.started_at.utcoffset() == timedelta(hours=1)
    assert event.data.local_date.isoformat() == "2026-11-24"
    assert event.data.ended_at == event.time


def test_the_same_workout_is_sealed_as_the_sample_was() -> None:
    sealed = seal(TOLD, accepted_at=NOW)
    assert sealed.body == SAMPLE.rstrip(b"\n")
    assert sealed.id == "f4b498f6-12fc-5e69-bb1a-050a5c86a7a1"
    assert sealed.digest.hex() == "209abb9e5d46e39e5f9d9f4876c14e30d0c56811dddd1875333c734a13d3b5bd"


def test_an_event_is_a_cloudevents_object_whose_absent_facts_are_left_out() -> None:
    sealed = seal(workout(), accepted_at=NOW)
    assert to_json(sealed.body) == {
        "specversion": "1.0",
        "id": sealed.id,
        "source": "/paceline",
        "type": WORKOUT,
        "subject": "ada",
        "time": "2026-11-24T08:00:00+01:00",
        "datacontenttype": "application/json",
        "dataversion": 1,
        "acceptedat": "2026-11-24T08:40:01.123456Z",
        "routingkey": "workout.completed.running",
        "data": {
            "workout_id": "w-1",
            "user_id": "ada",
            "sport": "running",
            "started_at": "2026-11-24T07:30:00+01:00",
            "duration_ms": 1_800_000,
            "distance_mm": 5_000_000,
            "visibility": "public",
            "origin": "live",
        },
    }


@settings(max_examples=50)
@given(fact=FACTS, after=st.timedeltas(timedelta(0), timedelta(days=9_000)))
def test_what_is_sealed_comes_back_with_its_own_offset(
    fact: WorkoutCompleted, after: timedelta
) -> None:
    accepted_at = fact.ended_at + after
    sealed = seal(fact, accepted_at=accepted_at)
    event = from_bytes(sealed.body)
    assert event.data == fact
    assert event.data.started_at.utcoffset() == fact.started_at.utcoffset()
    assert event.data.local_date == fact.local_date
    assert (event.id, event.user_id, event.time) == (sealed.id, fact.user_id, fact.ended_at)
    assert event.accepted_at == accepted_at
    assert event.accepted_at.utcoffset() == timedelta(0)
    assert event.routing_key == f"workout.completed.{fact.sport.value}"


def test_an_event_ends_after_its_elapsed_time_and_else_after_its_moving_time() -> None:
    start = workout().started_at
    assert workout(duration_ms=1_500).ended_at == start + timedelta(seconds=1.5)
    paused = workout(duration_ms=1_500, elapsed_ms=2_500)
    assert paused.ended_at == start + timedelta(seconds=2.5)


def test_a_fact_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        workout().user_id = "bob"  # type: ignore[misc]


@settings(max_examples=50)
@given(fact=FACTS)
def test_the_hash_tells_the_fact_and_not_when_it_was_accepted(fact: WorkoutCompleted) -> None:
    first = seal(fact, accepted_at=NOW)
    again = seal(fact, accepted_at=NOW + timedelta(days=3))
    assert (first.id, first.digest) == (again.id, again.digest)
    assert first.body != again.body
    other = seal(replace(fact, duration_ms=fact.duration_ms + 1), accepted_at=NOW)
    assert other.id == first.id
    assert other.digest != first.digest


@given(
    st.lists(st.tuples(*[st.from_regex(r"\A[a-c][a-c._-]{0,2}\Z")] * 2), min_size=2, unique=True)
)
def test_each_workout_of_each_user_has_an_id_of_its_own(pairs: list[tuple[str, str]]) -> None:
    ids = {workout_event_id(user, workout_id) for user, workout_id in pairs}
    assert len(ids) == len(pairs)


@given(st.uuids())
def test_an_id_is_kept_as_sixteen_bytes(event_id: Any) -> None:
    assert id_bytes(str(event_id)) == event_id.bytes
    assert id_text(event_id.bytes) == str(event_id)


def test_the_routing_key_is_stored_and_never_computed_again() -> None:
    body = altered(SAMPLE, routingkey="workout.completed.e_biking.gravel")
    assert from_bytes(body).routing_key == "workout.completed.e_biking.gravel"


def test_what_a_later_envelope_adds_is_passed_over() -> None:
    assert from_bytes(altered(SAMPLE, traceparent="00-4bf9-00f0-01")) == from_bytes(SAMPLE)


@pytest.mark.parametrize("changes", [{"dataversion": 2}, {"type": "workout.deleted"}])
def test_an_event_that_is_newer_than_the_code_waits(changes: dict[str, Any]) -> None:
    body = altered(SAMPLE, **changes)
    with pytest.raises(NewerVersion, match=r"Upgrade this process\.") as waits:
        from_bytes(body)
    assert waits.value.version == changes.get("dataversion", 1)
    assert not getattr(waits.value, "permanent", False)
    assert read_envelope(body).id == "f4b498f6-12fc-5e69-bb1a-050a5c86a7a1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkoutCompletedV3:
    """A version that may come: the sport is renamed, and there is a title."""

    workout_id: str
    activity: Sport
    started_at: datetime
    title: str
    duration_ms: int


def _step_1(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"title": f"{data['sport']} of {data['user_id']}"}


def _step_2(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "sport"} | {
        "activity": data["sport"]
    }


@pytest.fixture
def version_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, (WORKOUT, 1), _step_1)
    monkeypatch.setitem(STEPS, (WORKOUT, 2), _step_2)
    monkeypatch.setitem(CURRENT, WORKOUT, 3)
    monkeypatch.setitem(envelope.FACTS, WORKOUT, WorkoutCompletedV3)


@pytest.mark.usefixtures("version_3")
def test_an_old_event_climbs_one_step_a_version() -> None:
    event = from_bytes(SAMPLE)
    assert event.version == 1
    assert event.data == WorkoutCompletedV3(
        workout_id="2026-11-24T07.30_ada-1",
        activity=Sport.CYCLING,
        started_at=datetime(2026, 11, 24, 7, 30, 0, 250_000, tzinfo=CET),
        title="cycling of ada",
        duration_ms=3_599_500,
    )


@pytest.mark.usefixtures("version_3")
def test_an_event_between_takes_only_the_steps_it_needs() -> None:
    data = json.loads(SAMPLE)["data"] | {"title": "To work"}
    event = from_bytes(altered(SAMPLE, dataversion=2, data=data))
    assert event.data.title == "To work"
    assert event.data.activity is Sport.CYCLING


@pytest.mark.usefixtures("version_3")
def test_the_same_fact_in_two_versions_is_the_same() -> None:
    data = json.loads(SAMPLE)["data"]
    written_as_2 = altered(SAMPLE, dataversion=2, data=data | {"title": "cycling of ada"})
    retitled = altered(SAMPLE, dataversion=2, data=data | {"title": "To work"})
    assert same_fact(SAMPLE, written_as_2)
    assert not same_fact(SAMPLE, retitled)


@pytest.mark.usefixtures("version_3")
@pytest.mark.parametrize(
    "data", [{}, {"sport": "cycling"}, [], 5, "x", {"sport": "curling", "user_id": "ada"}]
)
def test_an_old_fact_that_its_step_cannot_read_is_undecodable(data: Any) -> None:
    with pytest.raises(Undecodable):
        from_bytes(altered(SAMPLE, data=data))


def test_upcasting_takes_the_steps_in_order_and_refuses_what_is_newer() -> None:
    steps: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {
        ("a", 1): lambda data: data | {"path": [*data["path"], 1]},
        ("a", 2): lambda data: data | {"path": [*data["path"], 2]},
        ("b", 1): lambda data: data | {"path": "another type's"},
    }
    climb = [upcast("a", at, {"path": []}, steps=steps, current={"a": 3}) for at in (1, 2, 3)]
    assert [data["path"] for data in climb] == [[1, 2], [2], []]
    with pytest.raises(NewerVersion):
        upcast("a", 4, {"path": []}, steps=steps, current={"a": 3})
    with pytest.raises(NewerVersion):
        upcast("c", 1, {"path": []}, steps=steps, current={"a": 3})


@pytest.mark.parametrize("kind", CURRENT)
def test_every_version_of_every_fact_has_its_step(kind: str) -> None:
    assert {(kind, version) for version in range(1, CURRENT[kind])} <= STEPS.keys()


def test_the_same_fact_is_the_same_whenever_it_was_accepted() -> None:
    one = seal(workout(), accepted_at=NOW).body
    assert same_fact(one, seal(workout(), accepted_at=NOW + timedelta(days=9)).body)
    assert not same_fact(one, seal(workout(duration_ms=1), accepted_at=NOW).body)


def test_the_same_instant_at_another_offset_is_another_fact() -> None:
    # 23:30 in Berlin and 22:30 in London are one instant, and may be two days.
    start = datetime(2026, 11, 24, 0, 30, tzinfo=CET)
    here = seal(workout(started_at=start), accepted_at=NOW)
    there = seal(workout(started_at=start.astimezone(UTC)), accepted_at=NOW)
    assert not same_fact(here.body, there.body)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(("2026-11-24T07:30:00", "2026-11-24", "ada", "running")),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=5,
)
ENVELOPE = list(json.loads(SAMPLE))
DATA = list(json.loads(SAMPLE)["data"])


def is_sound(body: bytes) -> bool:
    """Whether it is an event; what is none must be refused as such, and nothing may be naive."""
    try:
        event = from_bytes(body)
    except (Undecodable, NewerVersion):
        return False
    times = (event.time, event.accepted_at, event.data.started_at)
    assert all(moment.utcoffset() is not None for moment in times)
    assert isinstance(event.data, WorkoutCompleted)
    return True


@given(st.binary(max_size=40))
def test_bytes_that_are_no_event_are_undecodable(body: bytes) -> None:
    assert not is_sound(body)


@given(st.sampled_from(ENVELOPE), JSON)
def test_an_envelope_with_anything_in_any_place_is_an_event_or_undecodable(
    name: str, value: Any
) -> None:
    is_sound(json.dumps(json.loads(SAMPLE) | {name: value}).encode())


@given(st.sampled_from(DATA), JSON)
def test_a_fact_with_anything_in_any_place_is_an_event_or_undecodable(
    name: str, value: Any
) -> None:
    whole = json.loads(SAMPLE)
    is_sound(json.dumps(whole | {"data": whole["data"] | {name: value}}).encode())


@given(st.integers(0, len(SAMPLE) - 2))
def test_an_event_that_is_cut_off_is_undecodable(end: int) -> None:
    assert not is_sound(SAMPLE[:end])


@pytest.mark.parametrize(
    "body",
    [
        altered(SAMPLE, dataversion=0),
        altered(SAMPLE, dataversion=-1),
        altered(SAMPLE, id=None),
        altered(SAMPLE, acceptedat=None),
        altered(SAMPLE, routingkey=None),
        altered(SAMPLE, data=None),
        altered(SAMPLE, time="2026-11-24T08:36:40"),
        altered(SAMPLE, acceptedat="2026-11-24T08:36:40"),
        altered(SAMPLE, data=json.loads(SAMPLE)["data"] | {"started_at": "2026-11-24T08:36:40"}),
        altered(SAMPLE, data=json.loads(SAMPLE)["data"] | {"duration_ms": 1.5}),
        altered(SAMPLE, data=json.loads(SAMPLE)["data"] | {"sport": "curling"}),
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        SAMPLE.replace(b'"data":{', b'"data":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b","),
        b"\xff\xfe",
        b"",
    ],
    ids=range(15),
)
def test_what_is_no_event_is_undecodable_for_good(body: bytes) -> None:
    with pytest.raises(Undecodable) as refused:
        from_bytes(body)
    assert refused.value.permanent
    assert len(str(refused.value)) < 1_000
