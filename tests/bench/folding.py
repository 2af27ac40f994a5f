"""The real calories from a real log into a real store, as its worker does it; for fold and growth.

Only the process around it is missing: bounds on memory, turns, requests.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from consumers.calories import Calories
from consumers.runtime.fates import State
from consumers.runtime.guard import Guard
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.sweep import Sweep
from consumers.runtime.worker import Limits, Worker
from events.envelope import Sealed
from events.log import EventLog
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader
from events.relay import BATCH as APPENDED_AT_ONCE
from events.settings import read_settings
from tests.bench.figures import Void


class Took(NamedTuple):
    """Seconds by the clock, and of a core.

    They are far apart where others want the cores too, and the core's tell more then; but a sync
    shows in the clock's alone.
    """

    clock_s: float
    cpu_s: float


def timed(act: Callable[[], object]) -> Took:
    """Do it, and return what it took."""
    clock, cpu = time.perf_counter(), time.process_time()
    act()
    return Took(time.perf_counter() - clock, time.process_time() - cpu)


class CaloriesAtWork:
    """Folds what a log has into a store that is new."""

    def __init__(self, log: Path, store: Path) -> None:
        calories = Calories()
        self._reader = SqliteLogReader.open(log)
        self._store = SqliteStore(store)
        self._generation = self._store.begin(
            version=calories.version, code="", bindings=calories.bindings, indexes={}
        )
        guard = Guard(store.with_suffix(".traceback"))
        worker = Worker(
            calories, self._store, self._generation.number, guard=guard, limits=Limits()
        )
        reader = cast(EventLog, self._reader)  # a worker only reads the log
        size = read_settings().batch
        self._sweep = Sweep(reader, self._store, worker, self._generation, size=size)

    def fold(self) -> None:
        """Fold and commit all that is new in the log."""
        while self._sweep.step() is not None:
            pass

    def check_applied(self, expected: int) -> None:
        """Raise Void unless so many events were applied, each into its document."""
        number = self._generation.number
        applied = self._store.counts(number).get(State.APPLIED, 0)
        if applied != expected:
            raise Void(f"{applied} events were applied, and {expected} are in the log.")

    def close(self) -> None:
        """Let the files go."""
        self._store.close()
        self._reader.close()


def append(log: SqliteEventLog, events: Sequence[Sealed]) -> None:
    """Append as the relay does."""
    for first in range(0, len(events), APPENDED_AT_ONCE):
        log.append(events[first : first + APPENDED_AT_ONCE], source="bench")
