"""Away: a consumer that stands still lets its queue go before that fills the broker.

A full broker stops everybody. What the queue had is in the log, and comes from there later.
"""

import time

import structlog

from consumers.runtime.parts import Parts

logger = structlog.get_logger(__name__)
_LOOK_EVERY_S = 30.0


class Away:
    """Watches the queue of a consumer that stands still."""

    def __init__(self, parts: Parts) -> None:
        self._queue, self._bound = parts.queue, parts.detach_at
        self._name = parts.loaded.name
        self._look_at = 0.0
        self._detached = False

    def check(self, *, away: bool) -> bool:
        """Detach where the queue has grown past its bound; return whether it must be made again."""
        if self._queue is None:
            return False
        if not away:
            back, self._detached = self._detached, False
            return back
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._look()
        return False

    def _look(self) -> None:
        length = self._queue.length() if self._queue is not None else None
        if self._queue is not None and length is not None and length > self._bound:
            self._queue.delete()
            self._detached = True
            logger.warning("detached", action="detached", consumer=self._name, events=length)
