"""Replication: where the disk of this host is not to be trusted, 202 waits for the log."""

import time
from collections.abc import Callable, Sequence
from threading import Lock

from events.errors import Outage
from producer.outbox import Accepted
from producer.outbox_reader import OutboxReader

WITHIN_S = 5.0
_LOOK_EVERY_S = 0.003


class Replication:
    """Waits until the relay's bookmark has passed an event: logged by a majority, and confirmed."""

    def __init__(
        self,
        reader: OutboxReader,
        passed: Callable[[str], int | None],
        *,
        within_s: float = WITHIN_S,
    ) -> None:
        self._reader, self._tell = reader, passed
        self._within_s = within_s
        self._passed = 0
        self._looking = Lock()

    def wait(self, accepted: Sequence[Accepted]) -> None:
        """Return when all of them are replicated; raises Outage when that takes too long.

        They stay accepted, so whoever sends them again waits for the same rows.
        """
        found = [self._reader.remembered(one.event_id) for one in accepted]
        row = max(one.row for one in found if one is not None)
        deadline = time.monotonic() + self._within_s
        while self._passed < row:
            if time.monotonic() >= deadline:
                raise Outage(
                    f"It is on this host's disk, and not replicated within {self._within_s:g} s; "
                    "send it again later."
                )
            self._look(row)

    def _look(self, row: int) -> None:
        with self._looking:  # one looks, and the others see what it saw
            if self._passed < row:
                self._passed = max(self._passed, self._tell(self._reader.source_id) or 0)
            if self._passed < row:
                time.sleep(_LOOK_EVERY_S)
