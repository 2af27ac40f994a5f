"""Operations: what a consumer's worker does because somebody asked, one step at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from consumers.runtime.control import Control, Request, RequestState
from consumers.runtime.fates import Fate, State
from consumers.runtime.store import Change, Commit, Generation, Store, each_open
from consumers.runtime.worker import Worker
from events.bus import UNREADABLE, Batch, Delivery
from events.envelope import id_bytes
from events.errors import PacelineError
from events.log import Logged, LogReader, Position, Selection

_AT_ONCE = 500


def selection_of(arguments: dict[str, Any], bindings: tuple[str, ...]) -> Selection:
    """Return the part of the log that a replay's arguments name."""
    return Selection(
        bindings=bindings,
        user_id=arguments.get("user"),
        kind=arguments.get("type"),
        ids=_ids(arguments),
        accepted_from=_moment(arguments.get("from")),
        accepted_to=_moment(arguments.get("to")),
    )


def _ids(arguments: dict[str, Any]) -> list[str] | None:
    ids: list[str] | None = arguments.get("ids")
    for event_id in ids or ():
        if not _is_id(event_id):
            raise PacelineError(f"{event_id!r:.80} is no event's id; see `paceline events list`.")
    return ids


def _is_id(event_id: str) -> bool:
    try:
        return len(id_bytes(event_id)) == 16
    except ValueError:
        return False


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def replay(
    request: Request,
    control: Control,
    log: LogReader,
    store: Store,
    worker: Worker,
    live: Generation,
) -> Iterator[None]:
    """Deliver a selection again: what has a fate keeps it, so nothing can be counted twice."""
    selection = selection_of(request.arguments, live.bindings)
    total = log.count(selection)
    memory = {"after": 0, "done": 0, "applied": 0, "already": 0, "others": 0} | request.memory
    # Whoever carried this on before may have ended over what it had in its hands.
    suspect = request.state is RequestState.RUNNING
    control.report(request.id, done=memory["done"], total=total, memory=memory)
    while rows := log.scan(replace(selection, after=memory["after"]), limit=_AT_ONCE):
        already = _applied(store, live, rows)
        worker.take(Batch([delivered(row, suspect=suspect) for row in rows]))
        suspect = False
        applied = _applied(store, live, rows) - already
        memory["applied"] += applied
        memory["already"] += already
        memory["others"] += len(rows) - applied - already
        memory["done"] += len(rows)
        memory["after"] = rows[-1].place
        if not control.report(request.id, done=memory["done"], total=total, memory=memory):
            return
        yield
    control.finish(
        request.id, answer={key: memory[key] for key in ("applied", "already", "others")}
    )


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
    ids, reason = _ids(arguments), arguments.get("reason")
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
