"""Topic patterns match as AMQP says: `*` is one word, `#` any number of them, also none."""

import re
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.topology import EXCHANGE, check_pattern, matches, queue_name, wanted
from events.workouts import Sport

WORDS = st.sampled_from(("a", "b", "ab", "workout", "strength_training", "x-1"))
KEYS = st.lists(WORDS, min_size=1, max_size=6).map(".".join)
PATTERNS = st.lists(WORDS | st.sampled_from("**##"), min_size=1, max_size=6).map(".".join)


def as_regex(pattern: str) -> re.Pattern[str]:
    """The pattern over a key whose every word is followed by a dot."""
    one, any_number = r"[^.]+\.", r"(?:[^.]+\.)*"
    words = {"*": one, "#": any_number}
    return re.compile(
        "".join(words.get(word, re.escape(word) + r"\.") for word in pattern.split("."))
    )


def by_hand(pattern: list[str], key: list[str]) -> bool:
    """The same by trying everything: a `#` takes no word, or one word and stays."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return by_hand(pattern[1:], key) or (bool(key) and by_hand(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and by_hand(pattern[1:], key[1:])


@given(pattern=PATTERNS, key=KEYS)
@example(pattern="#", key="a")
@example(pattern="a.#.b", key="a.b")
@example(pattern="#.#", key="a")
@example(pattern="#.*.#", key="a.b")
@example(pattern="*.#.*", key="a")
def test_a_pattern_matches_what_its_regular_expression_does(pattern: str, key: str) -> None:
    assert matches(pattern, key) == bool(as_regex(pattern).fullmatch(f"{key}."))


def test_every_short_pattern_matches_every_short_key_as_worked_out_by_hand() -> None:
    patterns = [list(of) for size in (1, 2, 3, 4) for of in product("a*#", repeat=size)]
    keys = [list(of) for size in (1, 2, 3, 4) for of in product("ab", repeat=size)]
    for pattern, key in product(patterns, keys):
        assert matches(".".join(pattern), ".".join(key)) == by_hand(pattern, key), (pattern, key)


@pytest.mark.parametrize(
    ("pattern", "key", "matched"),
    [
        ("workout.completed.running", "workout.completed.running", True),
        ("workout.completed.running", "workout.completed.run", False),
        ("workout.completed.running", "workout.completed", False),
        ("workout.completed.*", "workout.completed.running", True),
        ("workout.completed.*", "workout.completed", False),
        ("workout.completed.*", "workout.completed.running.trail", False),
        ("workout.completed.#", "workout.completed", True),
        ("workout.completed.#", "workout.completed.running.trail", True),
        ("workout.completed.#", "workout.corrected", False),
        ("workout.#.running", "workout.running", True),
        ("workout.#.running", "workout.completed.live.running", True),
        ("workout.#.running", "workout.completed.running.trail", False),
        ("#.running", "workout.completed.running", True),
        ("*.completed.*", "workout.completed.running", True),
        ("#", "anything.at.all", True),
        ("work*", "workout", False),
        ("workout.completed", "workoutxcompleted", False),
    ],
)
def test_a_pattern_reads_as_its_author_meant_it(pattern: str, key: str, matched: bool) -> None:  # noqa: FBT001
    assert matches(pattern, key) is matched


def test_a_key_is_wanted_where_any_of_the_bindings_matches() -> None:
    bindings = ("workout.completed.running", "#.unlocked")
    assert wanted(bindings, "workout.completed.running")
    assert wanted(bindings, "achievement.unlocked")
    assert not wanted(bindings, "workout.completed.cycling")
    assert not wanted((), "workout.completed.running")


def test_each_consumer_has_a_queue_of_its_own_on_one_exchange() -> None:
    assert EXCHANGE == "paceline.events"
    assert queue_name("monthly-report") == "paceline.monthly-report"


@pytest.mark.parametrize("sport", Sport)
def test_every_sport_is_one_word_of_a_routing_key(sport: Sport) -> None:
    check_pattern(f"workout.completed.{sport}")
    assert matches("workout.completed.*", f"workout.completed.{sport}")


@given(PATTERNS)
def test_a_pattern_of_words_stars_and_hashes_is_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", ".", "a.", ".a", "a..b", "a*", "a.#b", "**", "A.b", "a b", "a.b\n", "ü", "a.b.", "a,b"],
)
def test_what_would_never_match_as_its_author_expects_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no topic pattern"):
        check_pattern(pattern)
