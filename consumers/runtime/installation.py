"""Installation: which consumers there are, and readers of the log and of their stores."""

import time
from typing import Protocol

from consumers.runtime.registry import Found, find, taken
from consumers.runtime.store import StoreReader
from consumers.runtime.ways import readers
from events.log import LogReader
from events.settings import Settings


class Readers(Protocol):
    """What is read of one installation; each thread has readers of its own, or shares safe ones."""

    def log(self) -> LogReader | None:
        """Return the event log, or None where no relay has made it yet.

        Raises Outage for what cannot be read, or is being made just now.
        """

    def store(self, name: str) -> StoreReader | None:
        """Return a consumer's store, or None where no worker has made it yet. Raises Outage."""

    def reopen(self) -> None:
        """Let this thread's readers go, after an outage; the next reads open them again."""


class Installation:
    """The consumers of one installation, as the settings say."""

    def __init__(self, settings: Settings, *, rescan_s: float = 1.0) -> None:
        """Look for consumers again when `rescan_s` have passed since the last time."""
        self._settings, self._rescan_s = settings, rescan_s
        self._readers: Readers = readers(settings)
        self._scanned = time.monotonic()
        self._found = find(settings.plugins)

    def found(self) -> dict[str, Found]:
        """Return every consumer by name; runs no stranger's code."""
        now = time.monotonic()
        if now - self._scanned >= self._rescan_s:
            self._scanned = now
            self._found = find(self._settings.plugins)
        return self._found

    def taken(self) -> dict[str, str]:
        """Return, by place, what is not used, because its name is none or is taken, and why."""
        return taken(self._settings.plugins)

    def names(self) -> list[str]:
        """Return the names of all consumers, in order."""
        return sorted(self.found())

    def log(self) -> LogReader | None:
        """Return the event log, or None where no relay has made it yet. Raises Outage."""
        return self._readers.log()

    def store(self, name: str) -> StoreReader | None:
        """Return a consumer's store, or None where no worker has made it yet. Raises Outage."""
        return self._readers.store(name)

    def reopen(self) -> None:
        """Let this thread's readers go, after an outage; the next reads open them again."""
        self._readers.reopen()
