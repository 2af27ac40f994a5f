"""The worker: takes a batch, folds it, commits once, then acks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from consumers import Projection
from consumers.runtime.fates import APPLIED, Fate, Ladder, State, struck
from consumers.runtime.folding import Folded, fold_batch
from consumers.runtime.guard import Guard, Swollen
from consumers.runtime.rate import Rate
from consumers.runtime.store import Change, Commit, Store, Written
from events.bus import Batch, Delivery
from events.envelope import Event, from_bytes, read_envelope
from events.errors import NewerVersion, Outage, Overtaken, Refused, Undecodable
from events.log import Position, Watermarks

logger = structlog.get_logger(__name__)
IN_HAND = "in-hand"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the consumer's code may take, in seconds, and how failures are tried again."""

    batch_s: float = 30.0
    alone_s: float = 5.0
    ladder: Ladder = field(default_factory=Ladder)


class Worker:
    """Brings events into one generation of one consumer; knows nothing of queues."""

    def __init__(
        self,
        consumer: Projection,
        store: Store,
        generation: int,
        *,
        guard: Guard,
        limits: Limits,
    ) -> None:
        self._consumer, self._store, self._generation = consumer, store, generation
        self._guard, self._limits = guard, limits
        self._rate = Rate()
        self._in_hand = 0

    def take(self, batch: Batch) -> None:
        """Give a batch its fates: what may have ended the process before goes alone and first.

        Raises Swollen between two suspects, so that the next one is not struck for a leak of those
        before it.
        """
        self._say_in_hand(len(batch.deliveries))
        suspects = [delivery for delivery in batch.deliveries if delivery.redelivered]
        for suspect in self._without_row(suspects):
            self.apply_alone(suspect, None)
            if self._guard.swollen():
                raise Swollen
        self.apply(batch.deliveries, through=batch.through)

    def _say_in_hand(self, count: int) -> None:
        """Write how many events this process may have in its hands, before it has them.

        Whoever comes after it, if it does not end cleanly, suspects that many and no more.
        """
        if count > self._in_hand:
            before = int(self._store.mark(IN_HAND) or 0)
            self._in_hand = max(before, 1 << (count - 1).bit_length())
            if self._in_hand > before:
                self._store.set_mark(IN_HAND, str(self._in_hand))

    def apply(self, deliveries: Sequence[Delivery], *, through: Watermarks | None = None) -> int:
        """Give every delivery a fate and return how many were applied now.

        Those that have a row already keep it: a redelivery changes nothing. When this returns, the
        fates are safe and the deliveries may be acked. Raises Outage; then nothing was changed.
        """
        while True:
            try:
                return self._attempt(self._without_row(deliveries), through or {})
            except Overtaken as overtaken:
                logger.info("folded again", action="fold_again", reason=str(overtaken))

    def _without_row(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        if not deliveries:
            return []
        unique = {delivery.position: delivery for delivery in deliveries}
        have = self._store.fates(self._generation, list(unique))
        return [delivery for position, delivery in unique.items() if position not in have]

    def _attempt(self, deliveries: Sequence[Delivery], through: Watermarks) -> int:
        try:
            return self._fold(deliveries, through)
        except Refused as refusal:
            if len(deliveries) == 1:
                self._commit_failure(deliveries[0], refusal)
                return self._fold((), through)
        # The store refuses the content of somebody here: halve until the culprit stands alone.
        middle = len(deliveries) // 2
        return self._attempt(deliveries[:middle], {}) + self._attempt(deliveries[middle:], through)

    def _fold(self, deliveries: Sequence[Delivery], through: Watermarks) -> int:
        if not deliveries and not through:
            return 0
        events, positions, changes = self._decoded(deliveries)
        folded = fold_batch(
            self._consumer,
            events,
            lambda keys: self._store.load(self._generation, keys),
            guard=self._guard,
            deadline_s=self._limits.batch_s,
        )
        for place, error in folded.failures.items():
            fate = self._failed(None, error, event_id=events[place].id)
            changes.append(Change(positions[place], None, fate))
        failed = folded.failures
        applied = [one for place, one in enumerate(positions) if place not in failed]
        rate = self._rate.after(len(applied))
        self._store.commit(
            self._generation,
            Commit(
                documents=folded.documents,
                applied=applied,
                changes=changes,
                through=through,
                rate=rate,
            ),
        )
        return len(applied)

    def _decoded(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[list[Event], list[Position], list[Change]]:
        events, positions, changes = [], [], []
        for delivery in deliveries:
            try:
                events.append(from_bytes(delivery.body))
                positions.append(delivery.position)
            except (Undecodable, NewerVersion) as error:
                fate = self._failed(None, error, event_id=_id_of(delivery))
                changes.append(Change(delivery.position, None, fate))
        return events, positions, changes

    def _failed(self, before: Fate | None, error: BaseException, *, event_id: str) -> Fate:
        version = self._consumer.version
        fate = self._limits.ladder.after_failure(before, error, now_ms=_now(), version=version)
        logger.warning(
            "event failed",
            action="event_failed",
            event_id=event_id,
            fate=str(fate.state),
            attempts=fate.attempts,
            reason=fate.reason,
        )
        return fate

    def _commit_failure(self, delivery: Delivery, error: Exception) -> None:
        fate = self._failed(None, error, event_id=_id_of(delivery))
        change = Change(delivery.position, None, fate)
        self._store.commit(self._generation, Commit(changes=[change]))

    def apply_alone(self, delivery: Delivery, before: Fate | None) -> bool:
        """Fold one suspect or one due retry, its strike committed first; say whether it is applied.

        `before` is its row. Only code that ends the process leaves the strike standing.
        """
        strike = struck(before, now_ms=_now(), version=self._consumer.version)
        change = Change(delivery.position, before, strike)
        try:
            self._store.commit(self._generation, Commit(changes=[change]))
            if strike.state is State.DEAD:
                logger.error(
                    "event is dead",
                    action="event_dead",
                    event_id=_id_of(delivery),
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
                error = self._commit_alone(delivery.position, strike, folded.documents)
        except (Undecodable, NewerVersion) as undecoded:
            error = undecoded
        except (Outage, Overtaken):
            self._take_back(delivery.position, before, strike)
            raise
        if error is not None:
            fate = self._failed(before, error, event_id=_id_of(delivery))
            change = Change(delivery.position, strike, fate)
            self._store.commit(self._generation, Commit(changes=[change]))
        return error is None

    def _folded(self, delivery: Delivery) -> Folded:
        return fold_batch(
            self._consumer,
            [from_bytes(delivery.body)],
            lambda keys: self._store.load(self._generation, keys),
            guard=self._guard,
            deadline_s=self._limits.alone_s,
        )

    def _commit_alone(
        self, position: Position, strike: Fate, documents: Sequence[Written]
    ) -> Refused | None:
        change = Change(position, strike, APPLIED)
        commit = Commit(documents=documents, changes=[change], rate=self._rate.after(1))
        try:
            self._store.commit(self._generation, commit)
        except Refused as refusal:
            return refusal
        return None

    def _take_back(self, position: Position, before: Fate | None, strike: Fate) -> None:
        # The event is not at fault; without a row before, its strike becomes a retry without one.
        fate = before or replace(strike, strikes=0)
        self._store.commit(self._generation, Commit(changes=[Change(position, strike, fate)]))


def _id_of(delivery: Delivery) -> str:
    try:
        return read_envelope(delivery.body).id
    except Undecodable:
        return str(delivery.position)


def _now() -> int:
    return int(time.time() * 1000)
