"""Reading: what all reads of a consumer's documents share, a plug-in's and the platform's."""

import os
import time
from collections.abc import Callable
from threading import BoundedSemaphore, Thread
from typing import Any

import structlog
from flask import Response

from consumers import Documents
from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import NotServed, answer, problem
from consumers.runtime.query.waiting import Waiting
from consumers.runtime.store import Generation
from events.errors import PacelineError

logger = structlog.get_logger(__name__)
FATE_HEADER = "Paceline-Fate"
LONGEST_READ_S = 30.0
READ_HANGS = 71
Look = Callable[[Documents, Generation], Any]


class Reading:
    """Waits for a write, takes one of the consumer's seats, and looks at one moment."""

    def __init__(self, installation: Installation, *, seats: int = 4) -> None:
        """Let one consumer hold at most `seats` threads, which is a quarter of them."""
        self._installation, self._count = installation, seats
        self._waiting = Waiting(installation)
        self._seats: dict[str, BoundedSemaphore] = {}
        self._reads: set[tuple[float, str]] = set()
        Thread(target=self._watch, name="watch", daemon=True).start()

    def answer(self, name: str, given: dict[str, str], look: Look) -> Response:
        """Answer with what `look` makes of the documents; `given` may hold `after` and `wait`."""
        fate = self._waiting.fate(name, given)
        seats = self._seats.setdefault(name, BoundedSemaphore(self._count))
        if not seats.acquire(blocking=False):
            raise NotServed("busy", f"All seats for reading {name} are taken.")
        try:
            response = self._timed(name, look)
        finally:
            seats.release()
        if fate is not None:
            response.headers[FATE_HEADER] = fate
        return response

    def _timed(self, name: str, look: Look) -> Response:
        """Answer, watched: a read that hangs holds a seat, and a moment that no file can pass."""
        begun = (time.monotonic(), name)
        self._reads.add(begun)
        try:
            return self._guarded(name, look)
        finally:
            self._reads.discard(begun)

    def _watch(self) -> None:
        while True:
            time.sleep(1.0)
            oldest, name = min(self._reads.copy(), default=(time.monotonic(), ""))
            if time.monotonic() - oldest > LONGEST_READ_S:
                logger.error("read hangs: starting anew", action="read_hangs", consumer=name)
                os._exit(READ_HANGS)

    def _guarded(self, name: str, look: Look) -> Response:
        """Run what may be a stranger's code: whatever it raises is an answer, and nobody else's."""
        try:
            return self._looked(name, look)
        except PacelineError:
            raise
        except (Exception, SystemExit):
            logger.exception("read failed", action="read_failed", consumer=name)
            return problem("internal", f"The consumer {name} failed to answer; its log says why.")

    def _looked(self, name: str, look: Look) -> Response:
        store = self._installation.store(name)
        if store is None:
            raise NotServed("unavailable", f"The consumer {name} has not started yet.")
        with store.moment():
            live = store.live()
            if live is None:
                raise NotServed("unavailable", f"The consumer {name} has not started yet.")
            try:
                value = look(store.documents(live.number), live)
            except LookupError as error:
                return problem("not-found", _message(error))
            except ValueError as error:
                return problem("invalid-query", _message(error))
            except OverflowError as error:  # of a date or a number that the client gave
                return problem("invalid-query", f"A value is out of range: {error}.")
        return answer(value)


def _message(error: Exception) -> str:
    # A KeyError's own text is the repr of its message.
    return str(error.args[0]) if len(error.args) == 1 else str(error)
