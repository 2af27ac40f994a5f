"""Healing: a sweep of what is not young any more, and should have come by the queue.

It fills a new consumer with the past, and whatever a queue, a binding or a broker has lost.
"""

import time
from collections.abc import Callable

import structlog

from consumers.runtime.operations import delivered
from consumers.runtime.parts import Parts
from consumers.runtime.store import Generation
from consumers.runtime.sweep import Sweep
from consumers.runtime.worker import Worker
from events.bus import Batch
from events.log import Position
from events.log.aged import Aged
from events.topology import wanted

logger = structlog.get_logger(__name__)
HEALED = "healed"
YOUNG_S = 5.0
_WAITS_AT_MOST_S = 15.0
_LEFT_EVERY_S = 10.0
_LEFT_AT_ONCE = 10_000


class Healing:
    """The leader's sweep of the live generation, where a broker stands between the log and us."""

    def __init__(self, parts: Parts, worker_of: Callable[[Generation], Worker]) -> None:
        self._parts, self._store, self._worker_of = parts, parts.store, worker_of
        self._sweep: Sweep | None = None
        self._arrived = False
        self._next_at = 0.0
        self._left: set[Position] = set()
        self._left_at = 0.0
        self._looks = 0

    def begin(self, live: Generation, *, suspects: int) -> None:
        """Sweep a generation from its watermarks on; the first `suspects` go alone."""
        arrives = not self._store.watermarks(live.number)
        log = Aged(self._parts.log, age_s=YOUNG_S, first_at_once=arrives)
        worker, size = self._worker_of(live), self._parts.batch
        self._sweep = Sweep(log, self._store, worker, live, size=size, suspects=suspects)
        self._arrived = not arrives
        self._looks = 0

    def stop(self) -> None:
        """Another worker leads, and goes on with it."""
        self._sweep = None

    def step(self, *, busy: bool) -> bool:
        """Look at the next part of the log; return whether anything was done.

        While the queue is `busy`, what is missing is most likely still in it: it is looked for all
        the same, and seldom.
        """
        if self._sweep is None or (busy and time.monotonic() < self._next_at):
            return False
        self._next_at = time.monotonic() + _WAITS_AT_MOST_S
        applied = self._sweep.step()
        if applied is None:
            self._arrived = True
            return self._take_what_was_left(self._sweep.generation)
        if self._arrived and not busy:
            self._count(applied)
        if not self._arrived:
            self._arrived = self._sweep.at_end()
        return True

    def _count(self, applied: int) -> None:
        """Count what no queue brought: without a fault of the broker it is nothing."""
        if applied:
            healed = int(self._store.mark(HEALED) or 0) + applied
            self._store.set_mark(HEALED, str(healed))
            name = self._parts.loaded.name
            logger.warning("no queue brought it", action="healed", consumer=name, events=applied)

    def _take_what_was_left(self, live: Generation) -> bool:
        """Fold what stood unsettled already at the last look: the relay that left it is gone."""
        if time.monotonic() < self._left_at:
            return False
        self._left_at = time.monotonic() + _LEFT_EVERY_S
        # The first two looks are for relays that have been silent for long, too.
        rows = self._parts.log.unsettled(limit=_LEFT_AT_ONCE, lately=self._looks > 1)
        self._looks += 1
        old = [
            delivered(row)
            for row in rows
            if row.position in self._left and wanted(live.bindings, row.routing_key)
        ]
        self._left = {row.position for row in rows}
        applied = self._worker_of(live).take(Batch(old)) if old else 0
        self._count(applied)
        return bool(applied)
