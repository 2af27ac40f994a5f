"""A history taken out of one installation and brought into another one, byte for byte."""

import json
import signal
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import exporting, loading
from events.envelope import Sealed, from_bytes, read_envelope, seal, workout_event_id
from events.errors import PacelineError, Undecodable
from events.exported_line import LONGEST_LINE, each_line, sealed
from events.exporting import export, whole_file
from events.log import EventLog, Selection
from events.log.sqlite_bookmarks import BookmarksWriter
from events.reactions import seal_reaction
from events.settings import Settings, read_settings
from events.sources import Bookmark, Stuck
from events.sqlite_spool import LoadedSources, Spool, remove_left
from events.ways import open_log
from events.workouts import Sport
from producer.outbox import Outbox
from tests.factories import workout, workouts
from tests.integration.place import Place
from tests.integration.shell import installed, run
from tests.integration.world import ACCEPTED_AT, World, facts, tallied, until
from tests.servers.databases import databases
from tests.servers.mongod import Mongod

LATER = ACCEPTED_AT + timedelta(days=3)
LINES = [seal(one, accepted_at=ACCEPTED_AT).body for one in facts(20)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


class Other:
    """Another installation: a data folder with a log, whose relay runs in a thread of the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PACELINE_DATA_DIR", str(folder))
        self.settings: Settings = read_settings()
        self.log: EventLog | None = None
        self.bookmarks: BookmarksWriter | None = None
        self.refuses: tuple[str, ...] = ()

    def opened(self) -> EventLog:
        """The log, made where there is none."""
        if self.log is None:
            self.log, bookmarks = open_log(self.settings)
            assert isinstance(bookmarks, BookmarksWriter)
            self.bookmarks = bookmarks
        return self.log

    @contextmanager
    def relayed(self) -> Iterator[None]:
        """Carry spools into the log while the block runs, four rows at a time."""
        self.opened()
        over, sources = Flag(), LoadedSources(self.settings)

        def relay() -> None:
            while not over.wait(0.002):
                for source in sources():
                    self._carry(source)

        thread = Thread(target=relay)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _carry(self, source: Any) -> None:
        assert self.log
        assert self.bookmarks
        mark = self.bookmarks.load(source.source_id)
        rows = source.rows(mark.row if mark else 0, limit=4)
        for row in rows:
            if row.event.id in self.refuses:
                stuck = Stuck(source.source_id, row.number, row.event.id, "too large", b"")
                self.bookmarks.set_aside(stuck)
            else:
                self.log.append([row.event], source=source.source_id)
        if rows:
            self.bookmarks.save(Bookmark(source.source_id, rows[-1].number, rows[-1].event.id))

    def bodies(self) -> list[bytes]:
        """What is logged."""
        return [row.body for row in self.opened().scan(Selection(), limit=1_000_000)]

    def close(self) -> None:
        """Let the files go."""
        if self.bookmarks:
            self.bookmarks.close()

    def spools(self) -> list[str]:
        """What lies in the folder of spools."""
        return sorted(path.name for path in (self.folder / "loads").glob("*"))


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Other]:
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    made = Other(tmp_path / "other", monkeypatch)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "history.ndjson", LINES)


def written(file: Path, lines: list[bytes]) -> Path:
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    return file


def loaded(file: Path, *, code: int = 0) -> dict[str, Any]:
    """What a load says with --json."""
    (row,) = json.loads(run("events", "load", str(file), "--json", code=code).stdout)
    return dict(row)


def counts(row: dict[str, Any]) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: value for name, value in row.items() if isinstance(value, int) and value}


# Export.


def test_what_is_exported_are_the_logged_bytes_a_line_each_in_the_order_of_the_log(
    world: World, tmp_path: Path
) -> None:
    result = run("events", "export")
    assert result.stdout_bytes == b"".join(line + b"\n" for line in LINES)
    assert result.stderr == "20 events exported.\n"
    out = tmp_path / "out.ndjson"
    assert run("events", "export", "--out", str(out)).stdout == ""
    assert out.read_bytes() == result.stdout_bytes


def test_what_is_exported_can_be_chosen(world: World) -> None:
    rides = [workout(workout_id=f"ride-{n}", sport=Sport.CYCLING) for n in range(3)]
    world.log.append([seal(ride, accepted_at=LATER) for ride in rides], source="door")
    known = [workout_event_id("ada", "w-0"), workout_event_id("bob", "w-1")]

    def exported(*arguments: str) -> int:
        return len(run("events", "export", *arguments).stdout_bytes.splitlines())

    assert exported("--user", "ada") == 7 + 3
    assert exported("--type", "workout.completed") == 23
    assert exported("--type", "workout.deleted") == 0
    assert exported("--from", LATER.isoformat()) == 3
    assert exported("--to", LATER.isoformat(), "--user", "bob") == 7
    assert exported("--id", known[0], "--id", known[1]) == 2


def test_an_export_ends_with_what_was_there_while_the_log_grows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_AT_ONCE", 4)
    out, posted = BytesIO(), 20

    def grow(done: int, total: int) -> None:
        nonlocal posted
        assert posted < 500
        world.post(facts(9, first=posted))
        posted += 9

    assert export(world.log, Selection(), out, report=grow) == 20
    assert out.getvalue().splitlines() == LINES


def test_an_export_that_is_stopped_leaves_the_file_as_it_was_and_no_part_of_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.ndjson"

    def half(log: object, selection: object, file: BytesIO, *, report: object) -> int:
        file.write(LINES[0])
        assert (tmp_path / "out.ndjson.part").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("events.export_commands.export", half)
    (line,) = run("events", "export", "--out", str(out), code=1).stderr.splitlines()
    assert line == f"paceline: Stopped; {out} was not made."
    assert list(tmp_path.glob("out*")) == []
    out.write_bytes(b"of before")
    run("events", "export", "--out", str(out), code=1)
    assert [path.name for path in tmp_path.glob("out*")] == ["out.ndjson"]
    assert out.read_bytes() == b"of before"


@pytest.mark.parametrize("name", ["nowhere/out", "", "plugins"])
def test_a_file_that_can_not_be_written_is_one_line(
    world: World, tmp_path: Path, name: str
) -> None:
    (line,) = run("events", "export", "--out", str(tmp_path / name), code=1).stderr.splitlines()
    assert line.startswith("paceline: ")
    assert str(tmp_path / name) in line
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_told_with_the_file_and_leaves_no_part(tmp_path: Path) -> None:
    out = tmp_path / "out"
    full = OSError(28, "No space left on device")
    with pytest.raises(PacelineError, match="cannot be written: No space"), whole_file(out):
        raise full
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_selected_is_one_line_or_wrong_usage(world: World) -> None:
    assert "'xyz' is no event's id" in run("events", "export", "--id", "xyz", code=1).stderr
    assert "--from is 'noon'" in run("events", "export", "--from", "noon", code=2).stderr


# Load.


def test_what_one_installation_exports_another_one_logs_with_the_same_bytes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("events", "export", "--out", str(tmp_path / "all.ndjson"))
    other = Other(tmp_path / "other", monkeypatch)
    with other.relayed():
        first = loaded(tmp_path / "all.ndjson")
        again = loaded(tmp_path / "all.ndjson")
    assert counts(first) == {"lines": 20, "new": 20}
    assert counts(again) == {"lines": 20, "duplicate": 20}
    assert other.bodies() == LINES
    assert run("events", "export").stdout_bytes.splitlines() == LINES
    assert other.spools() == []
    row = other.opened().get(workout_event_id("bob", "w-1"))
    assert row
    assert from_bytes(row.body).accepted_at == ACCEPTED_AT
    other.close()


def test_a_history_comes_from_stdin_too_and_blank_lines_and_ends_of_lines_do_not_matter(
    other: Other, tmp_path: Path
) -> None:
    text = b"\r\n".join([LINES[0], b"", b"  ", LINES[1]]).decode()
    with other.relayed():
        result = run("events", "load", "-", answers=text)
    heads, values = result.stdout.splitlines()
    assert dict(zip(heads.split(), values.split(), strict=True))["new"] == "2"
    assert other.bodies() == LINES[:2]


def test_a_load_into_an_installation_that_never_ran_waits_for_its_relay(
    other: Other, file: Path
) -> None:
    rows: list[dict[str, Any]] = []
    loads = Thread(target=lambda: rows.append(loaded(file)))
    assert not other.folder.exists()
    loads.start()
    until(other.spools, what="it is spooled")
    with other.relayed():
        loads.join()
    assert counts(rows[0]) == {"lines": 20, "new": 20}


def test_new_and_known_events_and_repeated_lines_are_counted_apart(
    other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_AT_ONCE", 3)
    known = [seal(one, accepted_at=LATER) for one in facts(5)]
    other.opened().append(known, source="door")
    file = written(tmp_path / "all.ndjson", [*LINES[:12], *LINES[2:4], *LINES[9:11]])
    with other.relayed():
        assert counts(loaded(file)) == {"lines": 16, "new": 7, "duplicate": 9}
    # The log's own bytes stay, also where a line tells the same under another acceptance time.
    assert other.bodies() == [*(one.body for one in known), *LINES[5:12]]


def test_another_fact_under_a_logged_id_is_a_conflict_that_is_listed_and_never_applied(
    other: Other, tmp_path: Path
) -> None:
    told = workout(workout_id="w-1", user_id="bob", duration_ms=1)
    other_w1 = seal(told, accepted_at=LATER).body
    later_w2 = seal(facts(3)[2], accepted_at=LATER).body  # the same fact: a duplicate
    file = written(tmp_path / "some.ndjson", [*LINES[:3], other_w1, later_w2])
    with other.relayed():
        row = loaded(file, code=1)
        assert counts(row) == {"lines": 5, "new": 3, "duplicate": 1, "conflict": 1}
        assert row["conflicts"] == [workout_event_id("bob", "w-1")]
        again = run("events", "load", str(file), code=1)
    assert f"{row['conflicts'][0]} is logged and tells something else." in again.stderr
    assert other.bodies() == LINES[:3]
    assert [one.body for one in other.opened().conflicts()] == [other_w1]


def badge(*, quiet: bool) -> Sealed:
    """What a consumer tells of the first workout, while it is news or as history."""
    told = {"type": "achievement.unlocked", "badge": "run-5km", "workout_id": "w-0"}
    cause = from_bytes(LINES[0])
    return seal_reaction(
        cause, told | {"day": "2026-11-24"}, consumer="achievements", key="k", quiet=quiet
    )


@pytest.mark.parametrize("first_quiet", [True, False], ids=["quiet first", "told first"])
def test_a_fact_that_a_consumer_has_told_here_or_there_is_the_same_one(
    other: Other, tmp_path: Path, *, first_quiet: bool
) -> None:
    here, there = badge(quiet=first_quiet), badge(quiet=not first_quiet)
    assert here.body != there.body
    other.opened().append([here], source="facts")
    file = written(tmp_path / "facts.ndjson", [there.body])
    with other.relayed():
        assert counts(loaded(file)) == {"lines": 1, "duplicate": 1}
    assert other.bodies() == [here.body]
    assert other.opened().conflicts() == []


def test_a_fact_that_came_with_a_history_stands_when_a_consumer_tells_it_too(
    other: Other, tmp_path: Path
) -> None:
    file = written(tmp_path / "facts.ndjson", [badge(quiet=False).body])
    with other.relayed():
        assert counts(loaded(file)) == {"lines": 1, "new": 1}
    other.opened().append([badge(quiet=True)], source="facts")
    assert other.bodies() == [badge(quiet=False).body]
    assert other.opened().conflicts() == []


def changed(line: bytes = LINES[0], /, **fields: Any) -> bytes:
    """A line with other fields in its envelope."""
    return json.dumps(json.loads(line) | fields).encode()


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "not json": (b"hello", "These bytes are not an event"),
    "cut off": (LINES[0][:-20], "These bytes are not an event"),
    "a list": (b"[" + LINES[0] + b"]", "These bytes are not an event"),
    "not utf-8": (LINES[0].replace(b"w-0", b"w-\xff"), "not "),
    "no acceptance time": (changed(acceptedat=None), "acceptedat"),
    "a time without an offset": (changed(acceptedat="2026-11-24T09:00:00"), "acceptedat"),
    "before all time": (changed(acceptedat="0001-01-01T00:00:00+14:00"), "not an event"),
    "after all time": (changed(time="9999-12-31T23:00:00-14:00"), "not an event"),
    "another spec": (changed(specversion="0.3"), "specversion is '0.3'"),
    "no uuid": (changed(id="w-0"), "id is 'w-0'; it must be a UUID"),
    "a uuid that we write otherwise": (
        changed(id=workout_event_id("ada", "w-0").upper()),
        "it must be a UUID in lower case",
    ),
    "another id": (changed(id=workout_event_id("ada", "w-1")), "its workout means"),
    "another user": (changed(subject="bob"), "subject is 'bob'; its workout means 'ada'"),
    "another time": (changed(time="2026-11-24T07:00:00+01:00"), "time is "),
    "another sport": (changed(routingkey="workout.completed.yoga"), "routingkey is "),
    "another type": (changed(routingkey="workouts.completed.running"), "begin with the type"),
    "a long routing key": (
        changed(type="x", routingkey="x." + "é" * 127),
        "routingkey is longer than 255 bytes",
    ),
    "no fact": (changed(data={"workout_id": "w-0"}), "is not a workout.completed"),
    "version 0": (changed(dataversion=0), "dataversion"),
    "too long": (b"x" * (LONGEST_LINE + 1), f"longer than {LONGEST_LINE} bytes"),
}


@pytest.mark.parametrize(("line", "says"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_line_that_is_no_event_is_left_out_with_its_number_and_the_reason(
    other: Other, tmp_path: Path, line: bytes, says: str
) -> None:
    file = written(tmp_path / "some.ndjson", [LINES[1], b"", line, LINES[2]])
    with other.relayed():
        row = loaded(file, code=1)
    assert counts(row) == {"lines": 4, "new": 2, "invalid": 1}
    ((number, reason),) = [(fault["line"], fault["reason"]) for fault in row["faults"]]
    assert number == 3
    assert says in reason
    assert len(reason) < 600
    assert other.bodies() == LINES[1:3]


def test_many_faults_are_told_in_part_and_all_are_counted(other: Other, tmp_path: Path) -> None:
    file = written(tmp_path / "bad.ndjson", [b"{}"] * 1_500)
    with other.relayed():
        result = run("events", "load", str(file), code=1)
        row = loaded(file, code=1)
    assert row["invalid"] == 1_500
    assert len(row["faults"]) == 1_000
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Line 1 is left out: ")
    assert lines[20] == "… and 980 more; --json tells them."
    assert len(lines) == 21


@pytest.mark.parametrize(
    "line",
    [
        changed(dataversion=2, data={"all": "new"}),
        changed(type="race.entered", routingkey="race.entered", data=[1]),
    ],
    ids=["a newer version", "an unknown type"],
)
def test_what_this_code_does_not_know_yet_is_kept_as_it_is_and_counted(
    other: Other, tmp_path: Path, line: bytes
) -> None:
    with other.relayed():
        row = loaded(written(tmp_path / "new.ndjson", [line]))
    assert counts(row) == {"lines": 1, "new": 1, "newer": 1}
    assert other.bodies() == [line]


def test_what_the_log_refuses_is_named(other: Other, file: Path) -> None:
    other.refuses = (workout_event_id("ada", "w-3"),)
    with other.relayed():
        row = loaded(file, code=1)
        assert counts(row) == {"lines": 20, "new": 19, "refused": 1}
        assert row["refusals"] == list(other.refuses)


@given(workouts())
def test_a_line_is_sealed_with_its_id_its_bytes_and_the_hash_of_its_fact(fact: Any) -> None:
    body = seal(fact, accepted_at=ACCEPTED_AT).body
    event, known = sealed(body)
    assert (event.id, event.body) == (workout_event_id(fact.user_id, fact.workout_id), body)
    assert event.digest == sha256(read_envelope(body).data).digest()
    assert known


@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_be_refused(line: bytes) -> None:
    with pytest.raises(Undecodable):
        sealed(line)


@given(st.lists(st.binary(max_size=9).filter(lambda line: not set(line) & set(b"\r\n"))))
def test_lines_are_those_between_the_ends_of_lines(lines: list[bytes]) -> None:
    assert list(each_line(BytesIO(b"".join(line + b"\n" for line in lines)))) == lines


def test_of_a_line_without_an_end_only_so_much_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"x" * (5 * LONGEST_LINE) + b"\nshort\n" + b"y" * (3 * LONGEST_LINE)
    first, second, third = each_line(BytesIO(text))
    assert LONGEST_LINE < len(first) <= LONGEST_LINE + 2
    assert second == b"short"
    assert LONGEST_LINE < len(third) <= LONGEST_LINE + 2


def test_a_history_goes_into_a_log_on_a_server_and_comes_out_of_it_in_the_same_way(
    mongod: Mongod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    with databases(mongod) as given_names:
        address, options = mongod.url.split("/?")
        monkeypatch.setenv("PACELINE_STORE_URL", f"{address}/{given_names.new_name()}?{options}")
        monkeypatch.setenv("PACELINE_BROKER_URL", "amqp://127.0.0.1:1")  # nobody asks it anything
        other = Other(tmp_path / "other", monkeypatch)
        known = [seal(one, accepted_at=LATER) for one in facts(3)]
        with other.relayed():
            other.opened().append(known, source="door")
            assert counts(loaded(file)) == {"lines": 20, "new": 17, "duplicate": 3}
            assert counts(loaded(file)) == {"lines": 20, "duplicate": 20}
        expected = [*(one.body for one in known), *LINES[3:]]
        assert run("events", "export").stdout_bytes.splitlines() == expected
        assert other.spools() == []
        other.close()


# Load, interrupted.


def test_where_no_relay_runs_that_is_said_and_what_was_read_is_carried_on_later(
    other: Other, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "RELAY_WITHIN_S", 0.05)
    (line,) = run("events", "load", str(file), code=1).stderr.splitlines()
    assert line.startswith("paceline: No relay runs on this host. 20 events are kept")
    assert len([name for name in other.spools() if name.endswith(".db")]) == 1
    with other.relayed():
        until(lambda: len(other.bodies()) == 20, what="they are carried on")
        assert counts(loaded(file)) == {"lines": 20, "duplicate": 20}
    assert other.bodies() == LINES
    assert other.spools() == []  # also what the first one left


def test_a_load_that_is_stopped_says_so_and_the_next_one_loads_the_rest(
    other: Other, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_AT_ONCE", 4)
    add, added = Spool.add, 0

    def stops(self: Spool, events: Any, *, known: Any) -> None:
        nonlocal added
        if added == 8:
            raise KeyboardInterrupt
        added += len(events)
        add(self, events, known=known)

    monkeypatch.setattr(Spool, "add", stops)
    (line,) = run("events", "load", str(file), code=1).stderr.splitlines()
    assert line.startswith("paceline: Stopped. What was read is carried into the log all the same")
    monkeypatch.setattr(Spool, "add", add)
    with other.relayed():
        until(lambda: len(other.bodies()) == 8, what="what was read is carried on")
        assert counts(loaded(file)) == {"lines": 20, "new": 12, "duplicate": 8}
    assert other.bodies() == LINES
    assert other.spools() == []


def test_a_disk_that_would_not_hold_it_stops_the_load_before_accepting_does(
    other: Other, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")  # what it stands in for is one
    reserve = other.settings.disk_reserve_mib << 20
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: usage(2 * reserve + 3_000))
    (line,) = run("events", "load", str(file), code=1).stderr.splitlines()
    assert "MiB left, and accepting needs them" in line


@pytest.mark.parametrize("name", ["nothing", ""])
def test_a_file_that_can_not_be_read_is_one_line(other: Other, tmp_path: Path, name: str) -> None:
    (line,) = run("events", "load", str(tmp_path / name), code=1).stderr.splitlines()
    assert f"{tmp_path / name}".rstrip("/") in line
    assert other.spools() == []


# Spools as sources.


def spool(other: Other, *lines: bytes) -> Spool:
    made = Spool(other.folder / "loads")
    made.add([sealed(line)[0] for line in lines], known=())
    return made


def test_sources_come_and_go_with_their_files_and_are_the_same_meanwhile(other: Other) -> None:
    sources = LoadedSources(other.settings)
    assert sources() == []
    first = spool(other, *LINES[:3])
    (source,) = sources()
    assert source.source_id == first.source_id
    assert [row.event.body for row in source.rows(1, limit=9)] == LINES[1:3]
    assert source.event_id_at(2) == workout_event_id("bob", "w-1")
    assert source.event_id_at(4) is None
    second = spool(other, LINES[4])
    assert {one.source_id for one in sources()} == {first.source_id, second.source_id}
    assert source in sources()
    first.remove()
    assert [one.source_id for one in sources()] == [second.source_id]
    second.add([sealed(LINES[5])[0]], known=())
    assert len(sources()[0].rows(0, limit=9)) == 2
    second.remove()
    assert sources() == []


def test_a_file_that_is_just_being_made_is_no_source_yet(other: Other) -> None:
    sources = LoadedSources(other.settings)
    (other.folder / "loads").mkdir(parents=True)
    (other.folder / "loads" / "half.db").write_bytes(b"")
    assert sources() == []


def test_what_a_running_load_fills_or_the_relay_has_not_carried_on_is_never_taken_away(
    other: Other,
) -> None:
    def all_over(left: object) -> bool:
        return True

    def none_over(left: object) -> bool:
        return False

    made = spool(other, LINES[0])
    remove_left(other.settings, all_over)
    assert made.last() == 1
    made.close()
    remove_left(other.settings, none_over)
    assert len(LoadedSources(other.settings)()) == 1
    remove_left(other.settings, all_over)
    assert other.spools() == []


# With the real processes.


def test_a_load_goes_through_the_real_relay_and_a_worker_beside_what_the_outbox_brings(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path / "place")
    place.log.close()
    place.plug_in()
    outbox = Outbox(place.folder / "outbox.db", passed=lambda source: 0)
    outbox.accept([seal(one, accepted_at=LATER) for one in facts(30)])
    file = written(tmp_path / "all.ndjson", [*LINES, b"no event"])
    try:
        relay, worker = place.start("relay"), place.start("consume", "tally")
        done = place.command("events", "load", str(file), "--json")
        assert done.returncode == 1, done
        (row,) = json.loads(done.stdout)
        assert counts(row)["invalid"] == 1
        assert row["new"] + row["duplicate"] == 20
        until(lambda: place.documents() == tallied(facts(30)), what="all is applied, once")
        place.stop(worker)
        place.stop(relay)
    finally:
        outbox.close()
        place.close()


def test_ctrl_c_while_a_load_waits_is_one_line_and_leaves_what_it_read(
    tmp_path: Path, file: Path
) -> None:
    place = Place(tmp_path / "place")
    try:
        waiting = place.start("events", "load", str(file))
        until(lambda: len(LoadedSources(settings_of(place))()) == 1, what="it is spooled")

        def read() -> bool:
            (source,) = LoadedSources(settings_of(place))()
            return len(source.rows(0, limit=99)) == 20

        until(read, what="all is read")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 1
        *_, line = place.journal().splitlines()
        assert line.startswith("paceline: Stopped. ")
        assert "Traceback" not in place.journal()
        assert read()
    finally:
        place.close()


def settings_of(place: Place) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PACELINE_DATA_DIR", str(place.folder))
        return read_settings()
