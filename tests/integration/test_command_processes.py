"""The real command as a process: workers of its own, Ctrl-C, ports, and exit codes."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.lock import FileLock
from tests.integration.place import Place
from tests.integration.world import append, facts, tallied, until
from tests.servers.ports import free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "place", port=free_port())
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
