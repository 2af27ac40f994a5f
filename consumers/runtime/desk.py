"""The desk: what was asked of a consumer, carried on a step at a time, each to its end."""

import time
from collections.abc import Callable, Iterator

import structlog

from consumers.runtime.control import Control, Request
from consumers.runtime.guard import Swollen
from events.errors import Outage, PacelineError

logger = structlog.get_logger(__name__)
_LOOK_EVERY_S = 0.2
Start = Callable[[Request], Iterator[None]]


class Desk:
    """The open requests of one consumer, as its worker sees them."""

    def __init__(self, control: Control, consumer: str) -> None:
        self._control, self._consumer = control, consumer
        self._running: dict[int, Iterator[None]] = {}
        self._look_at = 0.0

    def serve(self, start: Start) -> bool:
        """Carry each open request one step on; say whether there is more to do.

        One that is cancelled is not carried on. One that fails says why, and ends.
        """
        if time.monotonic() < self._look_at and not self._running:
            return False
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        requests = self._control.open(self._consumer)
        self._running = {
            one.id: self._running[one.id] for one in requests if one.id in self._running
        }
        for request in requests:
            self._step(request, start)
        return bool(self._running)

    def begin_again(self) -> None:
        """Have every request begin again from what it remembers: its generation is not live now."""
        self._running.clear()

    def _step(self, request: Request, start: Start) -> None:
        try:
            steps = self._running.pop(request.id, None) or start(request)
            next(steps)
        except StopIteration:
            return
        except (Outage, MemoryError, Swollen):
            # Begun again from what it remembers, when the store or the log is back.
            raise
        except PacelineError as error:
            self._control.finish(request.id, answer={"error": str(error)}, failed=True)
        except Exception as error:
            # Left open, it would be begun again by the next worker, and end that one too.
            logger.exception("operation failed", action=request.verb, operation=request.id)
            reason = f"{type(error).__name__}: {error}"
            self._control.finish(request.id, answer={"error": reason}, failed=True)
        else:
            self._running[request.id] = steps
