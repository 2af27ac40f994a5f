"""Every error of a command is one line, and its exit code means something."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from events.envelope import workout_event_id
from tests.integration.shell import installed, run, working
from tests.integration.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


ONE_LINE_ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "pause nobody": (("consumers", "pause", "nobody"), "no consumer 'nobody'; there are: tally."),
    "resume nobody": (("consumers", "resume", "nobody"), "no consumer 'nobody'; there are: tally."),
    "rebuild nobody": (("rebuild", "nobody"), "no consumer 'nobody'"),
    "dry rebuild of nobody": (("rebuild", "nobody", "--dry-run"), "no consumer 'nobody'"),
    "replay for nobody": (("replay", "--consumer", "nobody"), "no consumer 'nobody'"),
    "dry replay for nobody": (("replay", "--consumer", "nobody", "--dry-run"), "no consumer"),
    "dead of nobody": (("dead-letters", "list", "--consumer", "nobody"), "no consumer 'nobody'"),
    "show dead of nobody": (("dead-letters", "show", "nobody"), "no consumer 'nobody'"),
    "redrive nobody": (("dead-letters", "redrive", "nobody", "--yes"), "no consumer 'nobody'"),
    "discard no id": (("dead-letters", "discard", "tally", "--yes", "--id", "x"), "'x'"),
    "audit nobody": (("audit", "--consumer", "nobody"), "no consumer 'nobody'"),
    "consume nobody": (("consume", "nobody"), "no consumer 'nobody'; there are: tally."),
    "cancel nothing": (("operations", "cancel", "7"), "Operation 7 is not open"),
    "show no event": (("events", "show", workout_event_id("x", "y")), "No event"),
    "show no id": (("events", "show", "6f1c…"), "6f1c…"),
    "replay no id": (("replay", "--id", "xyz", "--dry-run"), "'xyz' is no event's id"),
}


@pytest.mark.parametrize(
    ("arguments", "says"), ONE_LINE_ERRORS.values(), ids=ONE_LINE_ERRORS.keys()
)
def test_an_error_is_one_line_that_names_what_is_wrong(
    world: World, arguments: tuple[str, ...], says: str
) -> None:
    result = run(*arguments, code=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith("paceline: ")
    assert says in line
    assert result.stdout == ""


def test_an_operation_that_fails_is_one_line_too(world: World) -> None:
    with working(world):
        result = run("replay", "--id", "xyz", code=1)
    # The worker that runs in this process writes its journal, one JSON object a line.
    assert [line for line in result.stderr.splitlines() if not line.startswith("{")] == [
        "paceline: 'xyz' is no event's id; see `paceline events list`."
    ]


@pytest.mark.parametrize(
    "arguments",
    [("events", "list"), ("audit",), ("events", "show", workout_event_id("ada", "w-0"))],
    ids=" ".join,
)
def test_where_nothing_was_logged_yet_that_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    (line,) = run(*arguments, code=1).stderr.splitlines()
    assert line.startswith("paceline: ")
    assert str(tmp_path / "log.db") in line
    assert not list(tmp_path.iterdir())  # and looking makes nothing


def test_a_wrong_setting_is_one_line_whatever_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PACELINE_PORT", "http")
    (line,) = run("consumers", "list", code=1).stderr.splitlines()
    assert "PACELINE_PORT" in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("replay", "--from", "yesterday"), "--from is 'yesterday'; write it like 2026-11-01T00:"),
        (("events", "list", "--to", "2026-11-01T00:00:00"), "--to is '2026-11-01T00:00:00'; write"),
        (("events", "list", "--limit", "0"), "--limit"),
        (("rebuild",), "Missing argument 'NAME'"),
        (("operations", "cancel", "x"), "'x' is not a valid integer"),
        (("dance",), "No such command 'dance'"),
        (("audit", "--dance"), "No such option"),
    ],
    ids=str,
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(
    world: World, arguments: tuple[str, ...], says: str
) -> None:
    assert says in run(*arguments, code=2).stderr
