"""The desk: what was asked of a consumer, carried on a step at a time, each to its end."""

import time
from collections.abc import Callable, Iterator

from consumers.runtime.control import Control, Request
from events.errors import Outage, PacelineError

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
        self._running = {one.id: self._running.get(one.id) or start(one) for one in requests}
        for request_id, steps in list(self._running.items()):
            self._step(request_id, steps)
        return bool(self._running)

    def _step(self, request_id: int, steps: Iterator[None]) -> None:
        try:
            next(steps)
        except StopIteration:
            del self._running[request_id]
        except Outage:
            # Begun again from what it remembers, when the store or the log is back.
            del self._running[request_id]
            raise
        except PacelineError as error:
            del self._running[request_id]
            self._control.finish(request_id, answer={"error": str(error)}, failed=True)
