"""The status of every consumer: how far it is, what is set aside, and why it stands still."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from consumers.runtime.fates import State
from consumers.runtime.holding import HELD
from consumers.runtime.installation import Installation
from consumers.runtime.lag import lag_of
from consumers.runtime.registry import Found
from consumers.runtime.store import Generation, Phase, StoreReader
from events.errors import Outage
from events.log import LogReader, Selection

__all__ = ["Building", "Condition", "ConsumerStatus", "Installation", "status", "statuses"]

# A consumer that keeps up has nothing this old waiting, however much comes in.
BEHIND_S = 5.0
# The rate is of about the last ten seconds; when nothing was committed since, it is 0.
RATE_FOR = timedelta(seconds=10)
# Marks that a worker sets in its store.
PAUSED, PROBLEM, NO_QUEUE = "paused", "problem", "no-queue"
CODE, KIND = "code", "kind"


class Condition(StrEnum):
    """What a consumer is doing."""

    LIVE = "live"
    CATCHING_UP = "catching-up"
    REBUILDING = "rebuilding"
    PAUSED = "paused"
    NOT_STARTED = "not-started"
    UNFIT = "unfit"
    STOPPED = "stopped"
    WITHOUT_QUEUE = "without-queue"


_BEHIND = (Condition.CATCHING_UP, Condition.REBUILDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A generation that is being built: how many events of the log it has, of how many."""

    generation: int
    version: int
    applied: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus:
    """One consumer; all counts are events, and of the generation that readers see.

    `lag` is how many events of the log it wants and has not looked at, and
    `oldest_pending_age_s` how long ago the first of them was accepted; `caught_up_in_s` is a guess
    from both lag and rate, where it is behind.
    """

    name: str
    place: str
    state: Condition
    reason: str = ""
    version: int | None = None
    generation: int | None = None
    bindings: tuple[str, ...] = ()
    lag: int | None = None
    oldest_pending_age_s: float | None = None
    applied: int = 0
    retrying: int = 0
    dead: int = 0
    discarded: int = 0
    rate_per_s: float = 0.0
    caught_up_in_s: float | None = None
    building: Building | None = None


def statuses(installation: Installation, *, now: datetime) -> list[ConsumerStatus]:
    """Return the status of every consumer, by name; `now` is aware. Runs no consumer's code.

    What is not used, because its name is none or another's, comes last, as unfit.
    """
    found = installation.found()
    unused = [
        ConsumerStatus(name=Path(place).name, place=place, state=Condition.UNFIT, reason=reason)
        for place, reason in installation.taken().items()
    ]
    return [*(status(installation, found[name], now=now) for name in sorted(found)), *unused]


def status(installation: Installation, found: Found, *, now: datetime) -> ConsumerStatus:
    """Return the status of one consumer."""
    try:
        store = installation.store(found.name)
        if store is None:
            return _idle(found, Condition.NOT_STARTED)
        with store.moment():
            return _status(found, store, installation.log(), now)
    except Outage as outage:
        installation.reopen()
        return _idle(found, Condition.STOPPED, str(outage))


def _idle(found: Found, state: Condition, reason: str = "") -> ConsumerStatus:
    return ConsumerStatus(name=found.name, place=found.place, state=state, reason=reason)


def _status(
    found: Found, store: StoreReader, log: LogReader | None, now: datetime
) -> ConsumerStatus:
    generations = {one.phase: one for one in store.generations()}
    live, built = generations.get(Phase.LIVE), generations.get(Phase.BUILDING)
    problem = store.mark(PROBLEM) or ""
    if live is None:
        return _idle(
            found, _standing(found, problem) if problem else Condition.NOT_STARTED, problem
        )
    # The log is read after the store: what comes in between counts as lag, never as less than none.
    lag, oldest_s = lag_of(log, store, live, now) if log else (0, None)
    building = _building(built, log) if built and log else None
    counts = store.counts(live.number)
    state, reason = _condition(found, store, problem, building, oldest_s)
    if state in (Condition.LIVE, Condition.CATCHING_UP):
        reason = _changed(store, live, found.name)
    return ConsumerStatus(
        name=found.name,
        place=found.place,
        state=state,
        reason=reason,
        version=live.version,
        generation=live.number,
        bindings=live.bindings,
        lag=lag,
        oldest_pending_age_s=oldest_s,
        applied=counts[State.APPLIED],
        retrying=counts[State.RETRYING],
        dead=counts[State.DEAD],
        discarded=counts[State.DISCARDED],
        rate_per_s=(rate := _rate(live, now)),
        caught_up_in_s=round(lag / rate, 1) if lag and rate and state in _BEHIND else None,
        building=building,
    )


def _condition(
    found: Found,
    store: StoreReader,
    problem: str,
    building: Building | None,
    oldest_s: float | None,
) -> tuple[Condition, str]:
    if problem:
        return _standing(found, problem), problem
    if paused := store.mark(PAUSED):
        return Condition.PAUSED, "" if paused == "1" else paused
    if not store.running():
        return Condition.STOPPED, "No worker runs; its events wait in the log."
    if building:
        return Condition.REBUILDING, _held(store.mark(HELD), found.name)
    if no_queue := store.mark(NO_QUEUE):
        return Condition.WITHOUT_QUEUE, f"{no_queue} Its events come from the log, seconds later."
    behind = oldest_s is not None and oldest_s > BEHIND_S
    return (Condition.CATCHING_UP if behind else Condition.LIVE), ""


def _held(held: str | None, name: str) -> str:
    if held is None:
        return ""
    operation, _, _ = held.partition(" ")
    return (
        f"Operation {operation} compares it first, and may wait for a yes or no: `paceline rebuild "
        f"{name} --diff` shows what it found, `paceline operations cancel {operation}` ends it."
    )


def _changed(store: StoreReader, live: Generation, name: str) -> str:
    # A handler has one generation for ever, whatever its code.
    if store.mark(KIND) == "handler" or store.mark(CODE) in (None, live.code):
        return ""
    return (
        "Its code changed and its version did not: raise it if the documents change, and it is "
        f"rebuilt; or `paceline rebuild {name}`."
    )


def _standing(found: Found, problem: str) -> Condition:
    # Why code cannot be loaded is told in words that begin with where it is.
    return Condition.UNFIT if problem.startswith(found.place) else Condition.STOPPED


def _building(built: Generation, log: LogReader) -> Building:
    return Building(
        generation=built.number,
        version=built.version,
        applied=built.applied,
        total=log.count(Selection(bindings=built.bindings, accepted_from=built.since)),
    )


def _rate(live: Generation, now: datetime) -> float:
    committed = datetime.fromtimestamp(live.committed_ms / 1000, UTC)
    return live.rate if now - committed < RATE_FOR else 0.0
