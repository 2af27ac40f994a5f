"""How long to wait for what comes by itself: short while things happen, longer when idle."""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

import structlog

from events.errors import Outage

logger = structlog.get_logger(__name__)
T = TypeVar("T")


class Patience:
    """Waits that grow from `least_s` to `most_s`, and start again at the least after `reset`.

    Polling a file that is in memory costs some microseconds, survives every crash, and needs no
    message that could be lost; so nothing here wakes anybody.
    """

    def __init__(self, *, least_s: float = 0.002, most_s: float = 0.05) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._next_s = least_s
        # Not an Event: `stop` is called by signal handlers, in the middle of a wait, and only a
        # SimpleQueue may be used so.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._stopped = False

    def reset(self) -> None:
        """Something happened: the next wait is the shortest."""
        self._next_s = self._least_s

    def wait(self) -> None:
        """Wait, each time a little longer; at once over when stopped."""
        if self._stopped:
            return
        with suppress(Empty):
            self._bell.get(timeout=self._next_s)
        self._next_s = min(self._next_s * 1.3, self._most_s)

    def stop(self) -> None:
        """End the present wait and all later ones."""
        self._stopped = True
        self._bell.put(None)

    def until_made(self, make: Callable[[], T]) -> T | None:
        """Return what `make` returns when it does not raise Outage any more; None when stopped."""
        told = ""
        while not self.stopped:
            try:
                return make()
            except Outage as outage:
                if str(outage) != told:
                    told = str(outage)
                    logger.info("waiting", action="waiting", reason=told)
                self.wait()
        return None

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped
