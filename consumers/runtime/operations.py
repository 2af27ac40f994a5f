"""Operations: what a consumer's worker does because somebody asked, one step at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from consumers.runtime.control import Control, Request, RequestState
from consumers.runtime.fates import Fate, State
from consumers.runtime.pace import Pace
from consumers.runtime.selecting import ids_of, not_before, selection_of
from consumers.runtime.store import Change, Commit, Generation, Store, each_open
from consumers.runtime.worker import Worker
from events.bus import UNREADABLE, Batch, Delivery
from events.errors import Overtaken, PacelineError
from events.log import Logged, LogReader, Position, Selection
from events.log.walk import Walk

_AT_ONCE = 500
_KNOWN = ("already", "others")
_Counts = dict[str, int]


def replay(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    worker: Worker,
    live: Generation,
) -> Iterator[None]:
    """Deliver a selection again: what has a fate keeps it, so nothing can be counted twice."""
    # Whoever carried this on before may have ended over what it had in its hands.
    suspects = _AT_ONCE if request.state is RequestState.RUNNING else 0

    def deliver(rows: Sequence[Logged]) -> _Counts:
        nonlocal suspects
        already = _applied(store, live, rows)
        worker.take(Batch([delivered(row, suspect=suspects > 0) for row in rows]))
        suspects -= len(rows)
        applied = _applied(store, live, rows) - already
        others = len(rows) - applied - already
        return {"applied": applied, "already": already, "others": others}

    selection = not_before(selection_of(request.arguments, live.bindings), live.since)
    names = ("applied", *_KNOWN)
    yield from _replayed(request, control, log, selection, names, deliver)


def replay_to_handler(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    worker: Worker,
    live: Generation,
) -> Iterator[None]:
    """Make due now what a selection has without a fate; without `act`, change nothing and say so.

    Whoever has a fate keeps it: a handler that was called for an event is not called again.
    """

    def make_due(rows: Sequence[Logged]) -> _Counts:
        due, fates = _made_due(store, live, rows)
        already = sum(fate.state is State.APPLIED for fate in fates)
        return {"due": due, "already": already, "others": len(fates) - already}

    if request.arguments.get("act"):
        selection, names = selection_of(request.arguments, live.bindings), ("due", *_KNOWN)
        yield from _replayed(request, control, log, selection, names, make_due)
        return
    note = "It acts on the outside world: nothing is sent again without --act."
    control.finish(request.id, answer={"due": 0, "note": note})
    yield


def _made_due(store: Store, live: Generation, rows: Sequence[Logged]) -> tuple[int, list[Fate]]:
    """Return how many rows had no fate and are due now, and the fates of the others."""
    while True:
        have = store.fates(live.number, [row.position for row in rows])
        now_ms = int(time.time() * 1000)
        due = Fate(state=State.RETRYING, due_ms=now_ms, first_ms=now_ms, version=live.version)
        changes = [Change(row.position, None, due) for row in rows if row.position not in have]
        try:
            store.commit(live.number, Commit(changes=changes))
        except Overtaken:
            continue  # another worker gave one of them a fate: look again which have none
        return len(changes), list(have.values())


def _replayed(
    request: Request,
    control: Control,
    log: LogReader,
    selection: Selection,
    names: Sequence[str],
    deliver: Callable[[Sequence[Logged]], _Counts],
) -> Iterator[None]:
    """Hand the selection on page by page, at its rate, and add up what became of it."""
    memory = {"after": 0, "done": 0} | dict.fromkeys(names, 0) | request.memory
    walk = Walk(log, selection, after=memory["after"])
    pace, total = Pace(request.arguments.get("rate")), walk.total()
    control.report(request.id, done=memory["done"], total=total, memory=memory)
    while True:
        room = pace.room(_AT_ONCE)
        if not room:
            pace.rest()
            yield
            continue
        rows = walk.page(room)
        if rows is None:
            break
        pace.spend(len(rows))
        memory |= {name: memory[name] + count for name, count in deliver(rows).items()}
        memory |= {"done": memory["done"] + len(rows), "after": walk.after}
        if not control.report(request.id, done=memory["done"], total=total, memory=memory):
            return
        yield
    control.finish(request.id, answer={name: memory[name] for name in names})


def _applied(store: Store, live: Generation, rows: Sequence[Logged]) -> int:
    fates = store.fates(live.number, [row.position for row in rows])
    return sum(fate.state is State.APPLIED for fate in fates.values())


def delivered(row: Logged, *, suspect: bool = False) -> Delivery:
    """Return a row of the log as a delivery."""
    return Delivery(row.position, row.routing_key, row.body, suspect)


def redrive(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    worker: Worker,
    live: Generation,
) -> Iterator[None]:
    """Give dead events all their attempts again, from now."""
    now_ms = int(time.time() * 1000)

    def again(fate: Fate) -> Fate:
        return replace(fate, state=State.RETRYING, attempts=0, strikes=0, due_ms=now_ms)

    yield from _change_dead(request, control, log, store, live, again)


def discard(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    worker: Worker,
    live: Generation,
) -> Iterator[None]:
    """Give dead events up for good; their rows stay, and say so."""

    def given_up(fate: Fate) -> Fate:
        return replace(fate, state=State.DISCARDED, due_ms=None)

    yield from _change_dead(request, control, log, store, live, given_up)


def _change_dead(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    live: Generation,
    change: Callable[[Fate], Fate],
) -> Iterator[None]:
    changed, total = 0, store.counts(live.number)[State.DEAD]
    for page in each_open(store, live.number, State.DEAD, at_once=_AT_ONCE):
        chosen = dead_letters(log, page, request.arguments)
        if request.verb == "redrive":  # what is no event of the log cannot be folded ever
            chosen = [one for one in chosen if one[0].relay != UNREADABLE]
        changes = [Change(position, fate, change(fate)) for position, fate in chosen]
        store.commit(live.number, Commit(changes=changes))
        changed += len(chosen)
        if not control.report(request.id, done=changed, total=total):
            return
    # Ended before anything of it is folded: what ends the process then must not begin it again.
    control.finish(request.id, answer={"changed": changed})
    yield


def dead_letters(
    log: LogReader, dead: list[tuple[Position, Fate]], arguments: dict[str, Any]
) -> list[tuple[Position, Fate]]:
    """Return those of the dead that ids or a reason name; without either, all."""
    ids, reason = ids_of(arguments), arguments.get("reason")
    if ids is not None:
        rows = [row for row in map(log.get, ids) if row is not None]
        wanted = {row.position for row in rows}
        dead = [(position, fate) for position, fate in dead if position in wanted]
    if reason is not None:
        dead = [(position, fate) for position, fate in dead if fate.reason.startswith(reason)]
    return dead


def set_paused(request: Request, control: Control, store: Store) -> Iterator[None]:
    """Let a consumer stand still, or go on; it is so until it is said otherwise."""
    store.set_mark("paused", "1" if request.verb == "pause" else None)
    control.finish(request.id, answer={})
    yield


Operation = Callable[[Request, Control, LogReader, Store, Worker, Generation], Iterator[None]]
OPERATIONS: dict[str, Operation] = {"replay": replay, "redrive": redrive, "discard": discard}


def operation(verb: str) -> Operation:
    """Return the operation of a verb; raises PacelineError for an unknown one."""
    if verb not in OPERATIONS:
        raise PacelineError(
            f"Nobody here knows how to {verb}; is this process older than the command?"
        )
    return OPERATIONS[verb]
