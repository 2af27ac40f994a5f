"""How a worker starts: strangers' code is loaded, and what the last one left is taken up."""

import time
from contextlib import suppress
from dataclasses import replace

from consumers.runtime.fates import TOGETHER, Fate, State
from consumers.runtime.guard import Guard, cause
from consumers.runtime.places import WorkerPlace
from consumers.runtime.registry import Found, Loaded, Unfit, load
from consumers.runtime.store import Change, Commit, Store, each_open
from events.errors import Overtaken

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


def explain_strike(store: Store, words: str, *, by: str) -> None:
    """Move the last words of a process that ended into the strike of what it was folding.

    `by` is its place: other workers may have strikes of their own, and live.
    """
    struck = (
        (fate.last_ms or 0, generation.number, position, fate)
        for generation in store.generations()
        for page in each_open(store, generation.number, State.RETRYING)
        for position, fate in page
        if fate.strikes and fate.by == by
    )
    latest = max(struck, key=lambda one: one[0], default=None)
    if latest:
        _, generation, position, fate = latest
        told = replace(fate, reason=cause(words), trace=words[-_LONGEST_TRACE:])
        with suppress(Overtaken):  # another worker has it already
            store.commit(generation, Commit(changes=[Change(position, fate, told)]))


def wake_waiting(store: Store, generation: int, *, by: str) -> None:
    """Make due what waits for newer code, which this may be, or for a process that has ended.

    A strike may be of a worker that lives, where there are several, but not one `by` our place.
    """
    now_ms = int(time.time() * 1000)

    def waits(fate: Fate) -> bool:
        ended = fate.reason == TOGETHER or (
            fate.strikes > 0 and (not store.shared or fate.by == by)
        )
        return fate.needs is not None or ended

    for page in each_open(store, generation, State.RETRYING):
        changes = [
            Change(position, fate, replace(fate, due_ms=now_ms))
            for position, fate in page
            if waits(fate)
        ]
        with suppress(Overtaken):  # a worker that lives has one of them in hand
            if changes:
                store.commit(generation, Commit(changes=changes))
