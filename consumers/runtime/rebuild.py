"""Rebuild: fold the whole log into a new generation beside the live one, then swap."""

import structlog

from consumers.runtime.store import Generation, Store
from consumers.runtime.sweep import Sweep
from consumers.runtime.worker import Worker
from events.log import LogReader

logger = structlog.get_logger(__name__)


class Rebuild:
    """A generation on its way; readers see the live one until the swap."""

    def __init__(
        self,
        log: LogReader,
        store: Store,
        worker: Worker,
        generation: Generation,
        *,
        size: int,
        suspects: int = 0,
    ) -> None:
        self.generation = generation
        self._store = store
        self._sweep = Sweep(log, store, worker, generation, size=size, suspects=suspects)

    def step(self) -> bool:
        """Fold the next part; return False when it has caught up."""
        return self._sweep.step()

    def remaining(self) -> int:
        """Count the events still to be looked at."""
        return self._sweep.remaining()

    def swap(self, live: Generation) -> None:
        """Let readers see it; the one that was live is kept until the next swap."""
        self._store.swap(self.generation.number, expected=live.number)
        logger.info("swapped", action="swapped", generation=self.generation.number)
