"""Rebuild: fold the whole log into a new generation beside the live one, then swap."""

import structlog

from consumers.runtime.store import Generation
from consumers.runtime.sweep import Sweep

logger = structlog.get_logger(__name__)


class Rebuild(Sweep):
    """A generation on its way; readers see the live one until the swap."""

    def swap(self, live: Generation) -> None:
        """Let readers see it; the one that was live is kept until the next swap."""
        self._store.swap(self.generation.number, expected=live.number)
        logger.info("swapped", action="swapped", generation=self.generation.number)
