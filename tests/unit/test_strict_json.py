"""JSON at the door: what the standard library takes with a smile is refused here."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.strict_json import MalformedJson, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4),
    max_leaves=12,
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(value=VALUES, ascii_only=st.booleans())
def test_what_is_json_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:  # noqa: FBT001
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=30))
def test_bytes_are_json_or_malformed_and_nothing_worse(body: bytes) -> None:
    with suppress(MalformedJson):
        parse(body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "at character 0"),
        (b"{", "at character 1"),
        (b'{"a": 1,}', "at character 8"),
        (b"{'a': 1}", "at character 1"),
        (b"[1 2]", "at character 3"),
        (b'{"a": 1} x', "at character 9"),
        (b'"a\nb"', "at character 2"),
        (b'{"a": NaN}', "NaN is not a JSON number."),
        (b"[Infinity]", "Infinity is not a JSON number."),
        (b"-Infinity", "-Infinity is not a JSON number."),
        (b"nan", "at character 0"),
        (b"9" * 5_000, "A number has too many digits."),
        (b"[-" + b"9" * 5_000 + b"]", "A number has too many digits."),
        (b'{"a": 1, "a": 1}', "The key 'a' stands twice in one object."),
        (b'[{"b": {"a": 1, "c": 0, "a": 2}}]', "The key 'a' stands twice in one object."),
        (b'{"a": 1, "\\u0061": 2}', "The key 'a' stands twice in one object."),
        (b'{"\\ud800": 1, "\\ud800": 2}', "The key '\\ud800' stands twice in one object."),
        (b'"\xff"', "The body is not UTF-8 at byte 1."),
        (b'"\xed\xa0\x80"', "The body is not UTF-8 at byte 1."),
        (b"\xef\xbb\xbf{}", "at character 0"),
        (json.dumps({"a": 1}).encode("utf-16"), "The body is not UTF-8 at byte 0."),
        (b"[" * 10_000, "The body is nested too deeply."),
        (b"[" * 10_000 + b"]" * 10_000, "The body is nested too deeply."),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "The body is nested too deeply."),
    ],
    ids=range(24),
)
def test_what_is_no_json_is_refused_with_the_place(body: bytes, told: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    assert told in str(refused.value)


def test_a_number_beyond_every_float_is_left_to_the_schema() -> None:
    assert parse(b"1e999") == float("inf")
    assert parse(b"9" * 4_000) == int("9" * 4_000)


def test_the_same_key_in_different_objects_is_no_repetition() -> None:
    assert parse(b'[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.timeout(60)
def test_a_repetition_after_very_many_keys_is_found_before_anybody_gives_up() -> None:
    keys = ",".join(f'"{number}":0' for number in range(200_000))
    with pytest.raises(MalformedJson, match="The key '199999' stands twice"):
        parse(f'{{{keys},"199999":1}}'.encode())
