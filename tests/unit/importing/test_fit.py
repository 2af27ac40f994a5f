"""FIT: what a session becomes, and that a damaged file is refused whole."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer.importing import ImportOptions, UnreadableRecording, read
from tests.unit.importing.conftest import ADA, Reading
from tests.unit.importing.fit_bytes import (
    BYTES,
    ENUM,
    FLOAT32,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT32Z,
    USER_PROFILE,
    WEIGHT_SCALE,
    Field,
    activity,
    developer_fields,
    file_id,
    fit,
    message,
    seconds,
    session,
    sport,
)

START = datetime(2024, 6, 1, 6, 30, tzinfo=UTC)
END = START + timedelta(seconds=1900)
RIDE = fit(file_id(), session(START, *sport(2)), activity(END, END + timedelta(hours=2)))


def refusal(recording: Reading, content: bytes) -> str:
    with pytest.raises(UnreadableRecording) as refused:
        recording(content, name="ride.fit")
    assert "\n" not in str(refused.value)
    assert "ride.fit" in str(refused.value)
    return refused.value.reason


def test_every_figure_of_a_session_is_in_the_workout(recording: Reading) -> None:
    content = fit(
        file_id(
            4,
            (3, UINT32Z, 123456789),
            (4, UINT32, seconds(START)),
        ),
        session(
            START,
            *sport(1),
            (9, UINT32, 500012),
            (11, UINT16, 321),
            (16, UINT8, 150),
            (17, UINT8, 171),
            (20, UINT16, 240),
            (22, UINT16, 45),
        ),
        activity(END, END + timedelta(hours=2)),
    )
    (found,) = recording(content)
    assert found.workout == {
        "workout_id": found.workout["workout_id"],
        "user_id": "ada",
        "sport": "running",
        "started_at": "2024-06-01T08:30:00+02:00",
        "duration_s": 1800.5,
        "elapsed_s": 1900.25,
        "distance_m": 5000.12,
        "ascent_m": 45,
        "avg_heart_rate": 150,
        "max_heart_rate": 171,
        "avg_power_w": 240,
        "energy_kcal": 321,
        "source": "device",
        "recording": {
            "provider": "garmin",
            "device": "fenix5",
            "external_id": "123456789-20240601T063000Z",
        },
        "origin": "history",
    }
    assert found.notes == []


def test_what_a_session_leaves_out_is_not_in_the_workout(recording: Reading) -> None:
    (found,) = recording(fit(file_id(), session(START, *sport(2))))
    assert set(found.workout) == {
        *{"workout_id", "user_id", "sport", "started_at", "duration_s", "elapsed_s"},
        *{"source", "recording", "origin"},
    }


def test_without_a_local_time_utc_is_a_guess_that_is_said(recording: Reading) -> None:
    (found,) = recording(fit(file_id(), session(START, *sport(2)), activity(END)))
    assert found.workout["started_at"] == "2024-06-01T06:30:00+00:00"
    assert found.notes == ["no zone in the file: UTC is a guess; say --zone"]


@given(st.integers(-12 * 4, 14 * 4), st.integers(-7 * 60, 7 * 60))
def test_the_local_time_of_the_activity_gives_the_offset(
    tmp_path_factory: pytest.TempPathFactory, quarters: int, unpunctual_s: int
) -> None:
    offset = timedelta(minutes=15 * quarters)
    local = END + offset + timedelta(seconds=unpunctual_s)
    path = tmp_path_factory.getbasetemp() / "offset.fit"
    path.write_bytes(fit(file_id(), session(START, *sport(2)), activity(END, local)))
    (found,) = read(path, options=ADA)
    started_at = datetime.fromisoformat(found.workout["started_at"])
    assert started_at == START
    assert started_at.utcoffset() == offset
    assert found.notes == []


@pytest.mark.parametrize("hours", [-13, 15, 24 * 365])
def test_an_offset_that_no_place_has_is_not_taken(recording: Reading, hours: int) -> None:
    content = fit(file_id(), session(START, *sport(2)), activity(END, END + timedelta(hours=hours)))
    (found,) = recording(content)
    assert found.workout["started_at"].endswith("+00:00")
    assert "a guess" in found.notes[0]


def test_each_session_of_a_multisport_file_is_a_workout(recording: Reading) -> None:
    content = fit(
        file_id(),
        session(START, *sport(5, 18)),
        session(START + timedelta(hours=1), *sport(3)),
        session(START + timedelta(hours=2), *sport(2)),
        activity(END),
    )
    found = [each.workout for each in recording(content)]
    assert [each["sport"] for each in found] == ["swimming", "transition", "cycling"]
    assert [each["started_at"][11:13] for each in found] == ["06", "07", "08"]
    assert [each["workout_id"].rpartition("-")[2] for each in found] == ["1", "2", "3"]
    assert len({each["workout_id"] for each in found}) == 3


def test_a_chain_of_fit_files_is_read_through_each_with_its_own_offset(recording: Reading) -> None:
    first = fit(file_id(), session(START, *sport(1)), activity(END, END + timedelta(hours=1)))
    second = fit(file_id(), session(START, *sport(2)), activity(END, END - timedelta(hours=5)))
    settings = fit(file_id(2))
    found = [each.workout for each in recording(settings + first + second)]
    assert [each["sport"] for each in found] == ["running", "cycling"]
    assert [each["started_at"][-6:] for each in found] == ["+01:00", "-05:00"]


def test_the_profile_gives_weight_and_sex_and_never_the_year_of_birth(recording: Reading) -> None:
    profile = message(USER_PROFILE, (4, UINT16, 683), (1, ENUM, 0), (2, UINT8, 38))
    content = fit(file_id(), profile, session(START, *sport(2)))
    assert recording(content)[0].workout["athlete"] == {"weight_kg": 68.3, "sex": "female"}
    said = ImportOptions(user="ada", weight_kg=70.5, birth_year=1990)
    assert recording(content, said)[0].workout["athlete"] == {
        "weight_kg": 70.5,
        "birth_year": 1990,
        "sex": "female",
    }


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((1, 14), "running"),
        ((2, 46), "cycling"),
        ((2, 28), "e_biking"),
        ((21, 47), "e_biking"),
        ((4, 15), "elliptical"),
        ((4, 1), "running"),
        ((4, 14), "rowing"),
        ((11, 1), "walking"),
        ((10, 20), "strength_training"),
        ((10, 43), "yoga"),
        ((10, 44), "pilates"),
        ((10, 26), "cardio_training"),
        ((10, 0), "training"),
        ((62, 73), "hiit"),
        ((12, 42), "cross_country_skiing"),
        ((13, 38), "alpine_skiing"),
        ((14, 38), "snowboarding"),
        ((17, 0), "hiking"),
    ],
)
def test_sport_and_sub_sport_give_the_sport(
    recording: Reading, numbers: tuple[int, int], name: str
) -> None:
    (found,) = recording(fit(file_id(), session(START, *sport(*numbers))))
    assert found.workout["sport"] == name
    assert len(found.notes) == 1  # the zone's


@pytest.mark.parametrize(("number", "said"), [(0, "'generic'"), (20, "'flying'"), (199, "'199'")])
def test_a_sport_that_is_not_ours_is_other_and_said(
    recording: Reading, number: int, said: str
) -> None:
    (found,) = recording(fit(file_id(), session(START, *sport(number))))
    assert found.workout["sport"] == "other"
    assert found.notes[0] == f"the file calls the sport {said}: taken as other"


def test_a_heart_rate_or_an_energy_of_zero_is_not_known(recording: Reading) -> None:
    zeros: list[Field] = [(16, UINT8, 0), (17, UINT8, 0), (11, UINT16, 0), (20, UINT16, 0)]
    (found,) = recording(fit(file_id(), session(START, *sport(2), *zeros, (9, UINT32, 0))))
    assert not {"avg_heart_rate", "max_heart_rate", "energy_kcal", "avg_power_w"} & set(
        found.workout
    )
    assert found.workout["distance_m"] == 0


def test_a_number_that_is_not_finite_is_not_known(recording: Reading) -> None:
    fields: list[Field] = [(9, FLOAT32, float("nan")), (22, FLOAT32, float("inf"))]
    (found,) = recording(fit(file_id(), session(START, *sport(2), *fields)))
    assert not {"distance_m", "ascent_m"} & set(found.workout)


def test_an_elapsed_time_that_is_shorter_than_the_moving_time_is_left_out(
    recording: Reading,
) -> None:
    content = fit(file_id(), session(START, *sport(2), timer_s=100.4, elapsed_s=100.3))
    (found,) = recording(content)
    assert found.workout["duration_s"] == 100.4
    assert "elapsed_s" not in found.workout


def test_the_name_of_a_device_is_a_line_of_printable_text(recording: Reading) -> None:
    content = fit(file_id(4, (8, STRING, "Edge\n530\x1b" + "x" * 200)), session(START, *sport(2)))
    (found,) = recording(content)
    assert found.workout["recording"]["device"] == "Edge530" + "x" * 121


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_file_that_is_cut_off_is_refused(recording: Reading, cut: int) -> None:
    assert "ends too early" in refusal(recording, RIDE[:-cut])


def test_a_wrong_checksum_is_refused(recording: Reading) -> None:
    assert "checksum" in refusal(recording, RIDE[:-1] + bytes([RIDE[-1] ^ 1]))


def test_a_good_session_before_a_broken_record_is_refused_with_it(recording: Reading) -> None:
    undefined = b"\x0b"
    reason = refusal(recording, fit(file_id(), session(START, *sport(1)), undefined))
    assert "damaged" in reason


def test_a_good_file_before_a_damaged_one_in_a_chain_is_refused_with_it(recording: Reading) -> None:
    refusal(recording, RIDE + RIDE[:-5])


def test_a_field_of_an_impossible_size_is_refused(recording: Reading) -> None:
    three_bytes_of_four = bytearray(fit(file_id(), session(START, *sport(1), (9, BYTES, b"abc"))))
    body = three_bytes_of_four[14:-2].replace(bytes([9, 3, BYTES]), bytes([9, 3, UINT32]))
    assert "damaged" in refusal(recording, fit(body=bytes(body)))


def test_a_developers_field_of_a_standard_name_is_not_taken_for_it(recording: Reading) -> None:
    content = fit(
        file_id(),
        developer_fields({7: "total_distance", 8: "total_ascent"}),
        session(START, *sport(1), (9, UINT32, 500000), developer=[(7, 3), (8, 99)]),
    )
    (found,) = recording(content)
    assert found.workout["distance_m"] == 5000
    assert "ascent_m" not in found.workout


def test_a_fit_file_of_another_type_is_no_workout(recording: Reading) -> None:
    weight = fit(file_id(9), message(WEIGHT_SCALE, (0, UINT16, 7100)))
    assert refusal(recording, weight) == "is a FIT file but no activity (its type: weight)"


def test_an_activity_that_was_never_finished_is_refused(recording: Reading) -> None:
    assert "never finished" in refusal(recording, fit(file_id(), activity(END)))


def test_a_session_without_a_real_start_is_refused(recording: Reading) -> None:
    since_power_on = message(18, (2, UINT32, 1234), (8, UINT32, 60000))
    assert "start time" in refusal(recording, fit(file_id(), since_power_on))


def test_an_empty_fit_file_is_refused(recording: Reading) -> None:
    assert "its type: empty" in refusal(recording, fit())
    assert refusal(recording, b"") == "is empty"


@given(st.integers(0, len(RIDE) - 1))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.fit"
    path.write_bytes(RIDE[:length])
    with pytest.raises(UnreadableRecording):
        read(path, options=ADA)


@given(st.integers(0, len(RIDE) - 1), st.integers(1, 255))
def test_a_file_with_one_other_byte_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.fit"
    changed = bytearray(RIDE)
    changed[place] ^= change
    path.write_bytes(changed)
    with pytest.raises(UnreadableRecording):
        read(path, options=ADA)


BODY = b"".join([file_id(), session(START, *sport(2)), activity(END)])


@example([(6, 0xFF), (10, 0xFF)])
@given(st.lists(st.tuples(st.integers(0, len(BODY) - 1), st.integers(0, 255)), max_size=6))
def test_hostile_records_under_a_right_checksum_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.fit"
    body = bytearray(BODY)
    for place, value in changes:
        body[place] = value
    path.write_bytes(fit(body=bytes(body)))
    try:
        found, refusal = read(path, options=ADA), "damaged"
    except UnreadableRecording as refused:
        found, refusal = [], str(refused)
    assert len(refusal.splitlines()) == 1
    assert all(each.workout["duration_s"] >= 0 for each in found)
