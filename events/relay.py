"""The relay: sources -> log -> exchange, a process of its own, and the only writer of the log."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from events.bus import Publisher, Sending
from events.errors import Outage, Refused, Undecodable
from events.log import Appended, EventLog, Outcome, Position
from events.patience import Patience
from events.sources import Bookmark, Bookmarks, Row, Source, Stuck

logger = structlog.get_logger(__name__)
BATCH = 1_000
UNCONFIRMED_S = 30.0
_ASK_EVERY_S = 1.0


class _Flight(NamedTuple):
    """A batch that is logged, handed to the exchange, and not known to be confirmed."""

    source: str
    first: int
    last: Row
    events: Sequence[Appended]
    sending: Sending


class Relay:
    """Carries rows on in batches: log before exchange, confirm before the bookmark moves.

    While the exchange confirms one batch, the next is logged: as many are on their way as the
    publisher's window allows, and they land in their order.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        log: EventLog,
        publisher: Publisher,
        bookmarks: Bookmarks,
        *,
        patience: Patience,
        further: Callable[[], Sequence[Source]] = tuple,
        unconfirmed_s: float = UNCONFIRMED_S,
    ) -> None:
        """Carry `sources`, and what `further` gives, which is asked again every second.

        What the exchange takes and does not confirm within `unconfirmed_s` holds up nothing else.
        """
        self._sources = sources
        self._ask, self._further, self._ask_at = further, list[Source](), 0.0
        self._log, self._publisher, self._bookmarks = log, publisher, bookmarks
        self._patience = patience
        self._at: dict[str, int] = {}
        self._flights: deque[_Flight] = deque()
        self._former: set[str] = set()
        self._hope_s = self._unconfirmed_s = unconfirmed_s
        self._owed: dict[str, int] = {}
        self._back_at = 0.0
        for source in sources:
            self._begin(source)

    def _begin(self, source: Source) -> None:
        if source.source_id not in self._at:
            self._at[source.source_id] = self._start(source)
            self._former.add(source.source_id)

    def _start(self, source: Source) -> int:
        mark = self._bookmarks.load(source.source_id)
        if mark is None:
            return 0
        if source.event_id_at(mark.row) != mark.event_id:
            logger.warning("bookmark does not match: reading again", action="relay_from_first")
            return 0
        return mark.row

    def close(self) -> None:
        """Let the way out go."""
        self._publisher.close()

    def again(self, row: int) -> None:
        """Read every source again from `row` on: refills a log that was restored from a copy."""
        self._at = dict.fromkeys(self._at, row - 1)

    def run(self) -> None:
        """Carry on until stopped; an outage pauses, and loses nothing."""
        while not self._patience.stopped:
            try:
                moved = self.step()
            except Outage as outage:
                logger.warning("paused", action="relay_paused", reason=str(outage))
                moved = 0
            if moved:
                self._patience.reset()
            else:
                self._patience.wait()

    def step(self) -> int:
        """Carry one batch of each source on; return how many rows were moved."""
        try:
            self._look_for_further()
            return sum(self._carry(source) for source in [*self._sources, *self._further])
        except Outage:
            self._turn_back()
            raise

    def _look_for_further(self) -> None:
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_EVERY_S
            self._further = [source for source in self._ask() if self._is_begun(source)]

    def _is_begun(self, source: Source) -> bool:
        """Find the bookmark in a further source, and say whether it can be read at all just now."""
        try:
            self._begin(source)
        except Outage as outage:
            _say_left(outage)
            return False
        return True

    def _turn_back(self) -> None:
        """Read again what has not landed: it is logged, and nobody knows whether in a queue."""
        for flight in reversed(self._flights):
            self._at[flight.source] = flight.first - 1
        self._flights.clear()

    def _carry(self, source: Source) -> int:
        rows = self._rows(source)
        if rows is None:
            return 0
        if rows:
            self._take_off(source, rows)
        while len(self._flights) > (self._publisher.window if rows else 0):
            self._land()
        if not rows:
            self._settle_former(source)
            if source.source_id in self._owed and time.monotonic() >= self._back_at:
                self._go_back(source.source_id)
        return len(rows)

    def _rows(self, source: Source) -> list[Row] | None:
        """Return the next rows; None of a further source that cannot be read just now.

        It holds up no other one, and is not at its end.
        """
        try:
            return source.rows(self._at[source.source_id], limit=BATCH)
        except Outage as outage:
            if source not in self._further:
                raise
            self._further.remove(source)  # until it is asked for again
            _say_left(outage)
            return None

    def _take_off(self, source: Source, rows: Sequence[Row]) -> None:
        appended = self._append(source, rows)
        events = [event for event in appended if event.outcome is not Outcome.CONFLICT]
        sending = self._publisher.publish(events)
        flight = _Flight(source.source_id, rows[0].number, rows[-1], events, sending)
        self._flights.append(flight)
        self._at[source.source_id] = flight.last.number

    def _land(self) -> None:
        """Have the oldest flight confirmed; only then the bookmark moves."""
        flight = self._flights[0]
        landed = self._is_confirmed(flight)
        self._flights.popleft()
        if not landed:
            self._owed.setdefault(flight.source, flight.first)
            self._back_at = time.monotonic() + UNCONFIRMED_S
        elif flight.source in self._owed:
            self._go_back(flight.source)
        else:
            last = flight.last
            self._bookmarks.save(Bookmark(flight.source, last.number, last.event.id))

    def _is_confirmed(self, flight: _Flight) -> bool:
        """Send again what is not confirmed, for a while; say whether all is.

        One queue without a leader holds back the confirm of what all others have long had. So the
        relay goes on to log and to publish what comes, and its bookmark stays where it is.
        """
        since = time.monotonic()
        unsent, sending = flight.events, flight.sending
        while unsent := _without(sending.confirmed(), unsent):
            if time.monotonic() - since >= self._unconfirmed_s:
                self._unconfirmed_s = 0.0
                logger.error("not confirmed", action="relay_unconfirmed", events=len(unsent))
                return False
            sending = self._publisher.publish(unsent)
        self._unconfirmed_s = self._hope_s
        return True

    def _go_back(self, source: str) -> None:
        """Send again all from the first row on that was never confirmed."""
        self._turn_back()
        self._at[source] = self._owed.pop(source) - 1

    def _settle_former(self, source: Source) -> None:
        """Once all that former relays may have had in hand was appended again, they are settled."""
        if source.source_id in self._former:
            self._log.settle_former(source.source_id)
            self._former.discard(source.source_id)

    def _append(self, source: Source, rows: Sequence[Row]) -> list[Appended]:
        try:
            return self._log.append([row.event for row in rows], source=source.source_id)
        except (Refused, Undecodable) as refusal:
            if len(rows) == 1:
                self._set_aside(source, rows[0], str(refusal))
                return []
        middle = len(rows) // 2
        return self._append(source, rows[:middle]) + self._append(source, rows[middle:])

    def _set_aside(self, source: Source, row: Row, reason: str) -> None:
        logger.error("stuck row", action="relay_stuck", event_id=row.event.id, reason=reason)
        event = row.event
        stuck = Stuck(source.source_id, row.number, event.id, reason, event.body)
        self._bookmarks.set_aside(stuck)


def _say_left(outage: Outage) -> None:
    logger.warning("source left", action="source_left", reason=str(outage))


def _without(confirmed: Sequence[Position], events: Sequence[Appended]) -> list[Appended]:
    known = set(confirmed)
    return [event for event in events if event.position not in known]
