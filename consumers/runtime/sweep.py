"""The sweep: scan a range of the log, take out what has a row, fold what is left.

One mechanism for the arrival of a consumer, for rebuild, and for whatever a queue has lost.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from consumers.runtime.store import Generation, Store
from consumers.runtime.worker import Worker
from events.bus import UNREADABLE, Batch
from events.bus.embedded import EmbeddedSubscription
from events.errors import LogRestored, Outage
from events.log import LogReader, Position, Selection, Watermarks, row_at


class Sweep:
    """Folds all that the log has into one generation, some at a time."""

    def __init__(
        self,
        log: LogReader,
        store: Store,
        worker: Worker,
        generation: Generation,
        *,
        size: int,
        suspects: int = 0,
    ) -> None:
        self.generation = generation
        self._log, self._store, self._worker = log, store, worker
        self._cursor = EmbeddedSubscription(
            log,
            generation.bindings,
            start=store.watermarks(generation.number),
            size=size,
            suspects=suspects,
        )
        self._batches: Iterator[Batch] = self._cursor.batches()

    def step(self) -> int | None:
        """Fold the next part, and return how many were applied; None at the end of the log."""
        try:
            batch = next(self._batches)
        except Outage:
            # An exception ends a generator; the cursor knows where to go on.
            self._batches = self._cursor.batches()
            raise
        if not batch.through:
            return None
        applied = self._worker.take(batch)
        self._cursor.ack(batch)
        return applied

    def at_end(self) -> bool:
        """Say whether nothing more is ahead just now."""
        marks = self._store.watermarks(self.generation.number)
        return all(marks.get(relay, 0) >= number for relay, number in self._log.settled().items())

    def remaining(self) -> int:
        """Count the events that were not looked at yet."""
        marks = self._store.watermarks(self.generation.number)
        generation = self.generation
        return remaining(self._log, generation.bindings, marks, since=generation.since)


def remaining(
    log: LogReader,
    bindings: tuple[str, ...],
    marks: Watermarks,
    *,
    since: datetime | None = None,
) -> int:
    """Count the events past the watermarks that the bindings want, accepted at `since` or later."""
    wanted = Selection(bindings=bindings, accepted_from=since)
    return sum(
        log.count(replace(wanted, relay=relay, after=marks.get(relay, 0)))
        for relay, settled in log.settled().items()
        if marks.get(relay, 0) < settled
    )


def check_restored(log: LogReader, marks: Watermarks) -> None:
    """Raise LogRestored where what was seen is beyond what the log has.

    A row may stand beyond what is settled: its relay ended before it could settle it.
    """
    settled = log.settled()
    for relay, number in marks.items():
        if settled.get(relay, 0) < number and not _is_there(log, Position(relay, number)):
            raise LogRestored(
                f"The log ends at {settled.get(relay, 0)} of relay {relay[:8]}, and this consumer "
                f"has seen {number}: the log was restored from an older copy. The relay refills it "
                "from the outbox; then rebuild this consumer: `paceline rebuild NAME`."
            )


def _is_there(log: LogReader, position: Position) -> bool:
    return position.relay == UNREADABLE or row_at(log, position) is not None
