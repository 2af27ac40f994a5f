"""Retries: what waited for its time, each tried alone, as a suspect is."""

import time
from collections.abc import Callable

from consumers.runtime.fates import State
from consumers.runtime.guard import Guard
from consumers.runtime.operations import delivered
from consumers.runtime.store import Store
from consumers.runtime.worker import Worker
from events.log import LogReader, row_at

_AT_ONCE, _FOR_S = 50, 1.0


def take_due(
    log: LogReader,
    store: Store,
    worker: Worker,
    generation: int,
    *,
    guard: Guard,
    still: Callable[[], bool],
) -> bool:
    """Try some of what is due, and say whether any was.

    Stops after a second, where the process has grown, and where the consumer shall stand still.
    """
    now_ms, until = int(time.time() * 1000), time.monotonic() + _FOR_S
    due = store.open_fates(generation, State.RETRYING, due_ms=now_ms, limit=_AT_ONCE)
    tried = False
    for position, fate in due:
        row = row_at(log, position)
        if row is not None:  # else the log was restored, and the consumer will be told
            worker.apply_alone(delivered(row), fate)
            tried = True
        if guard.swollen() or still() or time.monotonic() > until:
            break
    return tried
