"""The bus in memory: an exchange, and a queue for each consumer; it passes the bus contract."""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count

from events.bus import Batch, Delivery
from events.bus.embedded import EmbeddedSending
from events.log import Appended
from events.topology import wanted


class _Queue:
    """What waits for one consumer; each message that is taken has the next tag."""

    def __init__(self) -> None:
        self.bindings: tuple[str, ...] = ()
        self.waiting: deque[Delivery] = deque()
        self.tags = count(1)


class MemorySubscription:
    """A consumer's end of its queue; what it did not ack comes again once it is closed."""

    problem: str | None = None

    def __init__(self, queue: _Queue, *, size: int) -> None:
        self._queue, self._size = queue, size
        self._in_hand: dict[int, Delivery] = {}

    def batches(self) -> Iterator[Batch]:
        """Yield what waits, at most `size` at once, and an empty batch where nothing does."""
        waiting = self._queue.waiting
        while True:
            taken = [waiting.popleft() for _ in range(min(self._size, len(waiting)))]
            tagged = [delivery._replace(tag=next(self._queue.tags)) for delivery in taken]
            self._in_hand |= {delivery.tag: delivery for delivery in tagged}
            yield Batch(tagged)

    def ack(self, batch: Batch) -> None:
        """Forget what has its fate; after the close there is nothing left to forget."""
        for delivery in batch.deliveries:
            self._in_hand.pop(delivery.tag, None)

    def close(self) -> None:
        """Put back in front what was in hand, as redelivered."""
        back = [one._replace(redelivered=True) for one in self._in_hand.values()]
        self._queue.waiting.extendleft(reversed(back))
        self._in_hand.clear()


class MemoryBus:
    """The exchange with its queues, and the publisher that brings it what the log has."""

    window = 1

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def subscribe(
        self, consumer: str, bindings: Sequence[str], *, size: int = 500
    ) -> MemorySubscription:
        """Open a consumer's queue, which is made where there is none, with these bindings alone."""
        queue = self._queues.setdefault(consumer, _Queue())
        queue.bindings = tuple(bindings)
        return MemorySubscription(queue, size=size)

    def publish(self, events: Sequence[Appended]) -> EmbeddedSending:
        """Give each queue that wants it a copy of each event; confirmed at once."""
        for queue in self._queues.values():
            _enqueue(queue, events)
        return EmbeddedSending(events)

    def send(self, consumer: str, events: Sequence[Appended]) -> None:
        """Give one queue those of the events that it wants, and no other queue anything."""
        _enqueue(self._queues[consumer], events)

    def close(self) -> None:
        """Nothing is open."""


def _enqueue(queue: _Queue, events: Sequence[Appended]) -> None:
    queue.waiting.extend(
        Delivery(event.position, event.routing_key, event.body)
        for event in events
        if wanted(queue.bindings, event.routing_key)
    )
