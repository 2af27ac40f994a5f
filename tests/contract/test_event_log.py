"""What every event log must do: `EventLogContract` is inherited by the tests of each backend."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.envelope import Sealed, from_bytes, seal
from events.errors import Outage, Undecodable
from events.log import (
    Appended,
    EventLog,
    Logged,
    LogReader,
    Outcome,
    Position,
    Selection,
    stretch_ahead,
)
from events.log.mongo import MongoEventLog
from events.log.mongo_reader import MongoLogReader
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader
from events.mongo import Client, connect
from events.upcasters import CURRENT, STEPS
from tests.contract.power_cut import Disk
from tests.factories import workout
from tests.servers.mongod import Mongod

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALL = 1_000_000
SPORTS = ("running", "cycling", "e_biking.gravel")
KEYS = (*(f"workout.completed.{sport}" for sport in SPORTS), "achievement.unlocked")
USERS = ("ada", "bob")
BINDINGS = (
    ("#",),
    ("workout.completed.#",),
    ("workout.completed.*",),
    ("workout.#.gravel", "achievement.*"),
    ("*.unlocked",),
    ("workout.completed.running",),
    ("nothing.at.all",),
    (),
)
EVERY_EXAMPLE = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
    max_examples=40,
)


def sealed(
    number: int,
    *,
    key: str = KEYS[0],
    user: str = "ada",
    accepted_at: datetime = NOON,
    **changes: Any,
) -> Sealed:
    """The event of one of many workouts; the first two words of the routing key are its type."""
    fact = replace(workout(workout_id=f"w{number}", user_id=user), **changes)
    made = seal(fact, accepted_at=accepted_at)
    told = json.loads(made.body) | {"routingkey": key, "type": ".".join(key.split(".")[:2])}
    return Sealed(made.id, made.digest, json.dumps(told).encode())


def wants(bindings: Sequence[str], key: str) -> bool:
    """Whether a topic pattern matches, by a regular expression over words that end with dots."""
    words = {"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}
    return any(
        re.fullmatch("".join(words.get(word, f"{word}\\.") for word in of.split(".")), f"{key}.")
        for of in bindings
    )


def everything(log: LogReader) -> list[Logged]:
    return log.scan(Selection(), limit=ALL)


def ids(events: Sequence[Sealed]) -> list[str]:
    return [event.id for event in events]


class Row(NamedTuple):
    """What a test knows of a row of a log."""

    position: Position
    key: str
    user: str
    accepted_at: datetime
    event: Sealed


class LogSite(Protocol):
    """A place for one log, empty at first."""

    def writer(self) -> EventLog:
        """Open it as a relay that has just started does."""

    def reader(self) -> LogReader:
        """Open it as everybody else does."""


def filled_at(site: LogSite, seed: int) -> tuple[LogReader, list[Row]]:
    """Have three relays fill a log."""
    random, rows = Random(seed), list[Row]()
    for start in range(3):
        log = site.writer()
        for number in range(random.randrange(1, 8)):
            key, user = random.choice(KEYS), random.choice(USERS)
            accepted_at = NOON + timedelta(hours=random.randrange(30))
            event = sealed(10 * start + number, key=key, user=user, accepted_at=accepted_at)
            (answer,) = log.append([event], source="here")
            rows.append(Row(answer.position, key, user, accepted_at, event))
    return site.reader(), rows


class EventLogContract:
    """The tests; a backend gives `new_site`, which makes an empty place at each call."""

    @pytest.fixture
    def new_site(self) -> Callable[[], LogSite]:
        raise NotImplementedError

    @pytest.fixture
    def site(self, new_site: Callable[[], LogSite]) -> LogSite:
        return new_site()

    @pytest.fixture
    def log(self, site: LogSite) -> EventLog:
        return site.writer()

    def test_what_is_appended_is_answered_in_order_and_found(self, log: EventLog) -> None:
        events = [sealed(number, key=key) for number, key in enumerate(KEYS)]
        answers = log.append(events, source="here")
        assert [answer.outcome for answer in answers] == [Outcome.NEW] * 4
        assert [answer.routing_key for answer in answers] == list(KEYS)
        assert [answer.body for answer in answers] == [event.body for event in events]
        rows = everything(log)
        assert [row.position for row in rows] == [answer.position for answer in answers]
        assert [(row.event_id, row.routing_key, row.body) for row in rows] == [
            (event.id, key, event.body) for event, key in zip(events, KEYS, strict=True)
        ]

    def test_numbers_of_a_relay_rise_from_call_to_call(self, log: EventLog) -> None:
        positions = [log.append([sealed(number)], source="here")[0].position for number in range(5)]
        assert len({position.relay for position in positions}) == 1
        numbers = [position.number for position in positions]
        assert numbers == sorted(set(numbers))
        assert numbers[0] >= 1

    def test_an_append_of_nothing_changes_nothing(self, log: EventLog) -> None:
        assert log.append([], source="here") == []
        assert everything(log) == []
        assert log.count(Selection()) == 0

    def test_an_event_is_got_by_its_id(self, log: EventLog) -> None:
        (_, second) = log.append([sealed(1), sealed(2)], source="here")
        place = everything(log)[1].place
        assert log.get(sealed(2).id) == Logged(
            second.position, sealed(2).id, KEYS[0], sealed(2).body, place
        )
        assert log.get(sealed(3).id) is None

    def test_a_duplicate_has_the_position_and_the_bytes_of_the_first(self, log: EventLog) -> None:
        (first,) = log.append([sealed(1)], source="here")
        later = sealed(1, accepted_at=NOON + timedelta(days=9))
        assert later.body != sealed(1).body
        answers = log.append([sealed(0), later, sealed(2)], source="there")
        assert [answer.outcome for answer in answers] == ["new", "duplicate", "new"]
        assert answers[1] == first._replace(outcome=Outcome.DUPLICATE)
        assert log.count(Selection()) == 3
        assert log.conflicts() == []

    def test_a_duplicate_inside_one_call_is_one_event(self, log: EventLog) -> None:
        later = sealed(1, accepted_at=NOON + timedelta(days=9))
        first, again, third = log.append([sealed(1), later, sealed(1)], source="here")
        assert [first.outcome, again.outcome, third.outcome] == ["new", "duplicate", "duplicate"]
        assert first.position == again.position == third.position
        assert again.body == third.body == sealed(1).body
        assert [row.body for row in everything(log)] == [sealed(1).body]

    def test_a_conflict_is_kept_whole_and_never_replaces_the_first(self, log: EventLog) -> None:
        (first,) = log.append([sealed(1)], source="here")
        other = sealed(1, duration_ms=5)
        (answer,) = log.append([other], source="there")
        assert answer == first._replace(outcome=Outcome.CONFLICT)
        assert [row.body for row in everything(log)] == [sealed(1).body]
        assert log.conflicts() == [(other.id, "there", other.body)]

    def test_a_conflict_inside_one_call_is_a_conflict_too(self, log: EventLog) -> None:
        other = sealed(1, duration_ms=5)
        answers = log.append([sealed(1), other], source="here")
        assert [answer.outcome for answer in answers] == ["new", "conflict"]
        assert {answer.body for answer in answers} == {sealed(1).body}
        assert log.conflicts(other.id) == [(other.id, "here", other.body)]

    def test_a_conflict_that_comes_again_is_kept_once_and_every_other_one_beside_it(
        self, log: EventLog
    ) -> None:
        one, other, second = (
            sealed(1, duration_ms=5),
            sealed(1, duration_ms=6),
            sealed(2, duration_ms=5),
        )
        log.append([sealed(1), sealed(2)], source="here")
        for _ in range(2):
            log.append([one, other, second], source="there")
        assert {conflict.body for conflict in log.conflicts(one.id)} == {one.body, other.body}
        assert len(log.conflicts()) == 3
        assert log.conflicts(sealed(3).id) == []

    def test_a_conflict_does_not_keep_its_call_from_being_stored(self, log: EventLog) -> None:
        log.append([sealed(1)], source="here")
        answers = log.append([sealed(0), sealed(1, duration_ms=5), sealed(2)], source="there")
        assert [answer.outcome for answer in answers] == ["new", "conflict", "new"]
        assert {row.event_id for row in everything(log)} == set(
            ids([sealed(number) for number in range(3)])
        )

    def test_the_same_fact_in_another_version_is_a_duplicate(
        self, log: EventLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = "workout.completed"
        in_1 = sealed(1)
        in_2, other = as_version_2(in_1, ascent_mm=0), as_version_2(in_1, ascent_mm=7)
        monkeypatch.setitem(STEPS, (kind, 1), lambda data: data | {"ascent_mm": 0})
        monkeypatch.setitem(CURRENT, kind, 2)
        (first,) = log.append([in_1], source="here")
        duplicate, conflict = log.append([in_2, other], source="there")
        assert duplicate == first._replace(outcome=Outcome.DUPLICATE)
        assert conflict == first._replace(outcome=Outcome.CONFLICT)
        assert [one.body for one in log.conflicts()] == [other.body]

    def test_what_cannot_be_read_is_refused_and_nothing_of_its_call_is_stored(
        self, log: EventLog
    ) -> None:
        log.append([sealed(1)], source="here")
        broken = Sealed(sealed(3).id, b"", b"no event")
        before = (everything(log), log.settled())
        with pytest.raises(Undecodable):
            log.append([sealed(2), sealed(1, duration_ms=5), broken, sealed(4)], source="here")
        assert (everything(log), log.settled()) == before
        assert log.conflicts() == []
        assert log.get(sealed(2).id) is None
        assert log.append([sealed(2)], source="here")[0].outcome is Outcome.NEW

    def test_an_event_of_a_version_that_nobody_knows_yet_is_stored_unread(
        self, log: EventLog
    ) -> None:
        newer = as_version_2(sealed(1), mood="good")
        (answer,) = log.append([newer], source="here")
        assert (answer.outcome, answer.body) == (Outcome.NEW, newer.body)
        assert log.append([newer], source="here") == [answer._replace(outcome=Outcome.DUPLICATE)]

    def test_a_restarted_relay_stamps_its_own_id_and_never_gives_a_position_again(
        self, site: LogSite
    ) -> None:
        given: list[Position] = []
        for start in range(4):
            log = site.writer()
            events = [sealed(10 * start + number) for number in range(3)]
            answers = log.append(events, source="here")
            assert {answer.position.relay for answer in answers}.isdisjoint(
                position.relay for position in given
            )
            given += [answer.position for answer in answers]
        assert len(set(given)) == 12
        assert {row.position for row in everything(site.reader())} == set(given)

    def test_a_duplicate_keeps_its_position_when_a_relay_restarts(self, site: LogSite) -> None:
        (first,) = site.writer().append([sealed(1)], source="here")
        (again,) = site.writer().append([sealed(1)], source="here")
        assert again == first._replace(outcome=Outcome.DUPLICATE)

    def test_a_reader_that_was_there_before_sees_what_is_appended(self, site: LogSite) -> None:
        log = site.writer()
        reader = site.reader()
        assert everything(reader) == []
        log.append([sealed(1)], source="here")
        assert [row.event_id for row in everything(reader)] == [sealed(1).id]
        assert reader.settled() == log.settled() != {}

    def test_settled_tells_the_last_number_of_each_relay_oldest_first(self, site: LogSite) -> None:
        expected: dict[str, int] = {}
        for start in range(3):
            log = site.writer()
            for number in range(2):
                (answer,) = log.append([sealed(10 * start + number)], source="here")
                expected[answer.position.relay] = answer.position.number
        assert list(site.reader().settled().items()) == list(expected.items())

    def test_what_a_relay_only_repeats_settles_nothing(self, site: LogSite) -> None:
        site.writer().append([sealed(1)], source="here")
        before = site.reader().settled()
        site.writer().append([sealed(1), sealed(1, duration_ms=5)], source="there")
        assert site.reader().settled() == before

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_a_scan_goes_on_where_the_last_one_ended(self, log: EventLog, limit: int) -> None:
        log.append([sealed(number) for number in range(8)], source="here")
        whole, found, after = everything(log), list[Logged](), 0
        relay = whole[0].position.relay
        while rows := log.scan(Selection(relay=relay, after=after), limit=limit):
            assert len(rows) <= limit
            found, after = found + rows, rows[-1].position.number
        assert found == whole

    @pytest.fixture
    def filled(self, new_site: Callable[[], LogSite]) -> list[tuple[LogReader, list[Row]]]:
        """Logs of three relays each, and beside each what is in it."""
        return [filled_at(new_site(), seed) for seed in range(3)]

    @EVERY_EXAMPLE
    @given(which=st.integers(0, 2), data=st.data())
    def test_a_scan_returns_what_each_filter_and_all_together_select(
        self, filled: list[tuple[LogReader, list[Row]]], which: int, data: st.DataObject
    ) -> None:
        log, rows = filled[which]
        numbers = [row.position.number for row in rows]
        relays = sorted({row.position.relay for row in rows})
        chosen = data.draw(st.none() | st.sampled_from([*relays, "nobody"]), "relay")
        somewhere = st.sampled_from(numbers)
        moments = st.none() | st.integers(-1, 31).map(lambda hours: NOON + timedelta(hours=hours))
        selection = Selection(
            bindings=data.draw(st.none() | st.sampled_from(BINDINGS), "bindings"),
            user_id=data.draw(st.none() | st.sampled_from((*USERS, "eve")), "user"),
            kind=data.draw(
                st.none() | st.sampled_from(("workout.completed", "achievement.unlocked", "x")),
                "kind",
            ),
            ids=data.draw(
                st.none()
                | st.lists(st.sampled_from([row.event.id for row in rows]), max_size=9).map(
                    lambda some: [*some, sealed(999).id]
                ),
                "ids",
            ),
            accepted_from=data.draw(moments, "from"),
            accepted_to=data.draw(moments, "to"),
            relay=chosen,
            after=data.draw(st.just(0) | somewhere, "after") if chosen else 0,
            through=data.draw(st.none() | somewhere, "through") if chosen else None,
        )
        selected = [
            (position, event)
            for position, key, user, accepted_at, event in rows
            if (selection.bindings is None or wants(selection.bindings, key))
            and selection.user_id in (None, user)
            and (selection.kind is None or key.startswith(selection.kind))
            and (selection.ids is None or event.id in selection.ids)
            and (selection.accepted_from is None or selection.accepted_from <= accepted_at)
            and (selection.accepted_to is None or accepted_at < selection.accepted_to)
            and selection.relay in (None, position.relay)
            and position.number > selection.after
            and (selection.through is None or position.number <= selection.through)
        ]
        found = log.scan(selection, limit=ALL)
        assert sorted((row.position, row.event_id, row.body) for row in found) == sorted(
            (position, event.id, event.body) for position, event in selected
        )
        places = [row.place for row in found]
        assert places == sorted(places)
        assert log.count(selection) == len(found)
        limit = data.draw(st.integers(1, 12), "limit")
        assert log.scan(selection, limit=limit) == found[:limit]

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_a_scan_of_all_relays_goes_on_by_places_and_ends_at_one(
        self, new_site: Callable[[], LogSite], limit: int
    ) -> None:
        log, _ = filled_at(new_site(), 3)
        whole, found, after = everything(log), list[Logged](), 0
        places = [row.place for row in whole]
        assert places == sorted(set(places))
        assert places[0] > 0
        while rows := log.scan(Selection(after=after), limit=limit):
            found, after = found + rows, rows[-1].place
        assert found == whole
        for place in places:
            through = Selection(after=places[0], through=place)
            assert log.scan(through, limit=ALL) == [
                row for row in whole if places[0] < row.place <= place
            ]

    def test_a_place_never_changes(self, site: LogSite) -> None:
        before = list[Logged]()
        for start in range(3):
            log = site.writer()
            log.append([sealed(10 * start + at) for at in range(-1, 3)], source="here")
            now = everything(site.reader())
            assert now[: len(before)] == before
            before = now

    def test_what_was_appended_is_settled_and_nothing_is_left_unsettled(
        self, site: LogSite
    ) -> None:
        log = site.writer()
        for turn in range(3):
            events = [sealed(number) for number in range(turn, turn + 3)]
            last = max(answer.position for answer in log.append(events, source="here"))
            assert site.reader().settled() == {last.relay: last.number}
            assert site.reader().unsettled(limit=ALL) == []

    def test_settling_former_relays_leaves_a_relay_that_ended_well_as_it_is(
        self, site: LogSite
    ) -> None:
        site.writer().append([sealed(1), sealed(2)], source="here")
        before = site.reader().settled()
        log = site.writer()
        log.settle_former("here")
        log.append([sealed(1), sealed(2)], source="here")
        log.settle_former("here")
        log.settle_former("there")
        assert site.reader().settled() == before
        assert site.reader().unsettled(limit=ALL) == []

    def test_acceptance_times_are_told_apart_by_the_millisecond_in_any_zone(
        self, log: EventLog
    ) -> None:
        moments = [NOON + timedelta(milliseconds=number) for number in range(3)]
        log.append([sealed(at, accepted_at=moment) for at, moment in enumerate(moments)], source="")
        first, second = (moment.astimezone().astimezone(UTC) for moment in moments[1:])
        selection = Selection(accepted_from=first, accepted_to=second)
        assert [row.event_id for row in log.scan(selection, limit=ALL)] == [sealed(1).id]

    @EVERY_EXAMPLE
    @given(
        bindings=st.sampled_from(BINDINGS),
        turns=st.lists(
            st.one_of(
                st.lists(st.sampled_from(KEYS), max_size=5),  # append events with these keys
                st.just("restart"),
                st.integers(1, 4),  # read on with this limit
            ),
            max_size=25,
        ),
    )
    def test_a_sweep_passes_no_wanted_row_unseen_however_appends_and_reads_interleave(
        self, new_site: Callable[[], LogSite], bindings: Sequence[str], turns: list[Any]
    ) -> None:
        site = new_site()
        log, reader = site.writer(), site.reader()
        marks: dict[str, int] = {}
        seen: list[Position] = []
        wanted: list[Position] = []
        count = 0
        for turn in [*turns, *[3] * 40]:
            if turn == "restart":
                log = site.writer()
            elif isinstance(turn, list):
                events = [sealed(count + at, key=key) for at, key in enumerate(turn)]
                count += len(events)
                answers = log.append(events, source="here")
                wanted += [one.position for one in answers if wants(bindings, one.routing_key)]
            elif stretch := stretch_ahead(reader, marks, bindings, limit=turn):
                assert len(stretch.rows) <= turn
                assert stretch.through > marks.get(stretch.relay, 0)
                marks[stretch.relay] = stretch.through
                seen += [row.position for row in stretch.rows]
            passed = [at for at in wanted if at.number <= marks.get(at.relay, 0)]
            assert sorted(passed) == sorted(seen)
        assert stretch_ahead(reader, marks, bindings, limit=3) is None
        assert seen == sorted(seen, key=wanted.index)
        assert sorted(seen) == sorted(wanted)

    def test_a_reader_beside_the_writer_sees_each_settled_row_once_and_in_order(
        self, site: LogSite
    ) -> None:
        log = site.writer()
        done, seen, trouble = Event(), list[Logged](), list[BaseException]()

        def sweep() -> None:
            try:
                reader, marks = site.reader(), dict[str, int]()
                while True:
                    last = done.is_set()
                    while stretch := stretch_ahead(reader, marks, ("#",), limit=7):
                        marks[stretch.relay] = stretch.through
                        seen.extend(stretch.rows)
                    if last:
                        return
            except BaseException as error:  # noqa: BLE001 - raised again by the test
                trouble.append(error)

        reading = Thread(target=sweep)
        reading.start()
        for turn in range(60):
            log.append([sealed(10 * turn + number) for number in range(turn % 9)], source="here")
        done.set()
        reading.join(60)
        assert not trouble
        assert seen == everything(log)
        assert len(seen) == sum(turn % 9 for turn in range(60))

    def test_below_what_is_settled_no_row_is_ever_added(self, site: LogSite) -> None:
        log = site.writer()
        done, seen, trouble = Event(), list[tuple[str, int, list[Logged]]](), list[BaseException]()

        def look() -> None:
            try:
                reader = site.reader()
                while not done.is_set():
                    for relay, number in reader.settled().items():
                        selection = Selection(relay=relay, through=number)
                        seen.append((relay, number, reader.scan(selection, limit=ALL)))
            except BaseException as error:  # noqa: BLE001 - raised again by the test
                trouble.append(error)

        looking = Thread(target=look)
        looking.start()
        for turn in range(40):
            log.append([sealed(10 * turn + number) for number in range(3)], source="here")
        done.set()
        looking.join(60)
        assert not trouble
        assert seen
        whole = everything(log)
        for relay, number, rows in seen:
            below = [row for row in whole if row.position <= (relay, number)]
            assert rows == [row for row in below if row.position.relay == relay]

    def test_writers_at_the_same_time_store_each_event_once_and_agree_where(
        self, site: LogSite
    ) -> None:
        site.writer()

        def write(seed: int) -> list[tuple[Sealed, Appended]]:
            random, log = Random(seed), site.writer()
            answered: list[tuple[Sealed, Appended]] = []
            for _ in range(15):
                events = [sealed(random.randrange(60)) for _ in range(random.randrange(1, 5))]
                answered += zip(events, log.append(events, source=str(seed)), strict=True)
            return answered

        with ThreadPoolExecutor(4) as writers:
            answers = [answer for of in writers.map(write, range(4)) for answer in of]
        positions: dict[str, set[Position]] = {}
        for event, answer in answers:
            positions.setdefault(event.id, set()).add(answer.position)
        new = [event.id for event, answer in answers if answer.outcome is Outcome.NEW]
        assert sorted(new) == sorted(positions)
        assert {len(of) for of in positions.values()} == {1}
        rows = everything(site.reader())
        assert {row.event_id: {row.position} for row in rows} == positions
        assert len(rows) == len(positions) == len({row.position for row in rows})
        settled = site.reader().settled()
        for row in rows:
            assert row.position.number <= settled[row.position.relay]


def as_version_2(event: Sealed, **more: Any) -> Sealed:
    """The same event as a later version writes it, with more in its fact."""
    told = json.loads(event.body)
    told |= {"dataversion": 2, "data": told["data"] | more}
    return Sealed(event.id, repr(more).encode(), json.dumps(told).encode())


class SqliteLogSite:
    """A log in a file of its own."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self._path, self._vfs = path, vfs
        self.opened: list[SqliteLogReader] = []

    def writer(self) -> SqliteEventLog:
        log = SqliteEventLog(self._path, vfs=self._vfs)
        self.opened.append(log)
        return log

    def reader(self) -> SqliteLogReader:
        log = SqliteLogReader.open(self._path, vfs=self._vfs)
        self.opened.append(log)
        return log


class TestSqliteEventLog(EventLogContract):
    """The log of the embedded way."""

    @pytest.fixture
    def new_site(self, tmp_path: Path) -> Iterator[Callable[[], LogSite]]:
        sites: list[SqliteLogSite] = []

        def make() -> LogSite:
            sites.append(SqliteLogSite(tmp_path / str(len(sites)) / "log.db"))
            return sites[-1]

        yield make
        for site in sites:
            for log in site.opened:
                log.close()

    def test_a_reader_waits_for_the_file_and_for_its_tables(self, tmp_path: Path) -> None:
        file = tmp_path / "log.db"
        with pytest.raises(Outage):
            SqliteLogReader.open(file)
        file.touch()
        with pytest.raises(Outage):
            SqliteLogReader.open(file)

    def test_after_a_full_disk_the_same_events_are_stored_and_found_by_their_keys(
        self, tmp_path: Path
    ) -> None:
        disk = Disk(1)
        disk.start(tmp_path / "small")
        log = SqliteEventLog(disk.folder / "log.db", vfs=disk.name)
        disk.full = True
        with pytest.raises(Outage, match="Is the disk full"):
            log.append([sealed(1, key=KEYS[0])], source="here")
        disk.full = False
        assert everything(log) == []
        assert log.settled() == {}
        log.append([sealed(1, key=KEYS[0])], source="here")
        log.append([sealed(2, key=KEYS[1])], source="here")
        for number, key in ((1, KEYS[0]), (2, KEYS[1])):
            rows = log.scan(Selection(bindings=(key,)), limit=ALL)
            assert [(row.event_id, row.routing_key) for row in rows] == [(sealed(number).id, key)]
        log.close()


class MongoLogSite:
    """A log in a database of its own."""

    def __init__(self, client: Client, database: str) -> None:
        self._client, self._database = client, database

    def writer(self) -> MongoEventLog:
        return MongoEventLog(self._client, self._database)

    def reader(self) -> MongoLogReader:
        return MongoLogReader(self._client, self._database)


class TestMongoEventLog(EventLogContract):
    """The log of the distributed way."""

    @pytest.fixture
    def new_site(self, mongod: Mongod) -> Iterator[Callable[[], LogSite]]:
        made: list[str] = []
        with connect(mongod.url) as client:

            def make() -> LogSite:
                made.append(f"log-{uuid4().hex}")
                return MongoLogSite(client, made[-1])

            yield make
            for database in made:
                client.drop_database(database)


def test_a_crafted_event_is_read_like_any_other() -> None:
    event = from_bytes(sealed(1).body)
    assert (event.routing_key, event.user_id, event.accepted_at) == (KEYS[0], "ada", NOON)
