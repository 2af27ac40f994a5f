"""The relay: log before exchange, confirm before the bookmark moves, and nothing is passed over."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.envelope import Sealed, seal
from events.errors import Outage, Refused
from events.log import Appended, Logged, Outcome, Position, Selection
from events.log.sqlite import SqliteEventLog
from events.patience import Patience
from events.relay import BATCH, Relay
from events.sources import Bookmark, Row
from tests.factories import workout

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALL = 1_000_000


def sealed(number: int, **changes: Any) -> Sealed:
    """The event of one of many workouts."""
    return seal(replace(workout(workout_id=f"w{number}"), **changes), accepted_at=NOON)


@dataclass
class Rows:
    """A source in memory."""

    events: list[Sealed]
    source_id: str = "here"
    first: int = 1
    asked: list[int] = field(default_factory=list)

    def rows(self, after: int, *, limit: int) -> list[Row]:
        self.asked.append(after)
        numbered = [Row(number, event) for number, event in enumerate(self.events, self.first)]
        return [row for row in numbered if row.number > after][:limit]

    def event_id_at(self, row: int) -> str | None:
        found = self.rows(row - 1, limit=1)
        return found[0].event.id if found and found[0].number == row else None


class Sent:
    """A sending that was confirmed in part or whole when it was made."""

    def __init__(self, positions: list[Position]) -> None:
        self._positions = positions

    def confirmed(self) -> list[Position]:
        return self._positions


@dataclass
class Exchange:
    """A publisher that notes what it is given, and sees what is true at that moment."""

    log: SqliteEventLog
    source: str = "here"
    calls: list[list[str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    bookmarks: list[Bookmark | None] = field(default_factory=list)
    confirms: Callable[[Sequence[Appended]], Sequence[Appended]] = tuple

    window: int = 0

    def publish(self, events: Sequence[Appended]) -> "Sent":
        logged = {row.position: row.body for row in everything(self.log)}
        assert [logged[event.position] for event in events] == [event.body for event in events]
        self.bookmarks.append(self.log.load(self.source))
        self.calls.append([body_id(event.body) for event in events])
        self.bodies += [event.body for event in events]
        return Sent([event.position for event in self.confirms(events)])

    def close(self) -> None:
        pass


def body_id(body: bytes) -> str:
    return str(body.partition(b'"id":"')[2][:36].decode())


def everything(log: SqliteEventLog) -> list[Logged]:
    return log.scan(Selection(), limit=ALL)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    made = SqliteEventLog(tmp_path / "log.db")
    yield made
    made.close()


@pytest.fixture
def exchange(log: SqliteEventLog) -> Exchange:
    return Exchange(log)


def relay_of(log: SqliteEventLog, exchange: Exchange, *sources: Rows) -> Relay:
    return Relay(sources, log, exchange, log, patience=Patience())


def ids(events: Sequence[Sealed]) -> list[str]:
    return [event.id for event in events]


def test_rows_go_to_the_log_then_to_the_exchange_and_then_the_bookmark_moves(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    events = [sealed(number) for number in range(3)]
    relay = relay_of(log, exchange, Rows(events))
    assert relay.step() == 3
    # What the exchange saw: each event stood in the log, and the bookmark had not moved.
    assert exchange.calls == [ids(events)]
    assert exchange.bookmarks == [None]
    assert exchange.bodies == [event.body for event in events]
    assert log.load("here") == Bookmark("here", 3, events[2].id)
    assert relay.step() == 0
    assert len(exchange.calls) == 1


def test_a_long_source_is_carried_on_in_batches(log: SqliteEventLog, exchange: Exchange) -> None:
    events = [sealed(number) for number in range(BATCH + 1)]
    relay = relay_of(log, exchange, Rows(events))
    assert [relay.step(), relay.step(), relay.step()] == [BATCH, 1, 0]
    assert [len(call) for call in exchange.calls] == [BATCH, 1]
    assert exchange.bookmarks == [None, Bookmark("here", BATCH, events[-2].id)]
    assert [row.event_id for row in everything(log)] == ids(events)


def test_each_source_has_a_bookmark_of_its_own(log: SqliteEventLog, exchange: Exchange) -> None:
    here, there = Rows([sealed(1)]), Rows([sealed(2), sealed(3)], "there")
    assert relay_of(log, exchange, here, there).step() == 3
    assert log.load("here") == Bookmark("here", 1, sealed(1).id)
    assert log.load("there") == Bookmark("there", 2, sealed(3).id)


def test_a_restart_goes_on_at_the_bookmark(log: SqliteEventLog, exchange: Exchange) -> None:
    source = Rows([sealed(1), sealed(2)])
    relay_of(log, exchange, source).step()
    source.events.append(sealed(3))
    assert relay_of(log, exchange, source).step() == 1
    assert exchange.calls == [ids([sealed(1), sealed(2)]), ids([sealed(3)])]


@pytest.mark.parametrize(
    "found",
    [
        [sealed(7), sealed(8), sealed(9)],  # another file under the same id: restored and gone on
        [sealed(1)],  # restored from an older copy, and the row is not there yet
        [],
    ],
)
def test_where_the_bookmark_does_not_match_it_starts_at_the_first_row(
    log: SqliteEventLog, exchange: Exchange, found: list[Sealed]
) -> None:
    relay_of(log, exchange, Rows([sealed(1), sealed(2)])).step()
    restored = Rows(found)
    relay = relay_of(log, exchange, restored)
    assert relay.step() == len(found)
    restored.events.append(sealed(10))
    assert relay.step() == 1
    assert {row.event_id for row in everything(log)} == set(
        ids([sealed(1), sealed(2), *found, sealed(10)])
    )


def test_rows_that_were_pruned_are_not_missed(log: SqliteEventLog, exchange: Exchange) -> None:
    relay_of(log, exchange, Rows([sealed(1), sealed(2)])).step()
    pruned = Rows([sealed(2), sealed(3)], first=2)
    assert relay_of(log, exchange, pruned).step() == 1
    assert [row.event_id for row in everything(log)] == ids([sealed(1), sealed(2), sealed(3)])


def test_what_the_exchange_does_not_confirm_is_sent_again_in_order(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    rounds = iter(([1, 3], [], [0], [1, 0]))  # which places of each call are confirmed
    exchange.confirms = lambda events: [events[place] for place in next(rounds)]
    events = [sealed(number) for number in range(5)]
    assert relay_of(log, exchange, Rows(events)).step() == 5
    assert exchange.calls == [
        ids(events),
        ids([events[0], events[2], events[4]]),
        ids([events[0], events[2], events[4]]),
        ids([events[2], events[4]]),
    ]
    assert exchange.bookmarks == [None] * 4
    assert log.load("here") == Bookmark("here", 5, events[4].id)


class Down(Exchange):
    """An exchange that nobody reaches."""

    def publish(self, events: Sequence[Appended]) -> Sent:
        raise Outage("nobody answers")


def test_an_outage_of_the_exchange_leaves_the_bookmark_and_all_is_sent_again(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    source = Rows([sealed(1), sealed(2)])
    relay = relay_of(log, Down(log), source)
    for _ in range(2):
        with pytest.raises(Outage):
            relay.step()
    assert log.load("here") is None
    assert len(everything(log)) == 2
    assert relay_of(log, exchange, source).step() == 2
    assert exchange.calls == [ids([sealed(1), sealed(2)])]
    assert len(everything(log)) == 2


def test_of_a_duplicate_the_logs_own_bytes_are_published(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    later = seal(workout(workout_id="w1"), accepted_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert later.body != sealed(1).body
    relay_of(log, exchange, Rows([sealed(1)])).step()
    exchange.source = "there"
    relay_of(log, exchange, Rows([later], "there")).step()
    assert exchange.bodies == [sealed(1).body, sealed(1).body]
    assert log.load("there") == Bookmark("there", 1, later.id)


def test_a_conflict_is_kept_and_not_published_and_does_not_stop_the_others(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    relay_of(log, exchange, Rows([sealed(1)])).step()
    other = sealed(1, duration_ms=5)
    exchange.source = "there"
    relay = relay_of(log, exchange, Rows([sealed(0), other, sealed(2)], "there"))
    assert relay.step() == 3
    assert exchange.calls[1:] == [ids([sealed(0), sealed(2)])]
    (conflict,) = log.conflicts()
    assert (conflict.event_id, conflict.source, conflict.body) == (other.id, "there", other.body)
    assert [row.body for row in everything(log) if row.event_id == other.id] == [sealed(1).body]
    assert log.load("there") == Bookmark("there", 3, sealed(2).id)


BROKEN = Sealed(sealed(50).id, b"", b"no event at all")


def test_a_row_that_the_log_refuses_is_set_aside_visibly_and_stepped_over(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    events = [sealed(0), sealed(1), BROKEN, sealed(2), sealed(3)]
    relay = relay_of(log, exchange, Rows(events))
    assert relay.step() == 5
    good = [sealed(0), sealed(1), sealed(2), sealed(3)]
    assert [row.event_id for row in everything(log)] == ids(good)
    assert exchange.calls == [ids(good)]
    (stuck,) = log.stuck("here")
    assert (stuck.source, stuck.row, stuck.event_id) == ("here", 3, BROKEN.id)
    assert "not an event" in stuck.reason
    assert log.load("here") == Bookmark("here", 5, sealed(3).id)
    assert relay.step() == 0
    assert log.stuck("there") == []


def test_a_source_of_nothing_but_broken_rows_is_stepped_over(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    assert relay_of(log, exchange, Rows([BROKEN, BROKEN])).step() == 2
    assert [stuck.row for stuck in log.stuck("here")] == [1, 2]
    assert everything(log) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(bad=st.sets(st.integers(0, 11)))
def test_whichever_rows_are_refused_the_others_arrive_once_and_in_order(
    tmp_path: Path, bad: set[int]
) -> None:
    log = SqliteEventLog(tmp_path / f"{len(list(tmp_path.iterdir()))}.db")
    exchange = Exchange(log)
    events = [BROKEN if place in bad else sealed(place) for place in range(12)]
    assert relay_of(log, exchange, Rows(events)).step() == 12
    assert [row.event_id for row in everything(log)] == ids([e for e in events if e is not BROKEN])
    assert {stuck.row for stuck in log.stuck("here")} == {place + 1 for place in bad}
    log.close()


class Refusing(SqliteEventLog):
    """A log that takes no event of one user."""

    def append(self, events: Sequence[Sealed], *, source: str) -> list[Appended]:
        if any(b'"subject":"eve"' in event.body for event in events):
            raise Refused("this log takes nothing of eve")
        return super().append(events, source=source)


def test_what_the_log_refuses_for_its_content_is_stuck_too(tmp_path: Path) -> None:
    log = Refusing(tmp_path / "picky.db")
    eve = seal(workout(user_id="eve"), accepted_at=NOON)
    relay_of(log, Exchange(log), Rows([sealed(1), eve, sealed(2)])).step()
    assert [row.event_id for row in everything(log)] == ids([sealed(1), sealed(2)])
    assert [(stuck.row, stuck.reason) for stuck in log.stuck("here")] == [
        (2, "this log takes nothing of eve")
    ]
    log.close()


def test_again_refills_a_log_from_a_row_on(tmp_path: Path, log: SqliteEventLog) -> None:
    source = Rows([sealed(number) for number in range(1, 6)])
    relay_of(log, Exchange(log), source).step()
    restored = SqliteEventLog(tmp_path / "restored.db")
    restored.append([sealed(1)], source="here")
    restored.save(Bookmark("here", 5, sealed(5).id))
    exchange = Exchange(restored)
    relay = relay_of(restored, exchange, source)
    assert relay.step() == 0
    relay.again(2)
    assert relay.step() == 4
    assert exchange.calls == [ids(source.events[1:])]
    assert [row.event_id for row in everything(restored)] == ids(source.events)
    assert restored.load("here") == Bookmark("here", 5, sealed(5).id)
    assert relay.step() == 0
    restored.close()


def test_again_over_what_the_log_has_changes_nothing_in_it(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    relay = relay_of(log, exchange, Rows([sealed(1), sealed(2)]))
    relay.step()
    before = everything(log)
    relay.again(1)
    assert relay.step() == 2
    assert everything(log) == before
    assert exchange.calls == [ids([sealed(1), sealed(2)])] * 2


def test_an_event_of_a_newer_version_is_logged_unread(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    newer = sealed(1)
    newer = Sealed(newer.id, b"2", newer.body.replace(b'"dataversion":1', b'"dataversion":2'))
    assert relay_of(log, exchange, Rows([newer, sealed(2)])).step() == 2
    assert [row.body for row in everything(log)] == [newer.body, sealed(2).body]
    assert exchange.calls == [ids([newer, sealed(2)])]


def test_one_that_cannot_be_compared_because_it_is_newer_does_not_stop_the_others(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    newer = Sealed(
        sealed(1).id, b"2", sealed(1).body.replace(b'"dataversion":1', b'"dataversion":2')
    )
    relay_of(log, exchange, Rows([newer])).step()
    exchange.source = "there"
    relay = relay_of(log, exchange, Rows([sealed(0), sealed(1), sealed(2)], "there"))
    assert relay.step() == 3
    assert [row.event_id for row in everything(log)] == ids([newer, sealed(0), sealed(2)])
    # It is either kept as a conflict or stuck: visible, and neither applied nor lost.
    visible = [one.event_id for one in log.conflicts()]
    visible += [one.event_id for one in log.stuck("there")]
    assert visible == [sealed(1).id]


def test_an_outage_pauses_and_what_waited_is_carried_on_afterwards(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    patience = Patience(least_s=0.001, most_s=0.001)
    outages = iter((True, True, False))

    class Shaky(Exchange):
        def publish(self, events: Sequence[Appended]) -> Sent:
            if next(outages):
                raise Outage("nobody answers")
            patience.stop()
            return super().publish(events)

    shaky = Shaky(log)
    relay = Relay([Rows([sealed(1), sealed(2)])], log, shaky, log, patience=patience)
    running = Thread(target=relay.run)
    running.start()
    running.join(30)
    assert not running.is_alive()
    assert shaky.calls == [ids([sealed(1), sealed(2)])]
    assert log.load("here") == Bookmark("here", 2, sealed(2).id)


def test_while_one_batch_is_on_its_way_the_next_is_sent_and_they_land_in_order(
    log: SqliteEventLog, exchange: Exchange
) -> None:
    exchange.window = 2
    events = [sealed(number) for number in range(3 * BATCH + 1)]
    relay = relay_of(log, exchange, Rows(events))
    marks = []
    for _ in range(5):
        relay.step()
        mark = log.load("here")
        marks.append(mark.row if mark else 0)
    assert marks == [0, 0, BATCH, 2 * BATCH, 3 * BATCH + 1]
    assert [len(call) for call in exchange.calls] == [BATCH, BATCH, BATCH, 1]


def test_after_an_outage_all_that_was_on_its_way_is_sent_again(log: SqliteEventLog) -> None:
    class Failing(Exchange):
        """Fails when the third batch comes, while two are on their way."""

        def publish(self, events: Sequence[Appended]) -> Sent:
            if len(self.calls) == 2 and not self.bookmarks[-1]:
                self.calls.append([])
                raise Outage("nobody answers")
            return super().publish(events)

    exchange = Failing(log, window=2)
    events = [sealed(number) for number in range(3 * BATCH)]
    relay = relay_of(log, exchange, Rows(events))
    assert [relay.step(), relay.step()] == [BATCH, BATCH]
    with pytest.raises(Outage):
        relay.step()
    assert log.load("here") is None
    while relay.step():
        pass
    first, second, third = (ids(events[at : at + BATCH]) for at in (0, BATCH, 2 * BATCH))
    assert exchange.calls == [first, second, [], first, second, third]
    assert log.load("here") == Bookmark("here", 3 * BATCH, events[-1].id)


def test_what_is_taken_and_never_confirmed_holds_up_nobody_for_ever(
    log: SqliteEventLog, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1_000, 20))
    monkeypatch.setattr("events.relay.time", SimpleNamespace(monotonic=lambda: next(now)))
    exchange.confirms = lambda events: events[: len(events) - 1]
    source = Rows([sealed(1), sealed(2)])
    relay = relay_of(log, exchange, source)
    relay.step()
    # It was sent again as long as there was hope; then what comes is logged and sent all the same.
    assert len(exchange.calls) == 2
    source.events.append(sealed(3))
    relay.step()
    assert len(exchange.calls) == 3  # nobody waits that long for the next one
    assert len(everything(log)) == 3
    assert log.load("here") is None  # and the source forgets nothing of it
    source.events.append(sealed(4))
    exchange.confirms = tuple
    relay.step()
    assert log.load("here") is None  # what came before it has to be confirmed first
    relay.step()
    assert exchange.calls[-1] == ids(source.events)
    assert log.load("here") == Bookmark("here", 4, sealed(4).id)


def test_what_was_not_confirmed_is_sent_again_also_when_nothing_else_comes(
    log: SqliteEventLog, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1_000, 20))
    monkeypatch.setattr("events.relay.time", SimpleNamespace(monotonic=lambda: next(now)))
    exchange.confirms = lambda events: events[: len(events) - 1]
    source = Rows([sealed(1), sealed(2)])
    relay = relay_of(log, exchange, source)
    relay.step()
    exchange.confirms = tuple
    for _ in range(4):
        relay.step()
    assert exchange.calls[-1] == ids(source.events)
    assert log.load("here") == Bookmark("here", 2, sealed(2).id)


def test_former_relays_are_settled_once_when_a_source_was_read_to_its_end(
    tmp_path: Path,
) -> None:
    class Told(SqliteEventLog):
        """Notes how much was in it when it was told."""

        told: list[tuple[str, int]]

        def settle_former(self, source: str) -> None:
            self.told.append((source, len(everything(self))))

    log = Told(tmp_path / "told.db")
    log.told = []
    source = Rows([sealed(1), sealed(2)])
    relay = relay_of(log, Exchange(log), source)
    relay.step()
    assert log.told == []
    relay.step()
    source.events.append(sealed(3))
    relay.step()
    relay.step()
    assert log.told == [("here", 2)]
    log.close()


def test_outcomes_are_what_the_log_says(log: SqliteEventLog) -> None:
    first = log.append([sealed(1)], source="here")
    again = log.append([sealed(1), sealed(1, duration_ms=5)], source="there")
    assert [one.outcome for one in [*first, *again]] == [
        Outcome.NEW,
        Outcome.DUPLICATE,
        Outcome.CONFLICT,
    ]
    assert {one.position for one in [*first, *again]} == {first[0].position}


# Further sources: the facts that consumers hold.


@dataclass
class Broken(Rows):
    """A source whose file cannot be read, in one of the two ways of asking, until it is mended."""

    breaks: str = "rows"

    def rows(self, after: int, *, limit: int) -> list[Row]:
        if self.breaks == "rows":
            raise Outage("the file is in pieces")
        return super().rows(after, limit=limit)

    def event_id_at(self, row: int) -> str | None:
        if self.breaks == "bookmark":
            raise Outage("the file is in pieces")
        return Rows(self.events).event_id_at(row)


class Moving:
    """Stands in for the module `time` in the relay; it moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Moving:
    clock = Moving()
    monkeypatch.setattr("events.relay.time", clock)
    return clock


def with_further(
    log: SqliteEventLog, exchange: Exchange, sources: Sequence[Rows], further: list[Rows]
) -> Relay:
    """A relay that is given `further` as it is at each time that it asks."""
    return Relay(sources, log, exchange, log, patience=Patience(), further=lambda: list(further))


def test_a_source_that_comes_later_is_carried_on_from_its_first_row_without_a_restart(
    log: SqliteEventLog, exchange: Exchange, clock: Moving
) -> None:
    further: list[Rows] = []
    relay = with_further(log, exchange, [Rows([sealed(1)])], further)
    assert relay.step() == 1
    further.append(Rows([sealed(2), sealed(3)], "facts"))
    assert relay.step() == 0  # it has asked just now
    clock.now += 1.0
    assert relay.step() == 2
    assert [row.event_id for row in everything(log)] == ids([sealed(1), sealed(2), sealed(3)])
    assert log.load("facts") == Bookmark("facts", 2, sealed(3).id)
    assert relay.step() == 0


def test_a_further_source_that_is_given_as_a_new_object_goes_on_where_it_was(
    log: SqliteEventLog, exchange: Exchange, clock: Moving
) -> None:
    events = [sealed(1), sealed(2)]
    further = [Rows(events, "facts")]
    relay = with_further(log, exchange, [], further)
    assert relay.step() == 2
    events.append(sealed(3))
    further[:] = [Rows(events, "facts")]
    clock.now += 1.0
    assert relay.step() == 1
    assert exchange.calls == [ids(events[:2]), ids(events[2:])]
    # So does another relay, which knows the bookmark alone.
    events.append(sealed(4))
    assert with_further(log, exchange, [], further).step() == 1


def test_a_source_that_is_not_given_any_more_is_left_and_the_others_go_on(
    log: SqliteEventLog, exchange: Exchange, clock: Moving
) -> None:
    live, gone = Rows([sealed(1)], "new"), Rows([sealed(2)], "old")
    further = [gone]
    relay = with_further(log, exchange, [], further)
    assert relay.step() == 1
    further[:] = [live]
    gone.events.append(sealed(3))
    clock.now += 1.0
    assert relay.step() == 1
    assert [row.event_id for row in everything(log)] == ids([sealed(2), sealed(1)])


@pytest.mark.parametrize("breaks", ["rows", "bookmark"])
def test_a_further_source_that_cannot_be_read_holds_up_nobody_and_comes_when_it_is_mended(
    log: SqliteEventLog, exchange: Exchange, clock: Moving, breaks: str
) -> None:
    # It was read before, so there is a bookmark that asks for its last row.
    relay_of(log, exchange, Rows([sealed(1)], "broken")).step()
    here = Rows([sealed(3)])
    broken = Broken([sealed(1), sealed(2)], "broken", breaks=breaks)
    other = Rows([sealed(4)], "other")
    relay = with_further(log, exchange, [here], [broken, other])
    assert relay.step() == 2
    here.events.append(sealed(5))
    other.events.append(sealed(6))
    assert relay.step() == 2  # within the second in which it does not ask again
    for number in (7, 9, 11):
        clock.now += 1.0
        here.events.append(sealed(number))
        other.events.append(sealed(number + 1))
        assert relay.step() == 2
    assert log.load("broken") == Bookmark("broken", 1, sealed(1).id)
    broken.breaks = "nothing"
    clock.now += 1.0
    assert relay.step() == 1
    assert {row.event_id for row in everything(log)} == set(ids([sealed(n) for n in range(1, 13)]))


@pytest.mark.parametrize("breaks", ["rows", "bookmark"])
def test_what_could_not_be_read_is_not_taken_for_read_to_its_end(
    tmp_path: Path, clock: Moving, breaks: str
) -> None:
    class Told(SqliteEventLog):
        """Notes whose former relays were settled."""

        told: list[str]

        def settle_former(self, source: str) -> None:
            self.told.append(source)

    log = Told(tmp_path / "told.db")
    log.told = []
    log.save(Bookmark("broken", 1, sealed(1).id))
    broken = Broken([sealed(1), sealed(2)], "broken", breaks=breaks)
    relay = with_further(log, Exchange(log, "broken"), [], [broken])
    for _ in range(3):
        assert relay.step() == 0
        clock.now += 1.0
    assert log.told == []
    broken.breaks = "nothing"
    assert [relay.step(), relay.step()] == [1, 0]
    assert log.told == ["broken"]
    log.close()


def test_an_outage_of_the_exchange_turns_further_sources_back_too(
    log: SqliteEventLog, clock: Moving
) -> None:
    class Shaky(Exchange):
        def publish(self, events: Sequence[Appended]) -> Sent:
            if not self.calls:
                self.calls.append([])
                raise Outage("nobody answers")
            return super().publish(events)

    exchange = Shaky(log)
    relay = with_further(log, exchange, [], [Rows([sealed(1), sealed(2)], "facts")])
    with pytest.raises(Outage):
        relay.step()
    assert log.load("facts") is None
    assert relay.step() == 2
    assert exchange.calls[1:] == [ids([sealed(1), sealed(2)])]


def test_a_source_whose_numbers_begin_again_under_another_id_is_read_from_its_first_row(
    log: SqliteEventLog, exchange: Exchange, clock: Moving
) -> None:
    # As the facts of a new generation: mostly those that were told before, and some more.
    further = [Rows([sealed(1), sealed(2)], "store-1")]
    relay = with_further(log, exchange, [], further)
    relay.step()
    further[:] = [Rows([sealed(2), sealed(3), sealed(1)], "store-2")]
    clock.now += 1.0
    assert relay.step() == 3
    assert [row.event_id for row in everything(log)] == ids([sealed(1), sealed(2), sealed(3)])
    assert log.load("store-1") == Bookmark("store-1", 2, sealed(2).id)
    assert log.load("store-2") == Bookmark("store-2", 3, sealed(1).id)
