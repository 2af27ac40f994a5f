"""What holds for every format: its content names it, its ids come from it, options are added."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.errors import PacelineError
from events.schemas import load_workout
from producer.importing import ImportOptions, UnknownZone, UnreadableRecording, read
from tests.unit.importing import documents, fit_bytes
from tests.unit.importing.conftest import Reading
from tests.unit.importing.documents import START, gpx, lap, point, tcx, track
from tests.unit.importing.fit_bytes import file_id, fit, session, sport

FIT = fit(
    file_id(), session(START, *sport(1)), fit_bytes.activity(START, START + timedelta(hours=2))
)
TCX = tcx(documents.activity(lap("2024-06-01T06:30:00Z", seconds=600, metres=2000))).encode()
GPX = gpx(track([point(0, rate=120), point(60, 200, rate=140)])).encode()
FORMATS = {"fit": FIT, "tcx": TCX, "gpx": GPX}

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]><gpx><trk><type>&i;</type></trk></gpx>"
).encode()


def ada(**options: Any) -> ImportOptions:
    return ImportOptions(user="ada", **options)


def refusal(recording: Reading, content: bytes) -> str:
    with pytest.raises(UnreadableRecording) as refused:
        recording(content)
    assert len(str(refused.value).splitlines()) == 1
    return refused.value.reason


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a.fit", "a.gpx", "a.tcx", "a.json", "a"])
def test_the_content_says_the_format_and_not_the_name(
    recording: Reading, kind: str, name: str
) -> None:
    (found,) = recording(FORMATS[kind], name=name)
    assert found.workout["workout_id"].startswith(f"{kind}-")


@pytest.mark.parametrize("low", b"{[<", ids=chr)
def test_a_fit_header_that_looks_like_text_is_still_one(recording: Reading, low: int) -> None:
    body = file_id() + session(START, *sport(1))
    content = fit_bytes.fit_of_old(body, protocol=0x20, profile=0x800 + low)
    assert content.lstrip()[:1] == bytes([low])
    assert recording(content)[0].workout["sport"] == "running"


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_the_same_content_is_the_same_workout_with_any_options(
    recording: Reading, content: bytes
) -> None:
    (plain,) = recording(content, name="one")
    (other,) = recording(content, ada(zone="Asia/Tokyo", weight_kg=60, live=True), name="two")
    assert plain.workout["workout_id"] == other.workout["workout_id"]
    assert plain.workout != other.workout


def test_other_content_is_another_workout(recording: Reading) -> None:
    (one,), (two,) = recording(GPX), recording(GPX + b"\n")
    assert one.workout["workout_id"] != two.workout["workout_id"]


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_the_door_takes_what_is_read(recording: Reading, content: bytes) -> None:
    options = ada(zone="Europe/Ljubljana", weight_kg=70.1234, sex="male", birth_year=1990)
    for said in (ada(), options):
        (found,) = recording(content, said)
        fact = load_workout(json.loads(json.dumps(found.workout)))
        assert fact.started_at == START


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_the_options_are_in_the_body(recording: Reading, content: bytes) -> None:
    (found,) = recording(content, ada(weight_kg=70.1234, sex="female", birth_year=1990, live=True))
    assert found.workout["athlete"] == {"weight_kg": 70.123, "sex": "female", "birth_year": 1990}
    assert found.workout["origin"] == "live"
    assert recording(content)[0].workout["origin"] == "history"


@pytest.mark.parametrize("content", FORMATS.values(), ids=FORMATS)
def test_without_a_user_a_recording_is_nobodys(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recording"
    path.write_bytes(content)
    with pytest.raises(UnreadableRecording, match="--user"):
        read(path, options=ImportOptions())


def test_a_zone_gives_its_offset_at_that_instant(recording: Reading) -> None:
    (summer,) = recording(GPX, ada(zone="Europe/Ljubljana"))
    winter = GPX.replace(b"2024-06-01", b"2024-12-01")
    assert summer.workout["started_at"] == "2024-06-01T08:30:00+02:00"
    assert recording(winter, ada(zone="Europe/Ljubljana"))[0].workout["started_at"] == (
        "2024-12-01T07:30:00+01:00"
    )
    assert summer.workout["zone"] == "Europe/Ljubljana"
    assert summer.notes == []


def test_a_zone_wins_over_the_offset_of_the_file_and_that_is_said(recording: Reading) -> None:
    (found,) = recording(FIT, ada(zone="America/New_York"))
    assert found.workout["started_at"] == "2024-06-01T02:30:00-04:00"
    assert found.notes == [
        "the file says UTC+0200 and America/New_York was at UTC-0400: the zone is taken"
    ]
    assert recording(FIT, ada(zone="Europe/Ljubljana"))[0].notes == []


@pytest.mark.parametrize(
    "zone", ["Mars/Phobos", "", "../etc/passwd", "America", "UTC\n", "x" * 999]
)
def test_a_zone_that_is_none_is_named_before_any_file_is_read(zone: str) -> None:
    with pytest.raises(UnknownZone) as refused:
        ImportOptions(user="ada", zone=zone)
    assert isinstance(refused.value, PacelineError)
    assert len(str(refused.value)) < 200
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04", "is neither FIT, TCX, GPX nor JSON"),
        (b"<html></html>", "is XML but neither TCX nor GPX: <html>"),
        (b"<gpx><trk>", "is no well-formed XML"),
        (b'<?xml version="1.0" encoding="klingon"?><gpx/>', "is no well-formed XML"),
        (b"<gpx/>", "has no track with times"),
        (b'<!DOCTYPE gpx SYSTEM "http://localhost/a.dtd"><gpx/>', "declares a DTD or entities"),
        (BOMB, "declares a DTD or entities"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(
    recording: Reading, content: bytes, reason: str
) -> None:
    assert refusal(recording, content).startswith(reason)


def test_a_document_nested_very_deep_does_no_harm(recording: Reading) -> None:
    refusal(recording, b"<gpx>" + b"<trk>" * 100_000 + b"</trk>" * 100_000 + b"</gpx>")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.fit", tmp_path):
        with pytest.raises(UnreadableRecording, match="can not be read") as refused:
            read(path, options=ImportOptions(user="ada"))
        assert refused.value.path == path


def test_a_huge_file_is_refused_without_reading_it(recording: Reading, tmp_path: Path) -> None:
    path = tmp_path / "huge.gpx"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableRecording, match="are the most"):
        read(path, options=ImportOptions(user="ada"))


openings = st.sampled_from([b"", b"<", b"{", b"[", b"<gpx>", b"\xff\xfe", b"\x0e\x10abcdef.FIT"])


@example(b"\xfe\xff", b"\x00")
@example(b"\xef\xbb\xbf", b"<")
@given(openings, st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, opening: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(opening + rest)
    try:
        found, refusal = read(path, options=ImportOptions(user="ada")), "none"
    except UnreadableRecording as refused:
        found, refusal = [], str(refused)
    assert len(refusal.splitlines()) == 1
    assert all(isinstance(each.workout, dict) for each in found)
