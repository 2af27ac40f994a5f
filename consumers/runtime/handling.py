"""Handling: strangers' code that talks to the outside world, several calls at a time."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Barrier
from typing import Any

from consumers.runtime.folding import Folded, Load
from consumers.runtime.guard import Guard
from consumers.runtime.reacting import is_history
from events.envelope import Event

_LOOK_EVERY_S = 0.05


class Quiet(Exception):
    """It is of history, which notifies nobody."""

    discard = True


class Handling:
    """Calls a handler for each event of a batch; one that is late ends the process.

    A call that hangs cannot be ended in any other way. What was in flight beside it is called
    again, alone: at least once is what a handler promises.
    """

    def __init__(self, handler: Any, *, concurrency: int, deadline_s: float) -> None:
        self._handler, self._deadline_s = handler, deadline_s
        self._done: set[str] = set()
        self._pool = _started(concurrency)

    def __call__(
        self, events: Sequence[Event], load: Load, *, guard: Guard, deadline_s: float
    ) -> Folded:
        """Return which events failed; `deadline_s` is for folds, a handler has its own."""
        quiet = {} if getattr(self._handler, "history", False) else self._quiet(events)
        # What was called for and could not be committed comes again at once, and for as long as
        # there is no room: the outside world shall hear of it once.
        done = self._done & {event.id for event in events}
        since: dict[int, float] = {}
        pauses: list[BaseException] = []

        def call(place: int) -> None:
            if pauses:  # the other end is to be left alone: not begun, and no attempt spent
                raise pauses[0]
            since[place] = time.monotonic()
            try:
                self._handler.handle(events[place])
            except BaseException as error:
                if _pauses(error):
                    pauses.append(error)
                raise
            finally:
                del since[place]

        calls = {
            self._pool.submit(call, place): place
            for place in range(len(events))
            if place not in quiet and events[place].id not in done
        }
        self._await(calls, since, guard)
        ended = {place: one.exception() for one, place in calls.items()}
        failures = {place: error for place, error in ended.items() if error is not None}
        self._done = done | {events[place].id for place in ended.keys() - failures.keys()}
        return Folded([], {**quiet, **failures}, [])

    def _quiet(self, events: Sequence[Event]) -> dict[int, BaseException]:
        return {place: Quiet(Quiet.__doc__) for place, one in enumerate(events) if is_history(one)}

    def _await(self, calls: dict[Future[None], int], since: dict[int, float], guard: Guard) -> None:
        pending = set(calls)
        while pending:
            done, pending = wait(pending, timeout=_LOOK_EVERY_S)
            for one in done:
                if isinstance(error := one.exception(), MemoryError):
                    _leave(error, guard)
            begun = min(list(since.values()), default=time.monotonic())
            if time.monotonic() - begun > self._deadline_s:
                guard.expire(self._deadline_s)


def _pauses(error: BaseException) -> bool:
    # What is discarded as well is so for its own event, and would be for all that share the error.
    return getattr(error, "pause", False) and not getattr(error, "discard", False)


def _started(concurrency: int) -> ThreadPoolExecutor:
    """Return a pool with all of its threads.

    Their stacks are memory that a worker has at its start, and not what it may grow by.
    """
    pool, all_there = ThreadPoolExecutor(concurrency, "handle"), Barrier(concurrency + 1)
    for _ in range(concurrency):
        pool.submit(all_there.wait)
    all_there.wait()
    return pool


def _leave(error: MemoryError, guard: Guard) -> None:
    """End the process as a fold does, at once: what else is in flight may hang."""
    try:
        raise error
    except MemoryError:
        guard.leave()
