"""The shape of handlers and of reactions: what is loaded, and what a wrong one is told to write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.registry import Loaded, Unfit, load, single

HANDLER = """
class Letters:
    name = "letters"
    bindings = ("achievement.unlocked.#",)
    version = 3

    def handle(self, event):
        pass
"""
PROJECTION = """
class Letters:
    name = "letters"
    bindings = ("workout.completed.#",)
    version = 3

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        pass

    def react(self, event, before, after):
        yield "key", {}
"""
Load = Callable[[str], Loaded]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    def write_and_load(source: str) -> Loaded:
        file = tmp_path / "letters.py"
        file.write_text(source)
        return load(single(file))

    return write_and_load


def test_a_handler_is_called_once_at_a_time_within_ten_seconds_from_now_on(loaded: Load) -> None:
    found = loaded(HANDLER)
    assert found.handles
    assert (found.since, found.concurrency, found.deadline_s, found.ladder_s) == (
        "now",
        1,
        10.0,
        None,
    )
    assert (found.version, found.consumer.version) == (1, 3)  # one generation for ever


def test_a_handler_says_how_it_is_called(loaded: Load) -> None:
    found = loaded(
        HANDLER + "    concurrency, deadline_s, ladder_s = 64, 0.5, [1, 2.5]\n"
        '    since = "2026-11-01T00:00:00+01:00"\n'
    )
    assert (found.concurrency, found.deadline_s, found.ladder_s) == (64, 0.5, (1, 2.5))
    assert found.since == "2026-11-01T00:00:00+01:00"


def test_a_projection_that_reacts_is_one_and_wants_all_of_the_past(loaded: Load) -> None:
    found = loaded(PROJECTION)
    assert not found.handles
    assert (found.version, found.since) == (3, None)


@pytest.mark.parametrize("since", ['"now"', '"2026-11-01T00:00:00Z"', "None"])
def test_a_projection_may_say_since_when_it_wants_events(loaded: Load, since: str) -> None:
    assert repr(loaded(PROJECTION + f"    since = {since}\n").since) == since.replace('"', "'")


def with_body(method: str, body: str) -> str:
    """The handler, or the projection, with another method."""
    source = HANDLER if method == "handle" else PROJECTION
    head, _, rest = source.partition(f"    def {method}(")
    after = rest.partition("\n\n")[2]
    return f"{head}    {body}\n\n{after}"


WRONG: dict[str, tuple[str, str]] = {
    "handle without an event": (
        with_body("handle", "def handle(self): pass"),
        "handle() cannot be called: too many positional arguments; write def handle(self, event)",
    ),
    "handle that is no function": (with_body("handle", "handle = 7"), "write def handle(self, ev"),
    "async handle": (
        with_body("handle", "async def handle(self, event): pass"),
        "handle() is async or has a yield, so it would never run; write def handle(self, event)",
    ),
    "yielding handle": (
        with_body("handle", "def handle(self, event): yield"),
        "handle() is async or has a yield, so it would never run; write def handle(self, event)",
    ),
    "handle and fold": (
        HANDLER + "    def fold(self, event, documents): pass",
        "it has handle() and fold; a handler acts, a projection folds",
    ),
    "handle and all the others": (
        PROJECTION + "    def handle(self, event): pass",
        "it has handle() and keys, fold, react; a handler acts",
    ),
    "react without after": (
        with_body("react", "def react(self, event, before): pass"),
        "react() cannot be called: too many positional arguments; write def react(self, event, be",
    ),
    "async react": (
        with_body("react", "async def react(self, event, before, after): pass"),
        "react() is async or has a yield",
    ),
    "async yielding react": (
        with_body("react", "async def react(self, event, before, after): yield"),
        "react() is async or has a yield",
    ),
    "react that is no function": (with_body("react", "react = None"), "react() is missing; write"),
    "react alone": (
        PROJECTION.replace("def fold", "def unfold"),
        "fold() is missing; write def fold(self, event, documents)",
    ),
    "65 threads": (HANDLER + "    concurrency = 65", "concurrency is 65; write how many threads"),
    "a thread and a half": (HANDLER + "    concurrency = 1.5", "concurrency is 1.5; write"),
    "a deadline that is never": (
        HANDLER + '    deadline_s = float("inf")',
        "deadline_s is inf; write seconds, at most 300",
    ),
    "a deadline that is none": (HANDLER + '    deadline_s = float("nan")', "deadline_s is nan"),
    "a deadline of a yes": (HANDLER + "    deadline_s = True", "deadline_s is True; write seconds"),
    "a ladder of one number": (HANDLER + "    ladder_s = 7", "ladder_s is 7; write a tuple of sec"),
    "a ladder of texts": (HANDLER + '    ladder_s = ("1",)', "ladder_s is ('1',); write a tuple"),
    "a ladder that never ends": (
        HANDLER + '    ladder_s = (1, float("inf"))',
        "ladder_s is (1, inf); write a tuple of seconds",
    ),
    "a projection's ladder of texts": (
        PROJECTION + '    ladder_s = ("1",)',
        "ladder_s is ('1',); write a tuple of seconds",
    ),
    "a projection's ladder of one number": (
        PROJECTION + "    ladder_s = 7",
        "ladder_s is 7; write a tuple of seconds",
    ),
    "since yesterday": (HANDLER + '    since = "yesterday"', "since is 'yesterday'; write \"now\""),
    "since no offset": (
        PROJECTION + '    since = "2026-11-01T00:00:00"',
        'since is \'2026-11-01T00:00:00\'; write "now", or a time such as "2026-11-01T00:00:00+00',
    ),
    "since a number": (PROJECTION + "    since = 7", "since is 7; write"),
    "since before all time": (
        PROJECTION + '    since = "0001-01-01T00:00:00+14:00"',
        "since is '0001-01-01T00:00:00+14:00'; write",
    ),
}


@pytest.mark.parametrize(("source", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_one_is_told_its_file_what_is_wrong_and_what_to_write(
    loaded: Load, tmp_path: Path, source: str, says: str
) -> None:
    with pytest.raises(Unfit) as refused:
        loaded(source)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "letters.py"))
    assert says in message
    assert "\n" not in message


def test_what_a_wrong_one_is_told_is_one_thing(loaded: Load) -> None:
    many: Any = [source for source, _ in WRONG.values()]
    for source in many:
        with pytest.raises(Unfit) as refused:
            loaded(source)
        assert str(refused.value).count("; write ") <= 1
