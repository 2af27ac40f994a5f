"""EventLog, the contract: all that happened, idempotent by id, numbered; and how it is swept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from events.envelope import Sealed


class Position(NamedTuple):
    """Where an event stands, given once by the log: who stamped it, and the stamp's number.

    A relay takes a new random id at every start, so a log that was restored from an old copy can
    never give a position again that it had given to another event.
    """

    relay: str
    number: int


Watermarks = Mapping[str, int]
"""Relay id -> number: up to there, all of that relay's rows were looked at."""


class Outcome(StrEnum):
    """What append made of an event: a conflict has the id of another fact, and is kept aside."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Appended(NamedTuple):
    """The answer for one event: its position and the log's own bytes, not the caller's."""

    outcome: Outcome
    position: Position
    routing_key: str
    body: bytes


class Logged(NamedTuple):
    """One row of the log; `place` is where it stands in the order of the whole log."""

    position: Position
    event_id: str
    routing_key: str
    body: bytes
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events of the log; what is None selects all. Times are acceptance times, half-open.

    `after` and `through` are numbers of `relay` where it is given, and places in the whole log
    where it is not. A place never changes, but a relay that is at work may still put rows below
    those of a later one: who must miss nothing goes by relay.
    """

    bindings: Sequence[str] | None = None
    user_id: str | None = None
    kind: str | None = None
    ids: Sequence[str] | None = None
    accepted_from: datetime | None = None
    accepted_to: datetime | None = None
    relay: str | None = None
    after: int = 0
    through: int | None = None


class Conflict(NamedTuple):
    """An event that has the id of another one and tells another fact; it is never applied."""

    event_id: str
    source: str
    body: bytes


class LogReader(Protocol):
    """All that happened, for anybody."""

    def get(self, event_id: str) -> Logged | None:
        """Return the event of an id, or None."""

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        """Return up to `limit` rows past `selection.after`, in the order of their places."""

    def count(self, selection: Selection) -> int:
        """Count the rows that `scan` would return without its limit."""

    def settled(self) -> dict[str, int]:
        """Return how far each relay's rows are settled, oldest relay first.

        Every row of that relay up to there is there and visible; none will ever be added below.
        """

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        """Return rows past what their relay has settled; `lately` of those that worked in a day.

        A relay that ended while it appended has left them, or one has appended them just now.
        """

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        """Return the conflicting events, of one id or all."""


class EventLog(LogReader, Protocol):
    """All that happened, for who writes it."""

    def append(self, events: Sequence[Sealed], *, source: str) -> list[Appended]:
        """Store what is new, synced, and answer for each event in order.

        The same fact under the same id is a duplicate, whatever its version or acceptance time;
        another fact under the same id is a conflict: kept beside the log with its `source`. Raises
        Undecodable or Refused for what cannot be stored (then nothing of this call was), Outage
        where the caller should come again.
        """

    def settle_former(self, source: str) -> None:
        """Settle what former relays of a source have left; all it had was appended again since."""


class Stretch(NamedTuple):
    """A part of the log that a sweep reads at once: the wanted rows, and how far it looked."""

    rows: list[Logged]
    relay: str
    through: int


def stretch_ahead(
    log: LogReader, watermarks: Watermarks, bindings: Sequence[str], *, limit: int
) -> Stretch | None:
    """Return the next rows past the watermarks that the bindings want, or None at the end.

    `settled` is read before the rows, so a watermark that moves to `through` passes nothing unseen.
    """
    for relay, settled in log.settled().items():
        after = watermarks.get(relay, 0)
        if after < settled:
            ahead = Selection(bindings=bindings, relay=relay, after=after, through=settled)
            rows = log.scan(ahead, limit=limit)
            through = rows[-1].position.number if len(rows) == limit else settled
            return Stretch(rows, relay, through)
    return None


def row_at(log: LogReader, position: Position) -> Logged | None:
    """Return the row of a position, or None where the log has none there."""
    relay, number = position
    rows = log.scan(Selection(relay=relay, after=number - 1, through=number), limit=1)
    return rows[0] if rows else None
