"""How a worker starts: strangers' code is loaded, and what the last one left is taken up."""

import time
from dataclasses import replace

from consumers.runtime.fates import TOGETHER, State
from consumers.runtime.guard import Guard, cause
from consumers.runtime.places import WorkerPlace
from consumers.runtime.registry import Found, Loaded, Unfit, load
from consumers.runtime.store import Change, Commit, Store, each_open

_LONGEST_TRACE = 8_000


def load_watched(
    found: Found, store: Store, guard: Guard, place: WorkerPlace, *, deadline_s: float
) -> Loaded:
    """Load a consumer's code, so that code which ends or hangs the process is known afterwards.

    Raises Unfit, having said so in the store.
    """
    if store.mark(place.loading):
        _say_problem(store, f"{found.place} ends or hangs when it is loaded; see {place.traces}.")
    store.set_mark(place.loading, "1")
    try:
        with guard.deadline(deadline_s):
            return load(found)
    except Unfit as unfit:
        _say_problem(store, str(unfit))
        raise
    finally:
        store.set_mark(place.loading, None)


def _say_problem(store: Store, problem: str) -> None:
    # Workers elsewhere that run well shall not stand still for what is wrong with this host.
    if not store.running():
        store.set_mark("problem", problem)


def explain_strike(store: Store, words: str) -> None:
    """Move the last words of the process that ended into the strike of what it was folding."""
    struck = (
        (fate.last_ms or 0, generation.number, position, fate)
        for generation in store.generations()
        for page in each_open(store, generation.number, State.RETRYING)
        for position, fate in page
        if fate.strikes
    )
    latest = max(struck, key=lambda one: one[0], default=None)
    if latest:
        _, generation, position, fate = latest
        told = replace(fate, reason=cause(words), trace=words[-_LONGEST_TRACE:])
        store.commit(generation, Commit(changes=[Change(position, fate, told)]))


def wake_waiting(store: Store, generation: int) -> None:
    """Make due what waits for newer code, which this may be, or for a process that has ended."""
    now_ms = int(time.time() * 1000)
    for page in each_open(store, generation, State.RETRYING):
        changes = [
            Change(position, fate, replace(fate, due_ms=now_ms))
            for position, fate in page
            if fate.needs is not None or fate.reason == TOGETHER
        ]
        if changes:
            store.commit(generation, Commit(changes=changes))
