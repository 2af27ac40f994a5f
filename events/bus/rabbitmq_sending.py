"""Events on their way to RabbitMQ, and what the broker has said of each."""

import threading
from collections.abc import Callable, Sequence
from sys import maxsize

from events.log import Appended, Position

_OPEN, CONFIRMED, REFUSED = b"\0", b"\1", b"\2"


class RabbitSending:
    """Events on their way; the publisher's thread writes what the broker says of each."""

    def __init__(self, events: Sequence[Appended], wait: "Callable[[RabbitSending], None]") -> None:
        self.events = events
        self.first = maxsize  # the tag of its first event, once it is sent
        self.done = threading.Event()
        self._wait = wait
        self._fates = bytearray(len(events))
        self._left = len(events)
        if not events:
            self.done.set()

    def confirmed(self) -> list[Position]:
        """Wait for the confirms, and return the positions that have theirs.

        It waits as long as the broker confirms anything within the deadline.
        """
        self._wait(self)
        return [
            event.position
            for event, fate in zip(self.events, bytes(self._fates), strict=True)
            if fate == CONFIRMED[0]
        ]

    def tell(self, tag: int, *, multiple: bool, fate: bytes) -> None:
        """Write the fate of a tag, or of all up to it; those that have one keep it."""
        end = min(tag - self.first + 1, len(self.events))
        start = 0 if multiple else end - 1
        told = self._fates[start:end]
        self._left -= told.count(_OPEN)
        self._fates[start:end] = told.replace(_OPEN, fate)
        if not self._left:
            self.done.set()
