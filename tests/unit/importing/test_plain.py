"""JSON: what the file says stands, and what is no JSON is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer.importing import ImportOptions, UnreadableRecording, read
from tests.unit.importing.conftest import Reading

RUN = {
    "workout_id": "w-1",
    "user_id": "grace",
    "sport": "running",
    "started_at": "2024-06-01T08:30:00+02:00",
    "duration_s": 1800.123,
}


NOBODY = ImportOptions()

Imported = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def imported(recording: Reading) -> Imported:
    def bodies(content: str | bytes, options: ImportOptions = NOBODY) -> list[dict[str, Any]]:
        return [each.workout for each in recording(content, options)]

    return bodies


def test_a_workout_a_list_and_one_a_line_are_read_alike(imported: Imported) -> None:
    second = {**RUN, "workout_id": "w-2"}
    both = [{"origin": "history", **RUN}, {"origin": "history", **second}]
    assert imported(json.dumps(RUN, indent=2)) == both[:1]
    assert imported(json.dumps([RUN, second])) == both
    assert imported(f"{json.dumps(RUN)}\n\n{json.dumps(second)}\r\n") == both
    assert imported(b"\xef\xbb\xbf" + json.dumps(RUN).encode()) == both[:1]


def test_options_fill_in_what_the_file_leaves_out(imported: Imported) -> None:
    bare = {name: value for name, value in RUN.items() if name != "user_id"}
    options = ImportOptions(user="ada", weight_kg=61.25, sex="female", birth_year=1990, live=True)
    assert imported(json.dumps(bare), options) == [
        {
            **bare,
            "user_id": "ada",
            "origin": "live",
            "athlete": {"weight_kg": 61.25, "sex": "female", "birth_year": 1990},
        }
    ]


def test_what_the_file_says_stands(imported: Imported) -> None:
    said = {**RUN, "origin": "live", "athlete": {"weight_kg": 70}}
    (found,) = imported(json.dumps(said), ImportOptions(user="ada", weight_kg=61, sex="male"))
    assert found == {**said, "athlete": {"weight_kg": 70, "sex": "male"}}


def test_a_workout_without_a_user_is_left_to_the_door(imported: Imported) -> None:
    assert "user_id" not in imported('{"sport": "running"}')[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,}', "is no JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is too large"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": ' + "9" * 5000 + "}", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", "its workout 1 is no JSON object"),
        ('{"a": 1}\n{"a": \n{"a": 1}', "line 2: "),
        ('{"a": 1}\n{"a": 2, "a": 3}', "line 2: 'a' is there twice"),
        ('{"a": 1} 2', "line 1: "),
        (b'{"a": "\xff"}', "is no JSON"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(
    imported: Imported, text: str | bytes, reason: str
) -> None:
    with pytest.raises(UnreadableRecording) as refused:
        imported(text)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(refused.value.reason) < 200


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=8), json_values, max_size=5).map(
    lambda body: {**body, "origin": "history"}
)


@example(
    workouts=[{"name": "one\u2028two\x85three", "origin": "history"}] * 2, lines=True, plain=False
)
@given(workouts=st.lists(bodies, min_size=1, max_size=5), lines=st.booleans(), plain=st.booleans())
def test_any_objects_come_through_as_they_are(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    workouts: list[dict[str, Any]],
    lines: bool,
    plain: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    texts = [json.dumps(workout, ensure_ascii=plain) for workout in workouts]
    text = "\n".join(texts) if lines else f"[{','.join(texts)}]"
    path.write_text(text, encoding="utf-8", newline="")
    assert [each.workout for each in read(path, options=NOBODY)] == workouts
