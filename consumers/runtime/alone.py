"""An event alone: what may have ended a process is folded by itself, its strike written first."""

import time
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from consumers import Projection
from consumers.runtime.fates import APPLIED, Fate, Ladder, State, struck
from consumers.runtime.folding import Act, Folded
from consumers.runtime.guard import Guard
from consumers.runtime.rate import Rate
from consumers.runtime.store import Change, Commit, Store
from events.bus import UNREADABLE, Delivery
from events.envelope import Event, from_bytes, read_envelope
from events.errors import Gone, NewerVersion, Outage, Overtaken, Refused, Undecodable
from events.log import Position

logger = structlog.get_logger(__name__)
_LONGEST_BODY = 4_000
_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the consumer's code may take, in seconds, and how failures are tried again."""

    batch_s: float = 30.0
    alone_s: float = 5.0
    ladder: Ladder = field(default_factory=Ladder)


class Alone:
    """Folds one event at a time into one generation of one consumer."""

    def __init__(
        self,
        consumer: Projection,
        store: Store,
        generation: int,
        *,
        guard: Guard,
        limits: Limits,
        rate: Rate,
        act: Act,
    ) -> None:
        self._consumer, self._store, self._generation = consumer, store, generation
        self._guard, self._limits, self._rate = guard, limits, rate
        self._act = act
        self._owed: Change | None = None

    def give_back(self) -> None:
        """Take a strike back that an outage has left standing. Raises Outage where it still is."""
        if self._owed is not None:
            with suppress(Overtaken, Gone):  # somebody has it already
                self._store.commit(self._generation, Commit(changes=[self._owed]))
            self._owed = None

    def failed(self, before: Fate | None, error: BaseException, *, event_id: str) -> Fate:
        """Return the fate of an event that failed, and say so in the journal."""
        version = self._consumer.version
        fate = self._limits.ladder.after_failure(before, error, now_ms=now_ms(), version=version)
        if getattr(error, "pause", False):
            self._store.set_mark("paused", fate.reason)
        if fate.state is State.DISCARDED:
            return fate
        logger.warning(
            "event failed",
            action="event_failed",
            event_id=event_id,
            fate=str(fate.state),
            attempts=fate.attempts,
            reason=fate.reason,
        )
        return fate

    def apply(self, delivery: Delivery, before: Fate | None) -> bool:
        """Fold one suspect or one due retry, its strike committed first; say whether it is applied.

        `before` is its row. Only code that ends the process leaves the strike standing.
        """
        self.give_back()
        strike = struck(
            before,
            now_ms=now_ms(),
            version=self._consumer.version,
            within_s=self._limits.alone_s + _MARGIN_S,
            by=self._guard.place,
        )
        change = Change(delivery.position, before, strike)
        try:
            self._store.commit(self._generation, Commit(changes=[change]))
            if strike.state is State.DEAD:
                logger.error(
                    "event is dead",
                    action="event_dead",
                    event_id=id_of(delivery),
                    reason=strike.reason,
                )
                return False
            return self._fold_alone(delivery, before, strike)
        except Overtaken:
            return False

    def _fold_alone(self, delivery: Delivery, before: Fate | None, strike: Fate) -> bool:
        try:
            folded = self._folded(delivery)
            error: BaseException | None = folded.failures.get(0)
            if error is None:
                error = self._commit_alone(delivery.position, strike, folded)
        except (Undecodable, NewerVersion) as undecoded:
            error = undecoded
        except (Outage, Overtaken):
            # The event is not at fault; without a row before, it becomes a retry without a strike.
            fate = before or replace(strike, strikes=0, due_ms=now_ms())
            self._owed = Change(delivery.position, strike, fate)
            self.give_back()
            raise
        if error is not None:
            fate = self.failed(before, error, event_id=id_of(delivery))
            change = Change(delivery.position, strike, fate)
            self._store.commit(self._generation, Commit(changes=[change]))
        return error is None

    def _folded(self, delivery: Delivery) -> Folded:
        return self._act(
            [event_of(delivery)],
            lambda keys: self._store.load(self._generation, keys),
            guard=self._guard,
            deadline_s=self._limits.alone_s,
        )

    def _commit_alone(self, position: Position, strike: Fate, folded: Folded) -> Refused | None:
        commit = Commit(
            documents=folded.documents,
            changes=[Change(position, strike, APPLIED)],
            facts=folded.facts,
            rate=self._rate.after(1),
        )
        try:
            self._store.commit(self._generation, commit)
        except Refused as refusal:
            return refusal
        return None


def event_of(delivery: Delivery) -> Event:
    """Return the event of a delivery; raises Undecodable, or NewerVersion where it must wait."""
    if delivery.position.relay == UNREADABLE:
        # The log has no such row, so nothing but its own bytes can tell later what it was.
        body = b64encode(delivery.body[:_LONGEST_BODY]).decode()
        raise Undecodable(f"A message that is no event of the log; in base64: {body}")
    return from_bytes(delivery.body)


def id_of(delivery: Delivery) -> str:
    """Return the id of a delivery's event, or where it stands."""
    try:
        return read_envelope(delivery.body).id
    except Undecodable:
        return str(delivery.position)


def now_ms() -> int:
    """Return the time in ms since 1970."""
    return int(time.time() * 1000)
