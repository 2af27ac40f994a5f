"""What a plug-in author is given to begin with, and what `consumers check` says of a file."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from consumers import kit_commands
from consumers.kit_commands import check, new
from consumers.newcomer import class_name, plugin
from events.commands import PacelineGroup
from events.envelope import seal
from events.log.sqlite import SqliteEventLog
from events.settings import Settings, read_settings
from tests.factories import workout

ROOT = Path(__file__).resolve().parents[2]
KIT = PacelineGroup("paceline", commands=[new, check])


class Installed(NamedTuple):
    """An installation with a log."""

    settings: Settings
    logged: SqliteEventLog

    def log(self) -> SqliteEventLog:
        return self.logged


@pytest.fixture
def installed(tmp_path: Path) -> Any:
    settings = replace(read_settings(), plugins=tmp_path / "plugins")
    settings.plugins.mkdir()
    log = SqliteEventLog(tmp_path / "log.db")
    yield Installed(settings, log)
    log.close()


def run(installed: Installed, *arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(
        KIT, [str(one) for one in arguments], obj=installed, prog_name="paceline"
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def passes(test: Path) -> None:
    """The test runs as its author would run it: in its folder, with what pytest finds by itself."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", test.name]
    done = subprocess.run(
        command, cwd=test.parent, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("name", ["recovery", "rest-days", "calendar"])
def test_what_is_written_passes_its_test_and_the_check_as_it_is(
    installed: Installed, tmp_path: Path, name: str
) -> None:
    told = run(installed, "new", name, "--into", tmp_path).stdout
    assert f"{name}.py" in told
    assert f"paceline consumers check {tmp_path}/{name}.py" in told
    assert (tmp_path / f"{name}.py").read_text().count("EDIT") == 3
    passes(tmp_path / f"test_{name}.py")
    assert run(installed, "check", tmp_path / f"{name}.py").stdout.splitlines()[-1] == (
        f"{name} keeps its contract over 212 events."
    )


def test_a_class_is_named_as_its_file_and_always_a_name() -> None:
    names = ("rest-days", "a-1-b", "5k", "none", "true", "x")
    classes = [class_name(name) for name in names]
    assert classes == ["RestDays", "A1B", "Consumer5k", "ConsumerNone", "ConsumerTrue", "X"]


def test_machines_are_told_the_files_and_the_next_commands(
    installed: Installed, tmp_path: Path
) -> None:
    told = json.loads(run(installed, "new", "recovery", "--into", tmp_path, "--json").stdout)
    assert told["files"] == [f"{tmp_path}/recovery.py", f"{tmp_path}/test_recovery.py"]
    assert [line.split()[1:3] for line in told["next"]] == [
        ["-m", "pytest"],
        ["consumers", "check"],
    ]


def test_where_there_is_no_pytest_it_is_said_how_to_get_it(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit_commands, "find_spec", lambda name: None)
    told = run(installed, "new", "recovery", "--into", tmp_path).stdout
    assert "The test needs pytest, which is not installed here" in told
    assert f"{sys.executable} -m pip install pytest" in told


@pytest.mark.parametrize("there", ["recovery.py", "test_recovery.py"])
def test_nothing_is_written_over(installed: Installed, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    told = run(installed, "new", "recovery", "--into", tmp_path, code=1).stderr
    assert told == (
        f"paceline: {tmp_path}/{there} is there already, and nothing was written; choose another "
        "name, or another folder with --into.\n"
    )
    assert (tmp_path / there).read_text() == "mine"
    assert len(list(tmp_path.glob("*recovery.py"))) == 1


@pytest.mark.parametrize("name", ["Recovery", "-x", "a_b", "", "é", "../x", "x" * 64])
def test_a_name_that_no_consumer_may_have_is_refused(
    installed: Installed, tmp_path: Path, name: str
) -> None:
    told = run(installed, "new", "--into", tmp_path, "--", name, code=2).stderr
    assert f"NAME is {name!r}; write 1 to 63 of a-z, 0-9 and '-'" in told
    assert not list(tmp_path.glob("*.py"))


def test_a_name_that_a_consumer_has_is_refused(installed: Installed, tmp_path: Path) -> None:
    told = run(installed, "new", "calories", "--into", tmp_path, code=1).stderr
    assert "There is a consumer 'calories' already: consumers.calories:Calories." in told


def test_nothing_is_written_into_the_plug_in_folder(installed: Installed) -> None:
    plugins = installed.settings.plugins
    told = run(installed, "new", "recovery", "--into", plugins, code=1).stderr
    assert f"{plugins} is the plug-in folder" in told
    assert not list(plugins.iterdir())


LAST = plugin("recovery").replace(
    'document["duration_ms"] = total', 'document["last"] = event.id or total'
)


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """A consumer that keeps what came last."""
    file = tmp_path / "recovery.py"
    file.write_text(LAST)
    return file


def test_what_fails_is_said_in_a_sentence_with_the_fewest_events(
    installed: Installed, last: Path
) -> None:
    done = run(installed, "check", last, code=1)
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0].split() for line in lines] == [
        *(["ok", name] for name in ("load", "shape", "fold", "purity")),
        *(["BAD", "order"], ["ok", "duplicates"], ["ok", "batches"], ["ok", "rebuild"]),
        *(["ok", "growth"], ["ok", "time"]),
    ]
    assert "when folded in the opposite order, and" in lines[4]
    assert done.stderr == f"{last} does not keep its contract: order.\n"


def test_machines_are_told_each_check_and_its_events(installed: Installed, last: Path) -> None:
    told = json.loads(run(installed, "check", last, "--json", code=1).stdout)
    assert (told["file"], told["events"], told["ok"]) == (str(last), 212, False)
    (wrong,) = [one for one in told["checks"] if not one["ok"]]
    assert wrong["check"] == "order"
    assert len(wrong["events"]) == 2
    assert all(event_id in wrong["detail"] for event_id in wrong["events"])


TOTAL = 'document["duration_ms"] = total'
SET = 'document["days"] = list({"mon", "tue", "wed", "thu"})'
BEST = "document['ms'] = self.best['ms'] = max(self.best.get('ms', 0), event.data.duration_ms)"
ZONE = "document['at'] = max(document.get('at', ''), str(event.time.astimezone().date()))"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (SET, SET.replace("list(", "sorted(")),
        (BEST, BEST.replace("self.best['ms'] = ", "").replace("self.best.", "document.")),
        (ZONE, ZONE.replace("astimezone().", "")),
    ],
    ids=["a set", "a class", "a time zone"],
)
def test_what_differs_from_process_to_process_is_nothing_to_keep(
    installed: Installed, tmp_path: Path, wrong: str, right: str
) -> None:
    file = tmp_path / "recovery.py"
    source = plugin("recovery").replace("version = 1", "version = 1\n    best = {}")
    file.write_text(source.replace(TOTAL, f"{wrong}; total"))
    told = run(installed, "check", file, code=1).stdout.splitlines()[-1]
    assert told.startswith("BAD  processes: recovery: document '")
    assert "or of what a class or a module keeps? Events: " in told
    file.write_text(source.replace(TOTAL, f"{right}; total"))
    assert "ok   processes: " in run(installed, "check", file).stdout


def test_a_clock_is_not_read_when_a_file_is_loaded(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "recovery.py"
    today = "from datetime import date\nfrom zoneinfo import ZoneInfo\n\n"
    file.write_text(f"{today}ZONE = ZoneInfo('Asia/Tokyo')\n{plugin('recovery')}")
    run(installed, "check", file)
    file.write_text(f"{today}TODAY = date.today()\n{plugin('recovery')}")
    told = run(installed, "check", file, code=1).stdout.splitlines()[-1]
    assert told == (
        "BAD  processes: recovery.py in a new process: it asks while it is loaded what each "
        "process is told otherwise: date.today() in recovery.py, line 4"
    )


def test_code_that_ends_a_new_process_alone_is_told_so(
    installed: Installed, tmp_path: Path
) -> None:
    file = tmp_path / "recovery.py"
    ends = "import os, sys\n\nif sys.argv[0].endswith('elsewhere.py'):\n    os._exit(3)\n"
    file.write_text(ends + plugin("recovery"))
    told = run(installed, "check", file, code=1).stdout.splitlines()[-1]
    assert told == "BAD  processes: recovery.py in a new process: exit code 3"


def test_a_file_that_cannot_be_loaded_is_told_its_line(
    installed: Installed, tmp_path: Path
) -> None:
    file = tmp_path / "recovery.py"
    file.write_text("import json\n\nraise LookupError('no such shoe')\n")
    done = run(installed, "check", file, code=1)
    assert done.stdout == (
        f"BAD  load: {file}, line 3, cannot be imported: LookupError: no such shoe\n"
    )
    assert run(installed, "check", tmp_path / "nothing.py", code=2).stderr.endswith(
        f"{tmp_path}/nothing.py is no file; give that of a consumer, such as recovery.py.\n"
    )


ONLY_RECORDED = plugin("recovery").replace(
    "total = ", 'assert event.data.workout_id != "odd", "an odd one"\n            total = '
)


def test_recorded_events_are_folded_too(installed: Installed, tmp_path: Path) -> None:
    file, recorded = tmp_path / "recovery.py", tmp_path / "recorded.ndjson"
    file.write_text(ONLY_RECORDED)
    odd = seal(workout(workout_id="odd"), accepted_at=workout().ended_at)
    other = seal(workout(workout_id="w"), accepted_at=workout().ended_at)
    recorded.write_bytes(b"".join(one.body + b"\n" for one in (other, odd, other)) + b"\n")
    run(installed, "check", file)
    told = run(installed, "check", file, "--events", recorded, code=1).stdout.splitlines()[-1]
    assert told.startswith(f"BAD  fold: {file}, line 18, in fold(): AssertionError: an odd one.")
    assert odd.id in told
    with recorded.open("ab") as more:
        more.write(b"{}\n")
    refused = run(installed, "check", file, "--events", recorded, code=1).stderr
    assert refused.startswith(f"paceline: {recorded}, line 5: These bytes are not an event: ")


def test_events_of_the_log_are_folded_too(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "recovery.py"
    file.write_text(ONLY_RECORDED)
    facts = [workout(workout_id=name) for name in ("odd", "a", "b")]
    installed.log().append([seal(one, accepted_at=one.ended_at) for one in facts], source="door")
    told = run(installed, "check", file, "--from-log", 2).stdout
    assert told.splitlines()[-1] == "recovery keeps its contract over 214 events."
    assert "an odd one" in run(installed, "check", file, "--from-log", 3, code=1).stdout


@pytest.mark.parametrize("command", ["new", "check"])
def test_each_command_explains_itself_with_an_example(installed: Installed, command: str) -> None:
    told = run(installed, command, "--help").output
    assert f"paceline consumers {command} recovery" in told
