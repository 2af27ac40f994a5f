"""What code that nobody installed would make of history: shown, compared, and nothing written."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consumers.runtime.registry import Unfit
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.what_if import Trial, load_file, pages
from consumers.runtime.worker import Limits, Worker
from events.bus import Delivery
from events.envelope import workout_event_id
from events.log import Selection
from events.log.mongo import MongoEventLog
from events.mongo import Client, connect, database_name
from tests.integration.doubles import StillGuard
from tests.integration.place import ROOT, Place
from tests.integration.shell import installed, run
from tests.integration.world import (
    ACCEPTED_AT,
    Tally,
    World,
    append,
    facts,
    tallied,
    until,
    without,
)
from tests.servers.mongod import Mongod

SOURCE = '''
import os, sys, time

class Helper:
    """Not a consumer."""

class Other:
    name = "another-name"
    bindings = ("workout.completed.#",)
    version = 3

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1
            document["ms"] = document.get("ms", 0) + event.data.duration_ms
        MISDEED
'''


def written(folder: Path, misdeed: str = "pass", name: str = "Some File.py") -> Path:
    """A consumer in a file that is called as it likes."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(SOURCE.replace("MISDEED", misdeed))
    return file


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "data").mkdir()
    yield from installed(tmp_path / "data", monkeypatch)


def lines(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """What a command prints, an object a line; the last one is the summary."""
    result = run("what-if", *map(str, arguments), "--json", code=code)
    return [json.loads(line) for line in result.stdout.splitlines()]


def documents_of(told: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: one["document"] for one in told if "document" in one}


def test_the_documents_are_those_that_a_worker_would_make(world: World, tmp_path: Path) -> None:
    told = lines(written(tmp_path))
    assert documents_of(told) == tallied(facts(20))
    assert told[-1] == {
        "summary": {
            "consumer": "another-name",
            "version": 3,
            "folded": 20,
            "failed": 0,
            "documents": 3,
        }
    }


def test_a_part_of_history_is_folded_alone(world: World, tmp_path: Path) -> None:
    file = written(tmp_path)
    ada = tallied([fact for fact in facts(20) if fact.user_id == "ada"])
    assert documents_of(lines(file, "--user", "ada")) == ada
    at = ACCEPTED_AT.isoformat()
    assert documents_of(lines(file, "--from", at)) == tallied(facts(20))
    assert documents_of(lines(file, "--to", at)) == {}
    assert documents_of(lines(file, "--type", "workout.deleted")) == {}


def test_people_see_a_table_and_how_much_more_there_is(world: World, tmp_path: Path) -> None:
    told = run("what-if", str(written(tmp_path)), "--limit", "2").stdout.splitlines()
    assert told[0].split() == ["key", "document"]
    key, document = told[1].split(maxsplit=1)
    assert (key, json.loads(document)) == ("ada", tallied(facts(20))["ada"])
    assert told[3:] == [
        "… and 1 more; --json shows all of them.",
        "another-name, version 3: 20 events folded, 0 failed, 3 documents. Nothing was changed.",
    ]


def test_what_fails_is_told_by_its_id_and_the_others_are_folded(
    world: World, tmp_path: Path
) -> None:
    file = written(tmp_path, 'assert event.data.workout_id not in ("w-3", "w-4"), "not this one"')
    told = lines(file)
    assert documents_of(told) == tallied(without(facts(20), "w-3", "w-4"))
    ids = [workout_event_id("ada", "w-3"), workout_event_id("bob", "w-4")]
    reason = "AssertionError: not this one"
    assert [one for one in told if "reason" in one] == [
        {"event_id": event_id, "reason": reason} for event_id in ids
    ]
    assert told[-1]["summary"]["failed"] == 2
    text = run("what-if", str(file)).stdout
    assert f"{ids[0]}  {reason}" in text


def test_a_document_that_no_store_would_take_fails_its_event_alone(
    world: World, tmp_path: Path
) -> None:
    big = 'event.data.workout_id == "w-5" and documents["cyd"].update(text="x" * (1 << 20))'
    told = lines(written(tmp_path, big))
    assert documents_of(told) == tallied(without(facts(20), "w-5"))
    (failure,) = [one for one in told if "reason" in one]
    assert failure["event_id"] == workout_event_id("cyd", "w-5")
    assert failure["reason"].startswith("TooLarge: Document cyd has 1048")


def test_code_that_leaves_the_process_by_exit_is_an_event_that_failed(
    world: World, tmp_path: Path
) -> None:
    told = lines(written(tmp_path, 'event.data.workout_id == "w-5" and sys.exit(9)'))
    assert documents_of(told) == tallied(without(facts(20), "w-5"))


def test_what_follows_from_an_event_is_asked_for_too_and_a_failure_there_is_one(
    world: World, tmp_path: Path
) -> None:
    file = written(tmp_path)
    fails = """
    def react(self, event, before, after):
        assert after[event.user_id]["count"] == before[event.user_id].get("count", 0) + 1
        assert event.data.workout_id != "w-5", "no reaction"
        return ()
"""
    file.write_text(file.read_text() + fails)
    told = lines(file)
    assert documents_of(told) == tallied(without(facts(20), "w-5"))
    assert [one["reason"] for one in told if "reason" in one] == ["AssertionError: no reaction"]


def test_a_consumer_gets_nothing_from_before_it_wants_anything(
    world: World, tmp_path: Path
) -> None:
    later = (ACCEPTED_AT + timedelta(seconds=1)).isoformat()
    for since, count in ((later, 0), (ACCEPTED_AT.isoformat(), 20), ("now", 20)):
        file = written(tmp_path)
        file.write_text(file.read_text().replace("version = 3", f"version = 3; since = {since!r}"))
        assert lines(file)[-1]["summary"]["folded"] == count


def test_what_the_code_prints_does_not_stand_among_the_answer(world: World, tmp_path: Path) -> None:
    told = lines(written(tmp_path, 'print("folding")'))
    assert documents_of(told) == tallied(facts(20))


def test_the_documents_are_written_to_a_file_or_into_a_folder(world: World, tmp_path: Path) -> None:
    file, out = written(tmp_path), tmp_path / "out.ndjson"
    assert lines(file, "--out", out)[0].keys() == {"summary"}
    into = tmp_path / "into"
    into.mkdir()
    text = run("what-if", str(file), "--out", str(into)).stdout
    assert text.startswith("another-name, version 3: 20 events folded")
    assert (into / "another-name.ndjson").read_bytes() == out.read_bytes()
    assert documents_of([json.loads(line) for line in out.read_text().splitlines()]) == tallied(
        facts(20)
    )
    assert sorted(into.iterdir()) == [into / "another-name.ndjson"]


def test_the_difference_to_a_live_consumer_is_told_whole(world: World, tmp_path: Path) -> None:
    """Live are 18 of 20 events: w-3 of ada and w-7 of bob are dead there, and are folded here."""
    told = lines(written(tmp_path), "--against", "tally")
    live, made = tallied(without(facts(20), "w-3", "w-7")), tallied(facts(20))
    assert told[:-1] == [
        {
            "key": user,
            "what": "changed",
            "fields": {
                name: {"before": live[user][name], "after": made[user][name]}
                for name in ("count", "ms")
            },
        }
        for user in ("ada", "bob")
    ]
    summary = told[-1]["summary"]
    assert {name: summary[name] for name in ("added", "gone", "changed", "before", "after")} == {
        "added": 0,
        "gone": 0,
        "changed": 2,
        "before": 3,
        "after": 3,
    }
    assert summary["remarks"] == []
    text = run("what-if", str(written(tmp_path)), "--against", "tally").stdout
    assert "count: 6 -> 7, ms: " in text
    assert text.endswith("Against tally: 2 of 3 documents differ: 0 added, 0 gone, 2 changed.\n")


def test_a_part_against_the_whole_is_said_in_words_and_so_is_what_lags(
    world: World, tmp_path: Path
) -> None:
    append(world.log, facts(2, first=20))
    told = lines(written(tmp_path), "--against", "tally", "--user", "ada")
    assert [(one["key"], one["what"]) for one in told[:-1]] == [
        ("ada", "changed"),
        ("bob", "gone"),
        ("cyd", "gone"),
    ]
    assert told[-1]["summary"]["remarks"] == [
        "Only a part of the history was folded, and the documents of tally are of all of it: what "
        "the other events made counts as gone or changed.",
        "tally has not looked at 2 events yet, which were folded here.",
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (SOURCE.replace("version = 3", "version = '3'"), "version is '3'; write version = 1"),
        (SOURCE.replace("def keys(self, event)", "def keys(self)"), "keys() cannot be called"),
        ("x = 1", "has 0 classes with a name and bindings; write one."),
        (SOURCE.replace("def fold", "def handle"), "has no fold: what-if is for projections"),
        ("import nothing_like_this", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        (SOURCE.replace('"another-name"', '"No Name"'), "must be of a-z, 0-9 and '-'"),
    ],
)
def test_a_file_that_is_no_consumer_is_one_line_that_says_why(
    world: World, tmp_path: Path, source: str, says: str
) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(source)
    result = run("what-if", str(file), code=1)
    assert result.stderr.startswith(f"paceline: {file}")
    assert says in result.stderr
    assert result.stdout == ""


def test_wrong_usage_is_said(world: World, tmp_path: Path) -> None:
    file = str(written(tmp_path))
    assert "There is no file" in run("what-if", "nowhere.py", code=1).stderr
    assert "There is no consumer 'x'" in run("what-if", file, "--against", "x", code=1).stderr
    assert "--out is 'x.py'" in run("what-if", file, "--out", "x.py", code=2).stderr
    assert "--from is 'now'" in run("what-if", file, "--from", "now", code=2).stderr


def test_an_event_of_a_version_that_nobody_knows_here_is_told_as_failed(
    world: World, tmp_path: Path
) -> None:
    (row,) = world.log.scan(Selection(ids=[workout_event_id("ada", "w-0")]), limit=1)
    newer = row._replace(body=row.body.replace(b'"dataversion":1', b'"dataversion":99'))
    assert newer.body != row.body
    trial = Trial(load_file(written(tmp_path)))
    trial.take([newer])
    assert [(one.event_id, "Upgrade" in one.reason) for one in trial.failures] == [
        (row.event_id, True)
    ]
    assert trial.keys == []


def test_what_is_logged_while_it_is_folded_is_not_of_it(world: World) -> None:
    seen = []
    for page in pages(world.log, Selection()):
        seen += [row.event_id for row in page]
        append(world.log, facts(1, first=100 + len(seen)))
    assert len(seen) == 20


def test_a_class_in_the_file_that_is_no_consumer_is_no_matter(tmp_path: Path) -> None:
    assert load_file(written(tmp_path)).name == "another-name"
    twice = SOURCE + SOURCE.replace("class Other", "class Again")
    (tmp_path / "twice.py").write_text(twice)
    with pytest.raises(Unfit, match="has 2 classes with a name and bindings"):
        load_file(tmp_path / "twice.py")


# Nothing is changed, by a byte.


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "place")
    place.plug_in()
    append(place.log, facts(30))
    worker = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 30, what="they are applied")
    place.stop(worker)
    yield place
    place.close()


def content(folder: Path) -> dict[str, bytes]:
    """Every byte that holds anything, by file.

    A `-shm` file is an index of the `-wal` beside it, in which each reader notes where it reads;
    it holds no content, and neither does an empty `-wal`, which a reader makes where it is missing.
    """
    return {
        str(file.relative_to(folder)): data
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith("-shm")
        if (data := file.read_bytes()) or not file.name.endswith("-wal")
    }


COMMANDS = [
    ("what-if", "FILE", "--json"),
    ("what-if", "FILE", "--against", "tally", "--user", "ada"),
    ("what-if", "FILE", "--out", "OUT"),
    ("explain", "tally", "ada", "--json"),
]


@pytest.mark.parametrize("worker_runs", [False, True])
def test_no_file_of_the_data_folder_is_changed_by_a_byte(
    place: Place, tmp_path: Path, *, worker_runs: bool
) -> None:
    names = {"FILE": str(written(tmp_path / "own")), "OUT": str(tmp_path / "out.ndjson")}
    if worker_runs:
        place.start("consume", "tally")
        until(lambda: (store := place.store()) and store.mark("running"), what="it runs")
        # What it writes until it has nothing to do is content of the folder too.
        append(place.log, facts(1, first=30))
        until(lambda: len(place.fates()) == 31, what="it has begun")
    own = content(tmp_path / "own")
    before = content(place.folder)
    assert {"log.db", "log.db-wal", "consumers/tally.db", "plugins/tally.py"} <= before.keys()
    assert before["log.db-wal"]
    for arguments in COMMANDS:
        done = place.command(*(names.get(word, word) for word in arguments))
        assert done.returncode == 0, done
    assert content(place.folder) == before
    assert content(tmp_path / "own") == own  # and no compiled code beside the file


def test_no_collection_is_changed_by_a_byte(
    mongod: Mongod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mongod.url.replace("/?", f"/t{uuid4().hex[:12]}?")
    place = Place(tmp_path / "place", store_url=url, broker_url="amqp://127.0.0.1:1/")
    place.plug_in()
    with connect(url) as client:
        live_on_mongodb(client)
        before = hashes(client)
        assert len(before) >= 2
        names = {"FILE": str(written(tmp_path / "own")), "OUT": str(tmp_path / "out.ndjson")}
        for arguments in COMMANDS:
            done = place.command(*(names.get(word, word) for word in arguments))
            assert done.returncode == 0, done
        assert hashes(client) == before
        explained = json.loads(place.command("explain", "tally", "ada", "--json").stdout)
        assert explained["live"] == tallied(facts(30))["ada"]
        assert explained["same"]
        for name in (database_name(client), database_name(client, "tally")):
            client.drop_database(name)
    place.close()


def live_on_mongodb(client: Client) -> None:
    """Log 30 events, and apply them."""
    log: Any = MongoEventLog(client, database_name(client))
    append(log, facts(30))
    store = MongoStore(client, database_name(client, "tally"), "one")
    live = store.begin(version=1, code="c", bindings=Tally.bindings, indexes={})
    worker = Worker(Tally(), store, live.number, guard=StillGuard(), limits=Limits())
    rows = log.scan(Selection(), limit=99)
    deliveries = [Delivery(row.position, row.routing_key, row.body, False) for row in rows]
    worker.apply(deliveries, through=log.settled())
    store.close()


def hashes(client: Client) -> dict[str, str]:
    """The server's own hash of each database but its own: those change with its clock."""
    names = set(client.list_database_names()) - {"admin", "config", "local"}
    return {name: client[name].command("dbHash")["md5"] for name in names}


# Ctrl-C.


@pytest.mark.parametrize("where", ["fold", "keys"])
def test_a_hang_is_ended_with_ctrl_c_and_leaves_nothing_behind(
    place: Place, tmp_path: Path, where: str
) -> None:
    mark = tmp_path / "hangs"
    hang = f"open({str(mark)!r}, 'w').close(); time.sleep(600)"
    file = written(tmp_path / "own", hang)
    if where == "keys":
        file.write_text(
            file.read_text().replace("        return [", f"        {hang}\n        return [")
        )
    out = tmp_path / "out.ndjson"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "what-if", str(file), "--out", str(out)],
        cwd=ROOT,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(mark.exists, what="it hangs")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert (stdout, "Traceback" in stderr) == ("", False)
    assert not list(tmp_path.glob("out*"))
