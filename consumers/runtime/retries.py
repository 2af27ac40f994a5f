"""Retries: what waited for its time, each tried alone, as a suspect is, or as a handler's calls."""

import time
from collections.abc import Callable, Sequence

from consumers.runtime.fates import TOGETHER, Fate, State
from consumers.runtime.guard import Guard
from consumers.runtime.operations import delivered
from consumers.runtime.store import Store
from consumers.runtime.worker import Worker
from events.bus import Delivery
from events.log import LogReader, row_at

_AT_ONCE, _FOR_S = 50, 1.0
Due = tuple[Delivery, Fate]


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
    worker.finish_together()  # what an outage has come between
    now_ms, until = int(time.time() * 1000), time.monotonic() + _FOR_S
    fates = store.open_fates(generation, State.RETRYING, due_ms=now_ms, limit=_AT_ONCE)
    rows = [(row_at(log, position), fate) for position, fate in fates]
    # One without a row: the log was restored, and the consumer will be told.
    due = [(delivered(row), fate) for row, fate in rows if row is not None]
    tried = False
    for some in _shared_out(due, at_once=worker.at_once):
        tried = True
        _try(worker, some)
        if guard.swollen() or still() or time.monotonic() > until:
            break
    return tried


def _shared_out(due: Sequence[Due], *, at_once: int) -> list[Sequence[Due]]:
    """Return what is tried one after the other; what may have ended a process goes alone."""
    if at_once == 1:
        return [[one] for one in due]
    alone = [[one] for one in due if _may_end_us(one[1])]
    others = [one for one in due if not _may_end_us(one[1])]
    return [*alone, *(others[at : at + at_once] for at in range(0, len(others), at_once))]


def _may_end_us(fate: Fate) -> bool:
    return fate.strikes > 0 or fate.reason == TOGETHER


def _try(worker: Worker, some: Sequence[Due]) -> None:
    if len(some) == 1:
        worker.apply_alone(*some[0])
    else:
        worker.take_together(
            [delivery for delivery, _ in some],
            {delivery.position: fate for delivery, fate in some},
        )
