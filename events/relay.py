"""The relay: sources -> log -> exchange, a process of its own, and the only writer of the log."""

from collections.abc import Sequence

import structlog

from events.bus import Publisher
from events.errors import Outage, Refused, Undecodable
from events.log import Appended, EventLog, Outcome
from events.patience import Patience
from events.sources import Bookmark, Bookmarks, Row, Source, Stuck

logger = structlog.get_logger(__name__)
BATCH = 500


class Relay:
    """Carries rows on in batches: log before exchange, confirm before the bookmark moves."""

    def __init__(
        self,
        sources: Sequence[Source],
        log: EventLog,
        publisher: Publisher,
        bookmarks: Bookmarks,
        *,
        patience: Patience,
    ) -> None:
        self._sources = sources
        self._log, self._publisher, self._bookmarks = log, publisher, bookmarks
        self._patience = patience
        self._at = {source.source_id: self._start(source) for source in sources}

    def _start(self, source: Source) -> int:
        mark = self._bookmarks.load(source.source_id)
        if mark is None:
            return 0
        if source.event_id_at(mark.row) != mark.event_id:
            logger.warning("bookmark does not match: reading again", action="relay_from_first")
            return 0
        return mark.row

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
        return sum(self._carry(source) for source in self._sources)

    def _carry(self, source: Source) -> int:
        rows = source.rows(self._at[source.source_id], limit=BATCH)
        if not rows:
            return 0
        self._publish(self._append(source, rows))
        last = rows[-1]
        self._bookmarks.save(Bookmark(source.source_id, last.number, last.event.id))
        self._at[source.source_id] = last.number
        return len(rows)

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

    def _publish(self, appended: Sequence[Appended]) -> None:
        unsent = [event for event in appended if event.outcome is not Outcome.CONFLICT]
        while unsent:
            confirmed = set(self._publisher.publish(unsent))
            unsent = [event for event in unsent if event.position not in confirmed]
