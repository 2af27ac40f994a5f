"""Audit: promise 5 by ids, a sweep that only reports, exact while traffic flows.

Whatever is read first is a lower bound of what is read later: bookmark, outbox, fates, the log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from consumers.runtime.fates import State
from consumers.runtime.healing import HEALED
from consumers.runtime.store import Generation, StoreReader
from events.bus import UNREADABLE
from events.log import Logged, LogReader, Selection
from events.topology import wanted

_AT_ONCE = 5_000


class Accepting(NamedTuple):
    """What an accepting host remembers: row and id, up to where the relay is, what it set aside."""

    source: str
    passed: int
    stuck: frozenset[int]
    rows: Sequence[tuple[int, str]]


@dataclass(slots=True)
class AcceptedAudit:
    """accepted = logged + in the outbox + conflicting, for what the outbox remembers.

    What the log refused for itself is `set_aside`: kept, and not where it should be.
    """

    source: str
    accepted: int = 0
    logged: int = 0
    in_outbox: int = 0
    conflicting: int = 0
    stuck: int = 0
    set_aside: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ConsumerAudit:
    """logged = applied + pending + retrying + dead + discarded + not-for-it, for one consumer.

    `unreadable` messages came by the queue and are no events of the log; `healed` is how often a
    sweep found what no queue had brought.
    """

    consumer: str
    logged: int = 0
    unreadable: int = 0
    healed: int = 0
    fates: dict[str, int] = field(default_factory=dict)
    without_fate: list[str] = field(default_factory=list)
    unknown_positions: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every event has exactly one fate."""
        return not self.without_fate and not self.unknown_positions


def audit_accepting(host: Accepting, log: LogReader) -> AcceptedAudit:
    """Look for every remembered id where it must be."""
    audit = AcceptedAudit(host.source, accepted=len(host.rows))
    conflicts = {conflict.event_id for conflict in log.conflicts()}
    for start in range(0, len(host.rows), 500):
        part = host.rows[start : start + 500]
        found = log.scan(Selection(ids=[event_id for _, event_id in part]), limit=len(part))
        logged = {row.event_id for row in found}
        for row, event_id in part:
            known = {"logged": event_id in logged, "conflicting": event_id in conflicts}
            _place(audit, host, row, event_id, **known)
    return audit


def _place(
    audit: AcceptedAudit,
    host: Accepting,
    row: int,
    event_id: str,
    *,
    logged: bool,
    conflicting: bool,
) -> None:
    if conflicting:
        audit.conflicting += 1
    elif logged:
        audit.logged += 1
    elif row > host.passed:
        audit.in_outbox += 1
    elif row in host.stuck:
        audit.stuck += 1
        audit.set_aside.append(event_id)
    else:
        audit.missing.append(event_id)


def audit_consumer(
    name: str, store: StoreReader, live: Generation, log: LogReader
) -> ConsumerAudit:
    """Merge the log with the fates; `store` must show one moment that is not later than the log."""
    audit = ConsumerAudit(name, fates=dict.fromkeys(State, 0))
    audit.fates |= {"pending": 0, "not-for-it": 0}
    marks = store.watermarks(live.number)
    settled = log.settled()
    # One that has not settled anything yet has rows all the same.
    unsettled = {row.position.relay for row in log.unsettled(limit=_AT_ONCE, lately=False)}
    for relay in [*settled, *((marks.keys() | unsettled) - settled.keys())]:
        for rows, after, through in _stretches(log, relay):
            fates = store.rows(live.number, relay, after, through)
            for row in rows:
                _judge(audit, row, fates.pop(row.position.number, None), live, marks)
            audit.unknown_positions += [f"{relay}/{number}" for number in fates]
    audit.unreadable = len(store.rows(live.number, UNREADABLE, 0, None))
    audit.healed = int(store.mark(HEALED) or 0)
    return audit


def _stretches(log: LogReader, relay: str) -> Iterator[tuple[list[Logged], int, int | None]]:
    """Yield a relay's rows, and past which number up to which they are all that there is.

    Also what is not settled: a relay that ended may have left it, and it has a fate all the same.
    """
    after = 0
    while rows := log.scan(Selection(relay=relay, after=after), limit=_AT_ONCE):
        through = rows[-1].position.number
        yield rows, after, through
        after = through
    yield [], after, None


def _judge(
    audit: ConsumerAudit,
    row: Logged,
    state: State | None,
    live: Generation,
    marks: dict[str, int],
) -> None:
    audit.logged += 1
    if state is not None:
        audit.fates[state] += 1
    elif not wanted(live.bindings, row.routing_key) or live.is_before(row.body):
        audit.fates["not-for-it"] += 1
    elif row.position.number > marks.get(row.position.relay, 0):
        audit.fates["pending"] += 1
    else:
        audit.without_fate.append(row.event_id)
