"""How much the outbox may hold, and what of it may go: only what the relay has carried on."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw
import structlog

from events.errors import PacelineError
from events.sqlite import fetch_one, writing

logger = structlog.get_logger(__name__)
KEEP_S = 7 * 24 * 3600
PRUNE_EVERY_S = 5.0
PRUNED_AT_ONCE = 1_000
LOOK_EVERY_S = 0.02


class OutboxFull(PacelineError):
    """The outbox is over its bound, or the disk is low: come again later."""


class Bounds(NamedTuple):
    """How much may wait for the relay, and what disk is kept free to finish what was accepted."""

    waiting_bytes: int = 1 << 30
    free_bytes: int = 256 << 20


DEFAULT_BOUNDS = Bounds()


class Room:
    """Used by the thread that commits; `fullness` may be asked by any.

    Each row keeps the sum of all payloads up to it, so that what waits is one subtraction.
    """

    def __init__(
        self, db: apsw.Connection, path: Path, *, bounds: Bounds, passed: Callable[[], int | None]
    ) -> None:
        self._db, self._path, self._bounds, self._passed = db, path, bounds, passed
        self.total = self._total_through(1 << 62)
        # Until somebody can tell how far the relay is, nothing that was there before us waits.
        self._passed_total = self.total
        self._free = 0
        self._prune_at = self._look_at = 0.0
        self.prune_when_due()

    def _total_through(self, row: int) -> int:
        """Return the sum through a row, or before the first that is remembered."""
        sql = (
            "SELECT coalesce((SELECT total FROM outbox WHERE row <= ? ORDER BY row DESC LIMIT 1),"
            " (SELECT total - coalesce(length(body), 0) FROM outbox ORDER BY row LIMIT 1), 0)"
        )
        return int(fetch_one(self._db, sql, (row,)))

    def fullness(self) -> OutboxFull | None:
        """Return why nothing new can be accepted, or None."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._free = shutil.disk_usage(self._path.parent).free
        waiting = self.total - self._passed_total
        # What waits is still to be written twice: into the log, and into what consumers keep of it.
        if self._free < self._bounds.free_bytes + 2 * waiting:
            reason = f"The disk has {self._free >> 20} MiB left; nothing new is accepted."
        elif waiting > self._bounds.waiting_bytes:
            reason = f"{waiting >> 20} MiB wait for the relay; nothing new is accepted."
        else:
            return None
        self._prune_at = 0.0
        return OutboxFull(reason)

    def prune_when_due(self) -> None:
        """Learn how far the relay is, and let go of what nobody needs; waits for another time."""
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_EVERY_S
        try:
            row = self._passed()
            if row is not None:
                self._passed_total = self._total_through(row)
                self._prune(row)
        except Exception as error:  # noqa: BLE001  # what was accepted is; there is another time
            logger.warning("not pruned", action="outbox_prune", reason=repr(error))

    def _prune(self, passed: int) -> None:
        oldest = (
            f"SELECT row, accepted_at FROM outbox WHERE row < ? ORDER BY row LIMIT {PRUNED_AT_ONCE}"
        )
        sql = f"DELETE FROM outbox WHERE row IN (SELECT row FROM ({oldest}) WHERE accepted_at < ?)"
        with writing(self._db, f"outbox {self._path}"):
            self._db.execute(sql, (passed, int((time.time() - KEEP_S) * 1000)))
            if self._db.changes() == PRUNED_AT_ONCE:
                self._prune_at = 0.0
            if shutil.disk_usage(self._path.parent).free < 2 * self._bounds.free_bytes:
                self._drop_payloads(passed)

    def _drop_payloads(self, passed: int) -> None:
        dropped = int(fetch_one(self._db, "SELECT dropped FROM identity"))
        through = min(passed, dropped + 5_000)
        if through > dropped:
            sql = "UPDATE outbox SET body = NULL WHERE row > ? AND row <= ?"
            self._db.execute(sql, (dropped, through))
            self._db.execute("UPDATE identity SET dropped = ?", (through,))
