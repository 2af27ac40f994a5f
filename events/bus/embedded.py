"""The embedded bus: the log is the exchange and the queues, a subscription is a cursor over it."""

import time
from collections.abc import Iterator, Sequence

from events.bus import Batch, Delivery
from events.log import Appended, LogReader, Position, Stretch, Watermarks, stretch_ahead

_FIRST = 500
_SHORT_S, _LONG_S = 0.25, 1.0


class EmbeddedSending:
    """Is confirmed at once: the log has the events."""

    def __init__(self, events: Sequence[Appended]) -> None:
        self._events = events

    def confirmed(self) -> list[Position]:
        """Return every position."""
        return [event.position for event in self._events]


class EmbeddedPublisher:
    """Has nothing to carry: what is in the log can be read by every subscription."""

    window = 0

    def publish(self, events: Sequence[Appended]) -> EmbeddedSending:
        """Take them as they are: the log has them."""
        return EmbeddedSending(events)

    def close(self) -> None:
        """Nothing is open."""


class EmbeddedSubscription:
    """A cursor over the log with a topic filter; it begins where the consumer's store is."""

    problem: str | None = None

    def __init__(
        self,
        log: LogReader,
        bindings: Sequence[str],
        *,
        start: Watermarks,
        size: int,
        suspects: int = 0,
    ) -> None:
        """Read from `start` on, at most `size` at once; the first `suspects` are redelivered.

        The log does not know what a worker had in its hands when it ended; whoever knows that it
        did not end cleanly says how many that can have been.
        """
        self._log, self._bindings, self._most = log, bindings, size
        self._size = min(_FIRST, size)
        self._taken_at = time.monotonic()
        self._acked = dict(start)
        self._suspects = suspects

    def batches(self) -> Iterator[Batch]:
        """Yield what is past the cursor, and an empty batch at the end of the log."""
        while True:
            stretch = stretch_ahead(self._log, self._acked, self._bindings, limit=self._size)
            self._taken_at = time.monotonic()
            yield Batch() if stretch is None else self._batch(stretch)

    def _batch(self, stretch: Stretch) -> Batch:
        deliveries = [
            Delivery(row.position, row.routing_key, row.body, place < self._suspects)
            for place, row in enumerate(stretch.rows)
        ]
        return Batch(deliveries, {stretch.relay: stretch.through})

    def ack(self, batch: Batch) -> None:
        """Move the cursor past the batch."""
        self._acked.update(batch.through)
        self._suspects = max(0, self._suspects - len(batch.deliveries))
        self._fit(time.monotonic() - self._taken_at, full=len(batch.deliveries) == self._size)

    def _fit(self, took_s: float, *, full: bool) -> None:
        """Take more at once from a consumer that is fast, less from one that is slow.

        A long batch shares a commit among many events; one that takes seconds keeps requests
        waiting, and comes near the deadline of a fold that is not at fault.
        """
        if full and took_s < _SHORT_S:
            self._size = min(self._size * 2, self._most)
        elif took_s > _LONG_S:
            self._size = max(self._size // 2, 1)

    def close(self) -> None:
        """Nothing is open."""
