"""What a worker makes of what the last one left: last words, and events that wait for new code."""

import time
from dataclasses import replace

from consumers.runtime.fates import State
from consumers.runtime.guard import cause
from consumers.runtime.store import Change, Commit, Store, each_open

_LONGEST_TRACE = 8_000


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
    """Make due what waited for newer code: this code may be it."""
    now_ms = int(time.time() * 1000)
    for page in each_open(store, generation, State.RETRYING):
        changes = [
            Change(position, fate, replace(fate, due_ms=now_ms))
            for position, fate in page
            if fate.needs is not None
        ]
        if changes:
            store.commit(generation, Commit(changes=changes))
