"""TCX: the laps are the truth."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.importing import ImportOptions, UnreadableRecording, read
from tests.unit.importing.conftest import ADA, Reading
from tests.unit.importing.documents import activity, lap, tcx


def test_the_laps_add_up_to_the_workout(recording: Reading) -> None:
    text = tcx(
        activity(
            lap(
                "2024-06-01T06:30:00Z",
                seconds=600.25,
                metres=2000.5,
                kcal=100,
                rate=140,
                greatest=150,
                watts=200,
            ),
            lap(
                "2024-06-01T06:41:00Z",
                seconds=300,
                metres=1000.25,
                kcal=60,
                rate=170,
                greatest=181,
                watts=300,
            ),
        )
    )
    (found,) = recording(text)
    assert found.workout == {
        "workout_id": found.workout["workout_id"],
        "user_id": "ada",
        "sport": "running",
        "started_at": "2024-06-01T06:30:00+00:00",
        "duration_s": 900.25,
        "elapsed_s": 960.0,
        "distance_m": 3000.75,
        "avg_heart_rate": 149.997,
        "max_heart_rate": 181,
        "avg_power_w": 233.324,
        "energy_kcal": 160,
        "source": "device",
        "recording": {
            "provider": "Connect Api",
            "device": "vívoactive HR",
            "external_id": "2024-06-01T06:30:00Z",
        },
        "origin": "history",
    }
    assert found.notes == ["no zone in the file: UTC is a guess; say --zone"]


def test_a_lap_without_a_heart_rate_does_not_pull_the_average_down(recording: Reading) -> None:
    text = tcx(
        activity(
            lap("2024-06-01T06:30:00Z", seconds=600, rate=140),
            lap("2024-06-01T06:40:00Z", seconds=600),
            lap("2024-06-01T06:50:00Z", seconds=600, rate=0),
        )
    )
    assert recording(text)[0].workout["avg_heart_rate"] == 140


def test_what_no_lap_says_is_not_in_the_workout(recording: Reading) -> None:
    (found,) = recording(tcx(activity(lap("2024-06-01T06:30:00Z", seconds=600, kcal=0))))
    assert not {
        "avg_heart_rate",
        "max_heart_rate",
        "distance_m",
        "energy_kcal",
        "avg_power_w",
    } & set(found.workout)


def test_the_last_trackpoint_can_be_the_end(recording: Reading) -> None:
    one = lap(
        "2024-06-01T06:30:00Z", seconds=600, points=["2024-06-01T06:30:00Z", "2024-06-01T06:55:00Z"]
    )
    (found,) = recording(tcx(activity(one)))
    assert (found.workout["duration_s"], found.workout["elapsed_s"]) == (600, 1500)


def test_each_activity_is_a_workout(recording: Reading) -> None:
    text = tcx(
        activity(lap("2024-06-01T06:30:00Z", seconds=600), sport="Biking"),
        activity(lap("2024-06-01T07:30:00Z", seconds=700)),
    )
    found = [each.workout for each in recording(text)]
    assert [each["sport"] for each in found] == ["cycling", "running"]
    assert [each["workout_id"][-2:] for each in found] == ["-1", "-2"]


@pytest.mark.parametrize("sport", ["Other", "Juggling", ""])
def test_a_sport_that_says_nothing_is_other_and_said(recording: Reading, sport: str) -> None:
    (found,) = recording(tcx(activity(lap("2024-06-01T06:30:00Z", seconds=600), sport=sport)))
    assert found.workout["sport"] == "other"
    assert "taken as other" in found.notes[0]
    assert sport in found.notes[0]


def test_a_time_with_an_offset_keeps_it(recording: Reading) -> None:
    (found,) = recording(tcx(activity(lap("2024-06-01T08:30:00.500+02:00", seconds=600))))
    assert found.workout["started_at"] == "2024-06-01T08:30:00.500+02:00"
    assert found.notes == []


def test_blanks_before_the_declaration_do_no_harm(recording: Reading) -> None:
    text = "\n   " + tcx(activity(lap("2024-06-01T06:30:00Z", seconds=600)))
    assert recording(text)[0].workout["duration_s"] == 600


@pytest.mark.parametrize("number", ["NaN", "1e999", "many", ""])
def test_what_is_no_number_is_not_known(recording: Reading, number: str) -> None:
    (found,) = recording(tcx(activity(lap("2024-06-01T06:30:00Z", seconds=600, metres=number))))
    assert "distance_m" not in found.workout


@pytest.mark.parametrize(
    "activities",
    [
        [],
        [activity()],
        [activity(lap("yesterday", seconds=600), name="")],
        [activity(lap("2024-06-01T06:30:00Z", seconds="long"))],
    ],
)
def test_without_a_start_and_a_duration_there_is_no_workout(
    recording: Reading, activities: list[str]
) -> None:
    with pytest.raises(UnreadableRecording):
        recording(tcx(*activities))


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_no_zone_can_show_is_none(recording: Reading, time: str) -> None:
    with pytest.raises(UnreadableRecording):
        recording(tcx(activity(lap(time, seconds=600))), ImportOptions(user="ada", zone="UTC"))


laps = st.tuples(st.integers(1, 7200), st.integers(0, 30000), st.integers(40, 220))


@given(st.lists(laps, min_size=1, max_size=20))
def test_any_laps_add_up(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "laps.tcx"
    text = tcx(
        activity(
            *(
                lap("2024-06-01T06:30:00Z", seconds=seconds, metres=metres, rate=rate)
                for seconds, metres, rate in values
            )
        )
    )
    path.write_text(text, encoding="utf-8")
    (found,) = read(path, options=ADA)
    seconds, metres, rates = zip(*values, strict=True)
    assert found.workout["duration_s"] == sum(seconds)
    assert found.workout["distance_m"] == sum(metres)
    assert found.workout["avg_heart_rate"] == pytest.approx(fmean(rates, seconds), abs=0.001)
