"""Which events made a document, and whether they still make it."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.explaining import explain
from consumers.runtime.fates import Ladder
from consumers.runtime.registry import load, single
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.envelope import workout_event_id
from events.errors import PacelineError
from events.log import Logged, LogReader, Selection
from tests.integration.shell import PLUGIN, installed, printed, run
from tests.integration.world import Tally, World, append, facts, tallied, without

COUNTS = PLUGIN.replace(
    "pass",
    """
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1
            document["ms"] = document.get("ms", 0) + event.data.duration_ms
""",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Of 20 events 18 are applied; w-3 of ada and w-7 of bob are dead."""
    for world in installed(tmp_path, monkeypatch):
        plug_in(world, COUNTS)
        yield world


def plug_in(world: World, source: str) -> None:
    (world.folder / "plugins" / "tally.py").write_text(source)


def ids(user: str, *numbers: int) -> list[str]:
    return [workout_event_id(user, f"w-{number}") for number in numbers]


@pytest.mark.parametrize("narrowed", [(), ("--user", "ada")])
def test_the_events_behind_a_document_are_listed_and_make_it_again(
    world: World, narrowed: tuple[str, ...]
) -> None:
    told = printed("explain", "tally", "ada", *narrowed)
    assert [one["event_id"] for one in told["events"]] == ids("ada", 0, 6, 9, 12, 15, 18)
    assert [one["number"] for one in told["events"]] == [1, 7, 10, 13, 16, 19]
    ada = tallied(without(facts(20), "w-3"))["ada"]
    assert (told["live"], told["document"], told["same"], told["fields"]) == (ada, ada, True, {})
    assert told["others"] == {"dead": 1}
    assert told["failures"] == []


def test_people_see_a_table_of_events_and_a_sentence(world: World) -> None:
    told = run("explain", "tally", "ada", "--limit", "4").stdout.splitlines()
    assert told[0].split()[:2] == ["number", "event"]
    assert [line.split()[0] for line in told[1:5]] == ["1", "7", "10", "13"]
    assert told[5] == "… and 2 more; --json shows all of them."
    assert told[6] == "1 more name it and are not in it: dead."
    assert told[-1].startswith(
        "tally: the live document of ada is what these events make (6 in all)."
    )


def test_a_document_that_they_do_not_make_any_more_is_told_with_its_fields(world: World) -> None:
    plug_in(world, COUNTS + "            document['new'] = [1]\n")
    told = printed("explain", "tally", "cyd")
    assert not told["same"]
    assert told["fields"] == {"new": {"after": [1]}}
    text = run("explain", "tally", "cyd").stdout
    assert "new: -> [1]" in text
    assert "the live document of cyd is not what these events make (6 in all)." in text
    assert "The code was changed since the documents were begun" in text


def test_a_document_whose_content_was_changed_by_a_hand_is_found_out(world: World) -> None:
    world.store._db.execute("UPDATE documents_1 SET body = json_set(body, '$.ms', 7)")
    told = printed("explain", "tally", "bob")
    made = tallied(without(facts(20), "w-7"))["bob"]["ms"]
    assert told["fields"] == {"ms": {"before": 7, "after": made}}


def test_a_key_that_nobody_names_is_one_line(world: World) -> None:
    told = run("explain", "tally", "zoe", code=1)
    assert told.stderr == "paceline: tally has no document 'zoe', and no event names it.\n"
    other = run("explain", "tally", "ada", "--user", "bob")
    assert "No event made it." in other.stdout
    assert "is not what these events make (0 in all)" in other.stdout


def test_an_event_that_waits_is_told_as_pending(world: World) -> None:
    append(world.log, facts(1, first=21))
    assert printed("explain", "tally", "ada")["others"] == {"dead": 1, "pending": 1}


def test_code_that_cannot_be_loaded_is_told_in_a_sentence(world: World) -> None:
    plug_in(world, "class Tally(:")
    told = run("explain", "tally", "ada", code=1).stderr
    assert told.startswith("paceline: tally cannot be explained without its code: ")
    assert str(world.folder / "plugins" / "tally.py") in told
    assert "There is no consumer 'x'" in run("explain", "x", "ada", code=1).stderr


def test_other_code_than_that_of_the_documents_says_so(world: World) -> None:
    plug_in(world, COUNTS.replace("version = 1", "version = 2"))
    assert printed("explain", "tally", "ada")["remarks"] == [
        "The code here is version 2, and the documents are of version 1."
    ]


def test_code_that_cannot_name_the_documents_of_an_event_is_told_with_the_event(
    world: World,
) -> None:
    fails = 'assert event.data.workout_id != "w-6", "odd"\n        return [event.user_id]'
    plug_in(world, COUNTS.replace("return [event.user_id]", fails))
    told = printed("explain", "tally", "ada")
    assert told["failures"] == [{"event_id": ids("ada", 6)[0], "reason": "AssertionError: odd"}]
    assert not told["same"]


class Comings:
    """A log into which events come, and are applied, whenever somebody has looked at it."""

    def __init__(self, world: World, *, most: int) -> None:
        self._world, self._coming = world, iter(range(20, 20 + most))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.log, name)

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        rows = self._world.log.scan(selection, limit=limit)
        self.come()
        return rows

    def come(self) -> None:
        if (number := next(self._coming, None)) is not None:
            self._world.post(facts(1, first=number))
            deliveries = self._world.deliveries()[-1:]
            self._world.worker().apply(deliveries, through=self._world.log.settled())


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 5, 6])
def test_what_comes_in_meanwhile_is_of_the_document_or_is_not_listed(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("consumers.runtime.what_if._AT_ONCE", 7)
    world.consumer, world.ladder = Tally(), Ladder(())
    log: LogReader = Comings(world, most=most)
    loaded = load(single(world.folder / "plugins" / "tally.py"))
    with reading(world) as store:
        for user in ("ada", "bob", "cyd"):
            found = explain(loaded, user, log, store, world.live)
            assert not found.fields
            assert found.live == found.document


def reading(world: World) -> Any:
    return closing(SqliteStoreReader.open(world.folder / "consumers" / "tally.db"))


def test_a_consumer_that_is_rebuilt_meanwhile_is_not_explained_with_two_states(
    world: World,
) -> None:
    loaded = load(single(world.folder / "plugins" / "tally.py"))
    stale = replace(world.live, number=99)
    with pytest.raises(PacelineError, match="tally was rebuilt while it was explained; ask again"):
        explain(loaded, "ada", world.log, world.store, stale)


def test_json_is_one_object(world: World) -> None:
    assert set(json.loads(run("explain", "tally", "ada", "--json").stdout)) == {
        *("consumer", "key", "events", "others", "live", "document", "same", "fields"),
        *("failures", "remarks"),
    }
