"""Away: a consumer that stands still lets its queue go before that fills the broker.

A full broker stops everybody. What the queue had is in the log, and comes from there later.
"""

import time
from enum import StrEnum

import structlog

from consumers.runtime.parts import Parts

logger = structlog.get_logger(__name__)
_LOOK_EVERY_S = 30.0


class Queued(StrEnum):
    """What is to be done with the subscription."""

    STAYS = "stays"
    GOES = "goes"
    COMES_BACK = "comes-back"


class Away:
    """Watches the queue of a consumer that stands still."""

    def __init__(self, parts: Parts) -> None:
        self._queue, self._bound = parts.queue, parts.detach_at
        self._name = parts.loaded.name
        self._look_at = 0.0
        self.detached = False

    def check(self, *, away: bool) -> Queued:
        """Say whether the queue has grown past its bound, or must be made again.

        Whoever is told that it goes lets the subscription go, which would make it again, and then
        calls `detach`.
        """
        if self._queue is None:
            return Queued.STAYS
        if not away:
            return Queued.COMES_BACK if self.detached else Queued.STAYS
        if time.monotonic() < self._look_at:
            return Queued.STAYS
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        # Also of one that was let go: it may not have been deleted, or somebody made it again.
        return Queued.GOES if (self._queue.length() or 0) > self._bound else Queued.STAYS

    def detach(self) -> None:
        """Take the queue away; what it had is in the log."""
        self.detached = True
        if self._queue is not None:
            self._queue.delete()
        logger.warning("detached", action="detached", consumer=self._name)
