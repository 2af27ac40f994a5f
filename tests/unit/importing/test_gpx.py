"""GPX: points become distance and time, and pauses are said."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.importing import UnreadableRecording, read
from tests.unit.importing.conftest import ADA, Reading
from tests.unit.importing.documents import gpx, point, track, trackpoint


def test_a_track_becomes_a_workout(recording: Reading) -> None:
    points = [
        point(0, 0, elevation=100, rate=120),
        point(10, 30, elevation=110, rate=130),
        point(40, 120, elevation=120, rate=150),
    ]
    (found,) = recording(gpx(track(points)))
    assert found.workout == {
        "workout_id": found.workout["workout_id"],
        "user_id": "ada",
        "sport": "running",
        "started_at": "2024-06-01T06:30:00+00:00",
        "duration_s": 40,
        "elapsed_s": 40,
        "distance_m": pytest.approx(122.2, rel=0.005),
        "ascent_m": pytest.approx(20),
        "avg_heart_rate": 145,  # 130 for 10 s and 150 for 30 s
        "max_heart_rate": 150,
        "source": "device",
        "recording": {"provider": "Garmin Connect"},
        "origin": "history",
    }
    assert found.notes == ["no zone in the file: UTC is a guess; say --zone"]


def test_a_standstill_of_more_than_a_minute_is_a_pause_and_said(recording: Reading) -> None:
    (found,) = recording(gpx(track([point(0), point(60, 200), point(960, 210), point(1020, 400)])))
    assert (found.workout["duration_s"], found.workout["elapsed_s"]) == (120, 1020)
    assert found.notes[0] == (
        "GPX has no timer: of 1020 s, the 900 s in pauses and between segments are taken for rest"
    )


def test_a_long_gap_that_was_crossed_moving_is_no_pause(recording: Reading) -> None:
    (found,) = recording(gpx(track([point(0), point(60, 200), point(660, 2200)])))
    assert (found.workout["duration_s"], found.workout["elapsed_s"]) == (660, 660)


def test_slow_going_between_close_points_is_no_pause(recording: Reading) -> None:
    (found,) = recording(gpx(track([point(20 * n, n) for n in range(31)])))
    assert found.workout["duration_s"] == 600


def test_neither_time_nor_distance_between_two_segments_counts(recording: Reading) -> None:
    (found,) = recording(
        gpx(track([point(0), point(60, 200)], [point(120, 5000), point(180, 5200)]))
    )
    assert (found.workout["duration_s"], found.workout["elapsed_s"]) == (120, 180)
    assert found.workout["distance_m"] == pytest.approx(400, rel=0.005)


def test_a_slope_is_as_long_as_it_is_walked(recording: Reading) -> None:
    (found,) = recording(gpx(track([point(0, 0, elevation=0), point(60, 100, elevation=100)])))
    assert found.workout["distance_m"] == pytest.approx(100 * 2**0.5, rel=0.005)


def test_without_elevations_there_is_no_ascent(recording: Reading) -> None:
    (found,) = recording(gpx(track([point(0), point(60, 100)])))
    assert "ascent_m" not in found.workout
    assert "avg_heart_rate" not in found.workout


def test_each_track_with_times_is_a_workout_and_the_others_are_said(recording: Reading) -> None:
    (first, second) = recording(
        gpx(
            track([point(0), point(60, 200)]),
            track([point(None), point(None, 100)]),
            track([point(3600), point(3700, 200)], sport="cycling"),
        )
    )
    assert [first.workout["sport"], second.workout["sport"]] == ["running", "cycling"]
    assert first.workout["workout_id"][:-2] == second.workout["workout_id"][:-2]
    assert first.workout["workout_id"] != second.workout["workout_id"]
    assert "left out, without times: 1 of 3 tracks" in first.notes


def test_a_track_without_a_single_time_is_refused(recording: Reading) -> None:
    with pytest.raises(UnreadableRecording, match="no track with times"):
        recording(gpx(track([point(None), point(None, 100)])))


def test_a_route_is_no_workout(recording: Reading) -> None:
    with pytest.raises(UnreadableRecording):
        recording(gpx('<rte><rtept lat="0" lon="0"/></rte>'))


@pytest.mark.parametrize(
    ("said", "sport"),
    [
        *[("Running", "running"), ("trail_running", "running"), ("9", "running")],
        *[
            ("cycling", "cycling"),
            ("Biking", "cycling"),
            ("1", "cycling"),
            ("Mountain Biking", "cycling"),
        ],
        *[("hiking", "hiking"), ("4", "hiking"), ("walking", "walking"), ("10", "walking")],
        *[("open_water_swimming", "swimming"), ("16", "swimming")],
        *[("cross_country_skiing", "cross_country_skiing"), ("E-Bike Ride", "e_biking")],
    ],
)
def test_the_type_of_a_track_gives_the_sport(
    recording: Reading, said: str | None, sport: str
) -> None:
    (found,) = recording(gpx(track([point(0), point(60, 200)], sport=said)))
    assert found.workout["sport"] == sport
    assert len(found.notes) == 1  # the zone's


@pytest.mark.parametrize(("said", "words"), [(None, "no sport"), ("77", "'77'")])
def test_without_a_type_that_is_known_the_sport_is_other_and_said(
    recording: Reading, said: str | None, words: str
) -> None:
    (found,) = recording(gpx(track([point(0), point(60, 200)], sport=said)))
    assert found.workout["sport"] == "other"
    assert words in found.notes[0]


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://www.topografix.com/GPX/1/0"'])
def test_any_namespace_will_do(recording: Reading, namespace: str) -> None:
    text = gpx(track([point(0), point(60, 200)]), namespace=namespace)
    assert recording(text)[0].workout["duration_s"] == 60


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_any_encoding_of_xml_will_do(recording: Reading, encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    text = gpx("<name>Ça va</name>", track([point(0), point(60, 200)]), encoding=declared)
    assert recording(text.encode(encoding))[0].workout["duration_s"] == 60


def test_a_clock_that_jumps_back_makes_no_time(recording: Reading) -> None:
    points = [point(0), point(60, 200), point(30, 300), point(90, 400)]
    (found,) = recording(gpx(track(points)))
    assert (found.workout["duration_s"], found.workout["elapsed_s"]) == (90, 90)


@pytest.mark.parametrize("place", ["NaN", "1e999", "91", ""])
def test_a_point_that_is_nowhere_on_earth_is_no_point(recording: Reading, place: str) -> None:
    nowhere = trackpoint(place, "0", 30)
    (found,) = recording(gpx(track([point(0), nowhere, point(60, 200)])))
    assert found.workout["distance_m"] == pytest.approx(200, rel=0.005)


Place = tuple[str, str, int | None, float | None]

places = st.tuples(
    st.floats(-90, 90).map(str),
    st.floats(-180, 180).map(str),
    st.one_of(st.none(), st.integers(0, 60)),  # s; no gap is long enough for a pause
    st.one_of(st.none(), st.floats()),
)


@given(st.lists(st.lists(places, max_size=8), max_size=4))
def test_the_time_of_any_track_is_that_of_its_segments(
    tmp_path_factory: pytest.TempPathFactory, segments: list[list[Place]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gpx"
    text = gpx(track(*([trackpoint(*place) for place in segment] for segment in segments)))
    path.write_text(text, encoding="utf-8")
    clocks = [
        [seconds for _, _, seconds, _ in segment if seconds is not None] for segment in segments
    ]
    recorded = sum(max(clock) - clock[0] for clock in clocks if clock)
    if not recorded:
        with pytest.raises(UnreadableRecording):
            read(path, options=ADA)
        return
    (found,) = read(path, options=ADA)
    times = [time for clock in clocks for time in clock]
    assert found.workout["elapsed_s"] == max(times) - min(times)
    assert found.workout["duration_s"] == min(recorded, max(times) - min(times))
    assert all(math.isfinite(value) for value in found.workout.values() if isinstance(value, float))


def test_the_far_side_of_the_earth_is_no_obstacle(recording: Reading) -> None:
    ways = [("7.3", "10"), ("-7.3", "-170")] * 5
    points = [trackpoint(*place, seconds) for seconds, place in enumerate(ways)]
    assert recording(gpx(track(points)))[0].workout["distance_m"] > 1e7
