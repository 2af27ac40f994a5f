"""The command line: what it prints, how it ends, and that every error is one line."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from cli import main
from consumers.runtime.control import RequestState
from consumers.runtime.fates import Ladder
from events.envelope import Event, workout_event_id
from events.lock import FileLock
from events.patience import Patience
from tests.integration.place import Place
from tests.integration.world import Tally, World, append, facts, tallied, until

PLUGIN = """
class Tally:
    name = "tally"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        pass
"""
BAD = ("w-3", "w-7")


def fails(event: Event, documents: dict[str, Any]) -> None:
    if event.data.workout_id == "w-3":
        raise LookupError("no such shoe")
    if event.data.workout_id == "w-7":
        raise ValueError("too late")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An installation with one consumer, which has applied 18 of 20 events; two are dead."""
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tally.py").write_text(PLUGIN)
    world = World(tmp_path, Tally(fails))
    world.ladder = Ladder(())
    world.post(facts(20))
    world.run()
    yield world
    world.close()


@contextmanager
def working(world: World, consumer: Tally | None = None) -> Iterator[None]:
    """A worker of the consumer runs, as its own process would."""
    patience = Patience(most_s=0.01)

    def work() -> None:
        other = World(world.folder, consumer or Tally())
        other.runner(patience).run()
        other.close()

    # What a worker logs is its own; here it would stand among what the command prints.
    with FileLock(world.folder / "consumers" / "tally.db"), capture_logs():
        thread = Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            patience.stop()
            thread.join()


def run(*arguments: str, code: int = 0, answers: str = "") -> Result:
    """Run a command in this process; it must end with this exit code."""
    result = CliRunner().invoke(main, arguments, input=answers, prog_name="paceline")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def printed(*arguments: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    return json.loads(run(*arguments, "--json", code=code).stdout)


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, by its words."""
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


ALL = dict(commands())
LEAVES = {path: one for path, one in ALL.items() if not isinstance(one, click.Group)}


# Help.


def test_there_are_the_commands_that_people_are_promised() -> None:
    assert {" ".join(path) for path in LEAVES} >= {
        "run",
        "serve",
        "relay",
        "consume",
        "consumers list",
        "consumers pause",
        "consumers resume",
        "events list",
        "events show",
        "events tail",
        "config",
        "doctor",
        "import",
        "replay",
        "rebuild",
        "dead-letters list",
        "dead-letters show",
        "dead-letters redrive",
        "dead-letters discard",
        "audit",
        "operations list",
        "operations cancel",
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "paceline")
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(path: tuple[str, ...], option: str) -> None:
    text = run(*path, option).output
    assert text.startswith(f"Usage: {' '.join(('paceline', *path))} ")
    described = text.split("\n\n")[1].strip()
    assert len(described) > 20
    assert described.splitlines()[0].rstrip().endswith((".", ":")) or len(described) > 60
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, parameter.name


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_it_would_understand(
    path: tuple[str, ...],
) -> None:
    lines = run(*path, "--help").output.splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip().startswith("Example"))
    example = lines[at + 1].strip()
    match = re.fullmatch(r"(?:[A-Z_]+=\S+ )?paceline (.+)", example)
    assert match, example
    words = match[1].split()
    assert tuple(words[: len(path)]) == path
    # It parses: the right arguments are there, and every option is one of this command.
    LEAVES[path].make_context("paceline", words[len(path) :], resilient_parsing=False)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_what_lists_or_counts_can_be_read_by_machines(path: tuple[str, ...]) -> None:
    options = {option for parameter in LEAVES[path].params for option in parameter.opts}
    lists = {"list", "tail", "audit", "config", "doctor", "replay", "rebuild", "import"}
    assert ("--json" in options) or path[-1] not in lists


# What is printed.


def test_consumers_are_listed_with_what_they_do(world: World) -> None:
    (listed,) = printed("consumers", "list")
    assert listed["name"] == "tally"
    assert listed["state"] == "stopped"
    assert (listed["version"], listed["applied"], listed["dead"], listed["lag"]) == (1, 18, 2, 0)
    table = run("consumers", "list").stdout
    assert re.search(r"tally +stopped +1 +0 +18 +0 +2", table)
    with working(world):
        until(lambda: printed("consumers", "list")[0]["state"] == "live", what="it is live")


def test_a_consumer_is_paused_and_resumed(world: World) -> None:
    with working(world):
        assert "tally stands still" in run("consumers", "pause", "tally").stdout
        append(world.log, facts(3, first=20))
        assert printed("consumers", "list")[0]["state"] == "paused"
        assert printed("consumers", "list")[0]["lag"] == 3
        assert "tally goes on" in run("consumers", "resume", "tally").stdout
        until(lambda: printed("consumers", "list")[0]["applied"] == 21, what="they are applied")


def test_a_replay_says_first_how_many_and_then_what_became_of_them(world: World) -> None:
    assert printed("replay", "--dry-run") == [{"consumer": "tally", "selected": 20}]
    assert printed("replay", "--dry-run", "--user", "ada")[0]["selected"] == 7
    assert printed("replay", "--dry-run", "--type", "workout.deleted")[0]["selected"] == 0
    ids = [workout_event_id("ada", "w-0"), workout_event_id("bob", "w-1")]
    assert printed("replay", "--dry-run", "--id", ids[0], "--id", ids[1])[0]["selected"] == 2
    at = "2026-11-24T10:00:00+01:00"
    assert printed("replay", "--dry-run", "--from", at)[0]["selected"] == 20
    assert printed("replay", "--dry-run", "--to", at)[0]["selected"] == 0
    assert printed("operations", "list") == []
    with working(world):
        assert printed("replay", "--consumer", "tally") == [
            {"consumer": "tally", "applied": 0, "already": 18, "others": 2}
        ]


def test_a_rebuild_says_first_how_many_and_then_which_generation_is_live(world: World) -> None:
    assert printed("rebuild", "tally", "--dry-run") == [{"consumer": "tally", "events": 20}]
    with working(world):
        assert printed("rebuild", "tally") == [
            {"consumer": "tally", "generation": 2, "applied": 20}
        ]
    (operation,) = printed("operations", "list")
    assert operation == {
        "id": 1,
        "consumer": "tally",
        "verb": "rebuild",
        "state": "done",
        "done": 20,
        "total": 20,
        "answer": {"generation": 2, "applied": 20},
    }


def test_dead_letters_are_grouped_by_consumer_and_error(world: World) -> None:
    groups = printed("dead-letters", "list")
    assert [(one["consumer"], one["events"], one["reason"]) for one in groups] == [
        ("tally", 1, "LookupError: no such shoe"),
        ("tally", 1, "ValueError: too late"),
    ]
    assert printed("dead-letters", "list", "--consumer", "tally") == groups
    assert "LookupError: no such shoe" in run("dead-letters", "list").stdout


def test_dead_letters_are_shown_one_by_one_with_their_traceback(world: World) -> None:
    letters = printed("dead-letters", "show", "tally")
    assert {one["event_id"] for one in letters} == {
        workout_event_id("ada", "w-3"),
        workout_event_id("bob", "w-7"),
    }
    assert all("in fails" in one["traceback"] for one in letters)
    (one,) = printed("dead-letters", "show", "tally", "--reason", "ValueError")
    assert (one["reason"], one["attempts"], one["strikes"]) == ("ValueError: too late", 1, 0)
    assert len(printed("dead-letters", "show", "tally", "--limit", "1")) == 1
    text = run("dead-letters", "show", "tally").stdout
    assert 'raise LookupError("no such shoe")' in text


@pytest.mark.parametrize(("verb", "state"), [("redrive", "applied"), ("discard", "discarded")])
def test_dead_letters_are_changed_when_it_was_shown_and_said_yes(
    world: World, verb: str, state: str
) -> None:
    with working(world):
        refused = run("dead-letters", verb, "tally", answers="n\n", code=1)
        assert f"tally: {verb} would change 2:" in refused.stdout
        assert "1 x LookupError: no such shoe" in refused.stdout
        assert "Nothing was changed." in refused.stdout
        run("dead-letters", verb, "tally", code=1)  # nobody there to ask
        assert printed("operations", "list") == []
        assert len(printed("dead-letters", "list")) == 2

        ids = workout_event_id("ada", "w-3"), workout_event_id("ada", "w-0")
        by_id = run("dead-letters", verb, "tally", "--id", ids[0], "--id", ids[1], answers="y\n")
        assert "1 changed." in by_id.stdout
        assert [one["reason"] for one in printed("dead-letters", "list")] == [
            "ValueError: too late"
        ]
        none = run("dead-letters", verb, "tally", "--reason", "LookupError")
        assert f"tally: {verb} would change 0:" in none.stdout
        assert "1 changed." in run("dead-letters", verb, "tally", "--yes").stdout
        until(lambda: not printed("consumers", "list")[0]["retrying"], what="they are folded")
    assert printed("dead-letters", "list") == []
    assert "There is no dead letter." in run("dead-letters", "list").stdout
    counts = printed("consumers", "list")[0]
    assert counts[state] == (20 if state == "applied" else 2)


def test_an_operation_can_be_cancelled_and_is_then_told_to_who_waits(world: World) -> None:
    request = world.control.ask("tally", "rebuild", {})
    assert run("operations", "cancel", str(request.id)).stdout == "Operation 1 is cancelled.\n"
    assert world.control.get(request.id).state is RequestState.CANCELLED
    listed = run("operations", "list").stdout
    assert re.search(r"1 +tally +rebuild +cancelled", listed)

    def cancel_it() -> None:
        until(lambda: world.control.listed()[0].id == 2, what="it is asked for")
        world.control.cancel(2)

    with FileLock(world.folder / "consumers" / "tally.db"):  # a worker that never looks
        thread = Thread(target=cancel_it)
        thread.start()
        told = run("rebuild", "tally", code=1)
        thread.join()
    assert told.stderr == "paceline: Operation 2 was cancelled.\n"


def test_an_audit_of_what_is_well_says_so(world: World) -> None:
    result = run("audit")
    assert "audited=tally  logged=20  applied=18  retrying=0  dead=2" in result.stdout
    assert result.stdout.endswith("Every event has its fate.\n")
    (found,) = printed("audit")
    assert found["faults"] == []
    assert found["audited"][0]["logged"] == 20


def test_an_audit_that_does_not_hold_tells_the_ids_and_exits_with_1(world: World) -> None:
    number = "position % (1 << 40)"
    db = world.store._db
    db.execute(f"DELETE FROM fates_1 WHERE {number} = 6")
    db.execute(f"UPDATE fates_1 SET position = position + 100 WHERE {number} = 9")
    (relay,) = world.log.settled()
    told = run("audit", code=1)
    w5, w8 = workout_event_id("cyd", "w-5"), workout_event_id("cyd", "w-8")
    assert told.stderr.splitlines() == [
        f"WRONG: tally has no fate for {w5}",
        f"WRONG: tally has no fate for {w8}",
        f"WRONG: tally has a fate for a position not logged, {relay}/109",
    ]
    assert told.stdout.endswith("It does not hold.\n")
    (found,) = printed("audit", code=1)
    assert [fault["id"] for fault in found["faults"]] == [w5, w8, f"{relay}/109"]


def test_events_are_listed_by_what_is_asked_for(world: World) -> None:
    listed = printed("events", "list")
    assert [one["number"] for one in listed] == list(range(1, 21))
    assert listed[0]["event_id"] == workout_event_id("ada", "w-0")
    assert listed[0]["routing_key"] == "workout.completed.running"
    assert len(printed("events", "list", "--user", "bob")) == 7
    assert len(printed("events", "list", "--limit", "3")) == 3
    assert printed("events", "list", "--type", "workout.deleted") == []
    assert printed("events", "list", "--from", "2026-11-24T09:00:01Z") == []
    assert "No such event is logged." in run("events", "list", "--user", "nobody").stdout


def test_one_event_is_shown_whole(world: World) -> None:
    shown = json.loads(run("events", "show", workout_event_id("bob", "w-1")).stdout)
    assert (shown["specversion"], shown["subject"]) == ("1.0", "bob")
    assert shown["data"]["workout_id"] == "w-1"


def test_the_settings_in_force_are_shown_with_their_origin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_BATCH", "7")
    found = {one["name"]: one for one in printed("config")}
    assert (found["PACELINE_BATCH"]["value"], found["PACELINE_BATCH"]["origin"]) == (
        "7",
        "environment",
    )
    assert found["PACELINE_PORT"]["origin"] == "default"
    assert "PACELINE_BATCH=7  (environment" in run("config").stdout


def test_the_doctor_finds_a_plug_in_that_could_not_be_loaded(world: World) -> None:
    assert all(one["ok"] for one in printed("doctor"))
    broken = world.folder / "plugins" / "broken.py"
    broken.write_text(PLUGIN.replace("tally", "broken").replace("def fold", "def unfold"))
    found = {one["what"]: one for one in printed("doctor", code=1)}
    assert not found["consumer broken"]["ok"]
    assert str(broken) in found["consumer broken"]["detail"]
    assert found["consumer tally"]["ok"]
    told = run("doctor", code=1).stdout
    assert f"BAD  consumer broken: {broken}: fold() is missing" in told


# Errors.

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
    assert result.stderr.splitlines() == [
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


# Real processes.


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = Place(tmp_path / "place", port=probe.getsockname()[1])
    place.plug_in()
    yield place
    place.close()


def fill(place: Place, count: int) -> None:
    """Log events, and have a worker apply them."""
    append(place.log, facts(count))
    worker = place.start("consume", "tally")
    until(lambda: len(place.fates()) == count, what="they are applied")
    place.stop(worker)


def one_line(done: "subprocess.CompletedProcess[str]", *, code: int) -> str:
    assert done.returncode == code, done
    (line,) = done.stderr.splitlines()
    return line


def test_where_no_worker_runs_a_command_starts_one_for_itself_and_ends_it(place: Place) -> None:
    fill(place, 20)
    done = place.command("rebuild", "tally", "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout) == [{"consumer": "tally", "generation": 2, "applied": 20}]
    FileLock(place.folder / "consumers" / "tally.db").release()
    store = place.store()
    assert store is not None
    assert store.mark("running") is None
    assert place.documents() == tallied(facts(20))


def test_ctrl_c_leaves_a_rebuild_open_and_the_same_command_goes_on_with_it(place: Place) -> None:
    fill(place, 300)
    # Under the same version: a rebuild that nothing but the request wants.
    place.plug_in(misdeed="time.sleep(0.005)")
    place.environment["PACELINE_BATCH"] = "20"
    waiting = place.start("rebuild", "tally")

    def begun() -> int:
        return sum(one.applied for one in place.generations() if one.phase == "building")

    until(lambda: begun() >= 40, what="a part of it is rebuilt")
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 1
    *_, line = place.journal().splitlines()
    assert line.startswith("paceline: Not waited for. Operation 1 stays open")
    assert "Traceback" not in place.journal()
    assert 40 <= begun() < 300

    done = place.command("rebuild", "tally", "--json")
    assert json.loads(done.stdout) == [{"consumer": "tally", "generation": 2, "applied": 300}]
    listed = json.loads(place.command("operations", "list", "--json").stdout)
    assert [(one["id"], one["state"]) for one in listed] == [(1, "done")]
    assert place.documents() == tallied(facts(300))


def test_a_worker_that_can_not_start_is_not_waited_for(place: Place) -> None:
    fill(place, 3)
    (place.plugins / "tally.py").write_text("class Tally(:")
    done = place.command("rebuild", "tally")
    assert done.returncode == 1
    assert str(place.plugins / "tally.py") in done.stderr
    assert done.stderr.splitlines()[-1].startswith("paceline: ")
    assert "Traceback" not in done.stderr


def test_events_are_told_as_they_are_logged_until_ctrl_c(place: Place) -> None:
    append(place.log, facts(3))
    tail = place.start("events", "tail", "--json")

    def told() -> list[str]:
        lines = [line for line in place.journal().splitlines() if line.startswith("{")]
        return [json.loads(line)["data"]["workout_id"] for line in lines]

    number = 3

    def another() -> bool:
        nonlocal number
        append(place.log, facts(1, first=number))
        number += 1
        return len(told()) >= 2

    until(another, what="they are told")
    tail.send_signal(signal.SIGINT)
    assert tail.wait(30) == 0
    assert told()[0] != "w-0"  # only what comes in from now on
    assert "Traceback" not in place.journal()


@pytest.mark.parametrize("name", ["PACELINE_PORT", "PACELINE_QUERY_PORT"])
def test_a_port_that_is_taken_is_one_line_with_the_setting_that_moves_it(
    place: Place, name: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place.environment[name] = str(port)
        line = one_line(place.command("run"), code=1)
    assert line.startswith(f"paceline: Port {port} of 127.0.0.1 cannot be used")
    assert f"Set {name} to another one" in line


def test_an_import_that_nobody_takes_is_one_line_and_exits_with_3(place: Place) -> None:
    file = place.folder / "run.json"
    file.write_text(
        json.dumps(
            {
                "workout_id": "w-1",
                "user_id": "ada",
                "sport": "running",
                "started_at": "2026-11-01T07:30:00+01:00",
                "duration_s": 1800,
            }
        )
    )
    line = one_line(place.command("import", str(file)), code=3)
    assert line.startswith("paceline: ")
    assert place.environment["PACELINE_PORT"] in line
