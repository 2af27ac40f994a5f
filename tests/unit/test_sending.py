"""Sending history to one queue: all that is selected, in its order, each part confirmed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from consumers.runtime import sending as module
from consumers.runtime.sending import Sender, to_queue
from events.errors import Outage, PacelineError
from events.log import Appended, Outcome, Position, Selection
from events.log.sqlite import SqliteEventLog
from events.settings import read_settings
from tests.integration.world import append, facts


class Sent:
    def __init__(self, positions: list[Position]) -> None:
        self._positions = positions

    def confirmed(self) -> list[Position]:
        return self._positions


class Out:
    """A publisher that confirms what `confirms` lets it."""

    window = 2

    def __init__(self) -> None:
        self.calls: list[list[Appended]] = []
        self.confirms: Callable[[Sequence[Appended]], Sequence[Appended]] = tuple
        self.closed = 0

    def publish(self, events: Sequence[Appended]) -> Sent:
        self.calls.append(list(events))
        return Sent([one.position for one in self.confirms(events)])

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    made = SqliteEventLog(tmp_path / "log.db", vfs="memdb")
    yield made
    made.close()


@pytest.fixture
def out() -> Out:
    return Out()


def test_all_that_is_selected_is_sent_in_its_order_with_the_logs_own_bytes(
    log: SqliteEventLog, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 10)
    append(log, facts(25))
    assert list(Sender(out).send(log, Selection())) == [10, 20, 25]
    rows = log.scan(Selection(), limit=100)
    sent = [one for call in out.calls for one in call]
    assert [one.position for one in sent] == [row.position for row in rows]
    assert [(one.routing_key, one.body) for one in sent] == [
        (row.routing_key, row.body) for row in rows
    ]
    assert {one.outcome for one in sent} == {Outcome.DUPLICATE}
    assert out.closed == 1


def test_only_what_is_selected_is_sent(log: SqliteEventLog, out: Out) -> None:
    append(log, facts(9))
    assert list(Sender(out).send(log, Selection(user_id="bob"))) == [3]
    assert [len(call) for call in out.calls] == [3]


def test_a_part_is_confirmed_before_the_next_one_and_what_is_not_is_sent_again(
    log: SqliteEventLog, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    append(log, facts(8))
    out.confirms = lambda events: events[::2]
    assert list(Sender(out).send(log, Selection())) == [4, 8]
    numbers = [[one.position.number for one in call] for call in out.calls]
    assert numbers == [[1, 2, 3, 4], [2, 4], [4], [5, 6, 7, 8], [6, 8], [8]]


def test_what_a_relay_puts_between_others_is_sent_too(
    tmp_path: Path, log: SqliteEventLog, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    other = SqliteEventLog(tmp_path / "log.db", vfs="memdb")
    for first in range(0, 12, 2):
        append(log, facts(1, first=first))
        append(other, facts(1, first=first + 1))
    assert list(Sender(out).send(log, Selection()))[-1] == 12
    assert len({one.position for call in out.calls for one in call}) == 12
    other.close()


def test_nothing_selected_is_nothing_sent(log: SqliteEventLog, out: Out) -> None:
    assert list(Sender(out).send(log, Selection())) == []
    assert (out.calls, out.closed) == ([], 1)


def test_the_connection_is_let_go_where_nothing_can_be_sent_and_where_nobody_waits_for_the_end(
    log: SqliteEventLog, out: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    append(log, facts(4))
    sending = Sender(out).send(log, Selection())
    assert next(sending) == 2
    sending.close()  # type: ignore[attr-defined]  # it is a generator
    assert out.closed == 1

    def away(events: Sequence[Appended]) -> Sequence[Appended]:
        raise Outage("no broker")

    out.confirms = away
    with pytest.raises(Outage):
        list(Sender(out).send(log, Selection()))
    assert out.closed == 2


def test_without_a_broker_there_is_no_queue_to_send_to() -> None:
    with pytest.raises(PacelineError, match="PACELINE_BROKER_URL"):
        to_queue(read_settings(), "strangers")
