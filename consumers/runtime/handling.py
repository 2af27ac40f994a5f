"""Handling: strangers' code that talks to the outside world, several calls at a time."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="handle")

    def __call__(
        self, events: Sequence[Event], load: Load, *, guard: Guard, deadline_s: float
    ) -> Folded:
        """Return which events failed; `deadline_s` is for folds, a handler has its own."""
        quiet = {} if getattr(self._handler, "history", False) else self._quiet(events)
        since: dict[int, float] = {}

        def call(place: int) -> None:
            since[place] = time.monotonic()
            try:
                self._handler.handle(events[place])
            finally:
                del since[place]

        calls = {
            self._pool.submit(call, place): place
            for place in range(len(events))
            if place not in quiet
        }
        self._await(calls, since, guard)
        failures = {place: error for one, place in calls.items() if (error := one.exception())}
        return Folded([], {**quiet, **failures}, [])

    def _quiet(self, events: Sequence[Event]) -> dict[int, BaseException]:
        return {place: Quiet(Quiet.__doc__) for place, one in enumerate(events) if is_history(one)}

    def _await(self, calls: dict[Future[None], int], since: dict[int, float], guard: Guard) -> None:
        pending = set(calls)
        while pending:
            done, pending = wait(pending, timeout=_LOOK_EVERY_S)
            if any(isinstance(one.exception(), MemoryError) for one in done):
                raise MemoryError
            begun = min(list(since.values()), default=time.monotonic())
            if time.monotonic() - begun > self._deadline_s:
                guard.expire(self._deadline_s)
