"""The door takes exactly what it says, names every fault, and passes nothing on unread."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.schema_fields import shown
from events.schemas import Fault, InvalidWorkout, load_workout
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

CET = timezone(timedelta(hours=1))
LEAST = {
    "workout_id": "w-1",
    "user_id": "ada",
    "sport": "running",
    "started_at": "2026-11-24T07:30:00+01:00",
    "duration_s": 1800,
}
FULL = {
    **LEAST,
    "zone": "Europe/Berlin",
    "elapsed_s": 1900.5,
    "distance_m": 5000.125,
    "ascent_m": 12.5,
    "avg_heart_rate": 141.25,
    "max_heart_rate": 178,
    "avg_power_w": 201.5,
    "energy_kcal": 402.001,
    "athlete": {"weight_kg": 61.25, "birth_year": 1991, "sex": "female"},
    "source": "device",
    "recording": {"provider": "Räder & Söhne", "device": "Edge 1040", "external_id": "a/1"},
    "visibility": "private",
    "origin": "history",
}
# Posted name -> the fact's name, and the least and most that are taken.
NUMBERS = {
    "duration_s": ("duration_ms", 1, 604_800),
    "elapsed_s": ("elapsed_ms", 1, 2_592_000),
    "distance_m": ("distance_mm", 0, 5_000_000),
    "ascent_m": ("ascent_mm", 0, 100_000),
    "avg_heart_rate": ("avg_heart_rate_mbpm", 20, 300),
    "max_heart_rate": ("max_heart_rate_mbpm", 20, 300),
    "avg_power_w": ("avg_power_mw", 0, 5_000),
    "energy_kcal": ("energy_cal", 0, 100_000),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=5,
)


def faults(posted: object) -> list[Fault]:
    """What is wrong with it, which must be something."""
    with pytest.raises(InvalidWorkout) as refused:
        load_workout(posted)
    assert refused.value.faults
    return refused.value.faults


def fault(**changes: Any) -> tuple[str, str]:
    """Pointer and code of the one thing that is wrong with the least workout, changed so."""
    (found,) = faults(LEAST | changes)
    return found.pointer, found.code


def test_a_workout_needs_five_fields_and_is_public_and_live() -> None:
    assert load_workout(LEAST) == WorkoutCompleted(
        workout_id="w-1",
        user_id="ada",
        sport=Sport.RUNNING,
        started_at=datetime(2026, 11, 24, 7, 30, tzinfo=CET),
        duration_ms=1_800_000,
        visibility=Visibility.PUBLIC,
        origin=Origin.LIVE,
    )


def test_every_field_is_held_as_a_whole_number_of_a_small_unit() -> None:
    assert load_workout(FULL) == WorkoutCompleted(
        workout_id="w-1",
        user_id="ada",
        sport=Sport.RUNNING,
        started_at=datetime(2026, 11, 24, 7, 30, tzinfo=CET),
        zone="Europe/Berlin",
        duration_ms=1_800_000,
        elapsed_ms=1_900_500,
        distance_mm=5_000_125,
        ascent_mm=12_500,
        avg_heart_rate_mbpm=141_250,
        max_heart_rate_mbpm=178_000,
        avg_power_mw=201_500,
        energy_cal=402_001,
        athlete=Athlete(weight_g=61_250, birth_year=1991, sex=Sex.FEMALE),
        source=Source.DEVICE,
        recording=Recording(provider="Räder & Söhne", device="Edge 1040", external_id="a/1"),
        visibility=Visibility.PRIVATE,
        origin=Origin.HISTORY,
    )


@pytest.mark.parametrize("name", LEAST)
def test_what_is_needed_and_missing_is_named(name: str) -> None:
    (found,) = faults({field: value for field, value in LEAST.items() if field != name})
    assert found == (f"/{name}", "required", f"{name} is missing.")


@pytest.mark.parametrize("name", FULL)
def test_null_is_no_way_to_leave_a_field_out(name: str) -> None:
    (found,) = faults(FULL | {name: None})
    assert found.pointer == f"/{name}"


def test_all_faults_are_named_at_once() -> None:
    posted = {
        "user_id": "",
        "sport": "curling",
        "started_at": "yesterday",
        "duration_s": -5,
        "athlete": {"weight_kg": 1, "shoe_size": 43},
        "recording": [],
        "mood": "good",
    }
    found = {one.pointer: one.code for one in faults(posted)}
    assert found == {
        "/workout_id": "required",
        "/user_id": "bad-id",
        "/sport": "not-one-of",
        "/started_at": "bad-time",
        "/duration_s": "out-of-range",
        "/athlete/weight_kg": "out-of-range",
        "/athlete/shoe_size": "unknown-field",
        "/recording": "not-an-object",
        "/mood": "unknown-field",
    }


def test_a_fault_says_the_value_and_what_is_allowed() -> None:
    (found,) = faults(LEAST | {"duration_s": -5})
    assert found.detail == "duration_s is -5; it must be between 1 and 604800."


@pytest.mark.parametrize("posted", [None, [], "x", 5, True, [LEAST]])
def test_a_workout_is_an_object(posted: object) -> None:
    (found,) = faults(posted)
    assert (found.pointer, found.code) == ("", "not-an-object")


@given(
    name=st.sampled_from(list(NUMBERS)),
    value=st.integers(-5, 6_000_000)
    | st.integers(-5, 6_000_000_000).map(lambda thousandths: thousandths / 1000)
    | st.integers(-5, 6_000_000_000).map(lambda tenths: tenths / 10_000)
    | st.floats()
    | st.integers(),
)
@example(name="distance_m", value=4_999_999.999)
@example(name="distance_m", value=0.1 + 0.2)
@example(name="distance_m", value=1.0005)
@example(name="distance_m", value=-0.0)
@example(name="distance_m", value=5_000_000.001)
@example(name="duration_s", value=0.999)
@example(name="duration_s", value=int("9" * 4_000))
@example(name="duration_s", value=-(10**5_000))
@example(name="duration_s", value=float("inf"))
def test_a_number_is_taken_within_its_limits_and_with_three_decimals_at_most(
    name: str, value: float
) -> None:
    field, least, most = NUMBERS[name]
    posted = LEAST | {"duration_s": 1, name: value}
    whole = value if isinstance(value, int) else Decimal(repr(value))
    if least <= value <= most and whole * 1000 % 1 == 0:
        assert getattr(load_workout(posted), field) == whole * 1000
        assert type(getattr(load_workout(posted), field)) is int
    else:
        (found,) = faults(posted)
        assert found.pointer == f"/{name}"
        assert found.code in ("out-of-range", "too-precise")


@pytest.mark.parametrize("value", [True, "5", "", [5], {"$gt": ""}])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_not_made_one(name: str, value: object) -> None:
    assert fault(**{name: value}) == (f"/{name}", "not-a-number")


@pytest.mark.parametrize("value", [1991.0, 1990.5, "1991", True, 1899, 2101])
def test_a_year_of_birth_is_a_whole_number(value: object) -> None:
    (found,) = faults(LEAST | {"athlete": {"birth_year": value}})
    assert found.pointer == "/athlete/birth_year"


GOOD_ID = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@given(GOOD_ID)
def test_an_id_of_the_allowed_characters_is_taken(value: str) -> None:
    fact = load_workout(LEAST | {"user_id": value, "workout_id": value})
    assert (fact.user_id, fact.workout_id) == (value, value)


@given(name=st.sampled_from(("user_id", "workout_id")), value=st.text(max_size=70) | JSON)
@example(name="user_id", value="ada\n")
@example(name="user_id", value="ada\0")
@example(name="user_id", value="..")
@example(name="user_id", value="../etc/passwd")
@example(name="user_id", value={"$gt": ""})
@example(name="user_id", value="a" * 65)
@example(name="user_id", value="\ud800")
@example(name="user_id", value="\uff41da")
@example(name="user_id", value="-ada")
@example(name="user_id", value="٣")
def test_an_id_of_anything_else_is_refused(name: str, value: object) -> None:
    sound = (
        isinstance(value, str)
        and 1 <= len(value) <= 64
        and value[0] in SAFE
        and all(character in SAFE + "._-" for character in value)
    )
    if sound:
        load_workout(LEAST | {name: value})
    else:
        assert fault(**{name: value}) == (f"/{name}", "null" if value is None else "bad-id")


@pytest.mark.parametrize("sport", Sport)
def test_every_sport_is_taken_by_its_name(sport: Sport) -> None:
    assert load_workout(LEAST | {"sport": str(sport)}).sport is sport


@pytest.mark.parametrize("name", ["sport", "source", "visibility", "origin"])
@pytest.mark.parametrize("value", ["", "RUNNING", "running ", "curling", 1, True, [], {"$ne": 1}])
def test_what_is_not_one_of_the_values_is_refused(name: str, value: object) -> None:
    assert fault(**{name: value}) == (f"/{name}", "not-one-of")


@given(
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2100, 12, 31)),  # noqa: DTZ001 - local
    minutes=st.integers(-14 * 60, 14 * 60),
    separate=st.booleans(),
)
def test_a_time_keeps_the_offset_that_it_was_written_with(
    moment: datetime,
    minutes: int,
    separate: bool,  # noqa: FBT001
) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    written = aware.isoformat()
    if minutes == 0 and separate:
        written = written.replace("+00:00", "Z")
    fact = load_workout(LEAST | {"started_at": written})
    assert fact.started_at == aware
    assert fact.started_at.utcoffset() == timedelta(minutes=minutes)
    assert fact.local_date == moment.date()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("2026-11-24T07:30:00", "bad-time"),
        ("2026-11-24 07:30:00+01:00", "bad-time"),
        ("2026-11-24T07:30+01:00", "bad-time"),
        ("2026-11-24", "bad-time"),
        ("20261124T073000Z", "bad-time"),
        ("2026-W48-2T07:30:00Z", "bad-time"),
        ("2026-11-24T07:30:00z", "bad-time"),
        ("2026-11-24T07:30:00+0100", "bad-time"),
        ("2026-11-24T07:30:00+01:00\n", "bad-time"),
        ("2026-11-24T07:30:00.+01:00", "bad-time"),
        ("٢٠٢٦-11-24T07:30:00Z", "bad-time"),
        ("2026-11-24T07:30:00+24:00", "bad-time"),
        ("2026-11-24T07:30:60Z", "bad-time"),
        ("2026-11-24T24:00:00Z", "bad-time"),
        ("2026-02-29T07:30:00Z", "bad-time"),
        ("2026-13-01T07:30:00Z", "bad-time"),
        (1_790_000_000, "bad-time"),
        ({"$gt": ""}, "bad-time"),
        ("0001-01-01T00:00:00+14:00", "out-of-range"),
        ("1969-12-31T23:59:59Z", "out-of-range"),
        ("2101-01-01T00:00:00Z", "out-of-range"),
        ("9999-12-31T23:59:59-12:00", "out-of-range"),
        ("2026-11-24T07:30:00+14:01", "out-of-range"),
        ("2026-11-24T07:30:00-23:59", "out-of-range"),
    ],
)
def test_a_time_without_a_zone_or_out_of_reach_is_refused(value: object, code: str) -> None:
    assert fault(started_at=value) == ("/started_at", code)


def test_parts_of_a_second_are_kept() -> None:
    fact = load_workout(LEAST | {"started_at": "2026-11-24T07:30:00.123456789Z"})
    assert fact.started_at == datetime(2026, 11, 24, 7, 30, 0, 123_456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "started_at"),
    [
        ("Europe/Berlin", "2026-07-24T07:30:00+02:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00+02:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00+01:00"),
        ("Asia/Kathmandu", "2026-11-24T07:30:00+05:45"),
        ("Pacific/Kiritimati", "2026-11-24T07:30:00+14:00"),
        ("UTC", "2026-11-24T07:30:00Z"),
    ],
)
def test_a_zone_that_agrees_with_the_offset_is_taken(zone: str, started_at: str) -> None:
    assert load_workout(LEAST | {"zone": zone, "started_at": started_at}).zone == zone


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        ("America/New_York", "inconsistent"),
        ("UTC", "inconsistent"),
        ("Europe/Nowhere", "unknown-zone"),
        ("Europe", "unknown-zone"),
        ("../../../etc/passwd", "unknown-zone"),
        ("/etc/localtime", "unknown-zone"),
        ("Zürich", "unknown-zone"),
        ("tzdata.zi", "unknown-zone"),
        ("Europe/Berlin/", "unknown-zone"),
        ("Europe/Berlin\n", "bad-text"),
        ("Europe/Berlin\0", "bad-text"),
        ("\ud800", "bad-text"),
        ("", "bad-text"),
        ("E" * 65, "bad-text"),
        (5, "bad-text"),
    ],
)
def test_a_zone_that_does_not_agree_or_does_not_exist_is_refused(zone: object, code: str) -> None:
    assert fault(zone=zone) == ("/zone", code)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64))
@example("%s")
@example("a/../b")
@example("Europe//Berlin")
def test_no_text_for_a_zone_is_worse_than_unknown(zone: str) -> None:
    try:
        assert load_workout(LEAST | {"zone": zone}).zone == zone
    except InvalidWorkout as refused:
        assert {one.pointer for one in refused.faults} == {"/zone"}  # noqa: PT017 - either is right


def test_a_workout_does_not_end_before_its_moving_time_is_over() -> None:
    assert fault(elapsed_s=1799.999) == ("/elapsed_s", "inconsistent")
    assert load_workout(LEAST | {"elapsed_s": 1800}).elapsed_ms == 1_800_000


@pytest.mark.parametrize("value", ["", "a\nb", "a\0", "\u202e", "\ud800", "x" * 129, 5, ["x"], {}])
@pytest.mark.parametrize("name", ["provider", "device", "external_id"])
def test_a_line_of_text_is_printable_and_short(name: str, value: object) -> None:
    (found,) = faults(LEAST | {"recording": {name: value}})
    assert (found.pointer, found.code) == (f"/recording/{name}", "bad-text")


@pytest.mark.parametrize("name", ["athlete", "recording"])
@pytest.mark.parametrize("value", [[], "x", 5, True])
def test_a_part_is_an_object(name: str, value: object) -> None:
    assert fault(**{name: value}) == (f"/{name}", "not-an-object")


def test_an_empty_part_tells_nothing_and_is_no_fault() -> None:
    fact = load_workout(LEAST | {"athlete": {}, "recording": {}})
    assert (fact.athlete, fact.recording) == (Athlete(), Recording())


@given(st.text(st.characters(max_codepoint=127, exclude_categories=["Cs"]), max_size=12))
@example("_schema")
@example("a/b~c")
@example("")
def test_a_field_that_nobody_knows_is_named_by_its_pointer(name: str) -> None:
    if name in FULL:
        return
    escaped = name.replace("~", "~0").replace("/", "~1")
    (found,) = faults(LEAST | {name: 1})
    assert (found.pointer, found.code) == (f"/{escaped}", "unknown-field")
    (found,) = faults(LEAST | {"athlete": {name: 1} if name not in ("sex",) else {"x": 1}})
    assert found.code == "unknown-field"


@given(name=st.sampled_from(list(FULL)) | st.text(max_size=5), value=JSON)
def test_anything_in_any_place_is_a_fact_or_a_list_of_faults(name: str, value: object) -> None:
    try:
        fact = load_workout(FULL | {name: value})
    except InvalidWorkout as refused:
        told = json.dumps([one._asdict() for one in refused.faults])
        told.encode()  # no lone surrogate came through
        assert all(one.detail.isprintable() for one in refused.faults)  # noqa: PT017 - either is right
    else:
        assert isinstance(fact, WorkoutCompleted)
        assert all(type(value) is not float for value in asdict(fact).values())


@given(JSON | st.text())
@example("x" * 10_000)
@example(10**5_000)
@example("\ud800\n\u202e\0")
def test_a_value_is_shown_short_on_one_line_in_plain_letters(value: object) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert text.isascii()
    assert text.isprintable()


def test_a_value_that_is_nested_deeply_is_shown_all_the_same() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert len(shown(nested)) <= 60
