"""The worker: takes a batch, folds it, commits once, then acks."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from consumers import Projection
from consumers.runtime.alone import Alone, Limits, event_of, id_of, now_ms
from consumers.runtime.fates import APPLIED, TOGETHER, Fate, State
from consumers.runtime.folding import Act, fold_batch
from consumers.runtime.guard import Guard, Swollen
from consumers.runtime.rate import Rate
from consumers.runtime.store import Change, Commit, Store
from events.bus import UNREADABLE, Batch, Delivery
from events.envelope import Event, read_envelope
from events.errors import NewerVersion, Outage, Overtaken, Refused, Undecodable
from events.log import Position, Watermarks
from events.topology import wanted

__all__ = ["IN_HAND", "Limits", "Worker"]

logger = structlog.get_logger(__name__)
IN_HAND = "in-hand"
_ALONE_AT_MOST, _TOGETHER_AT_MOST = 100, 500
_ASIDE_S = 0.02


def _may_end_us(delivery: Delivery) -> bool:
    # Of what cannot be read nothing is folded, and the log has no row to try it again from.
    return delivery.redelivered and delivery.position.relay != UNREADABLE


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
        act: Act | None = None,
        bindings: Sequence[str] | None = None,
        since_ms: int = 0,
        at_once: int = 1,
    ) -> None:
        self.at_once = at_once  # so many retries are tried together
        self._consumer, self._store, self._generation = consumer, store, generation
        # What a generation wants, and not what newer code would: the queue is bound for it.
        self._bindings = tuple(bindings or consumer.bindings)
        self._guard, self._limits = guard, limits
        self._rate = Rate()
        self._together: tuple[Sequence[Delivery], Mapping[Position, Fate]] | None = None
        self._act = act or partial(fold_batch, consumer)
        self._since_ms = since_ms
        self._alone = Alone(
            consumer, store, generation, guard=guard, limits=limits, rate=self._rate, act=self._act
        )
        self._in_hand = 0

    def take(self, batch: Batch) -> int:
        """Give a batch its fates and return how many were applied; suspects go first and alone.

        What the generation does not bind needs no fate: a queue brings it while bindings change.
        Raises Swollen between two suspects, so that the next one is not struck for a leak of those
        before it.
        """
        deliveries = [one for one in batch.deliveries if self._is_for_us(one)]
        self._say_in_hand(len(deliveries))
        self._alone.give_back()
        applied = self.finish_together()
        suspects = self._without_row([one for one in deliveries if _may_end_us(one)])
        if len(suspects) > _ALONE_AT_MOST:
            for start in range(0, len(suspects), _TOGETHER_AT_MOST):
                applied += self.take_together(suspects[start : start + _TOGETHER_AT_MOST], {})
        else:
            for suspect in suspects:
                applied += self.apply_alone(suspect, None)
                if self._guard.swollen():
                    raise Swollen
        return applied + self.apply(deliveries, through=batch.through)

    def _is_for_us(self, delivery: Delivery) -> bool:
        if delivery.position.relay == UNREADABLE:
            return True
        return wanted(self._bindings, delivery.routing_key) and not self._is_before(delivery)

    def _is_before(self, delivery: Delivery) -> bool:
        """Say whether it was accepted before this consumer wants anything."""
        if not self._since_ms:
            return False
        return read_envelope(delivery.body).acceptedat.timestamp() * 1000 < self._since_ms

    def take_together(self, some: Sequence[Delivery], rows: Mapping[Position, Fate]) -> int:
        """Fold some at once, each with a row first that makes it due alone a bit later.

        After a restart of the broker all that was in flight is suspect, and nearly always
        innocent; so is what is due again. Should they end this process, each of them goes alone
        when it is due. `rows` are those that they have already.
        """
        now = now_ms()
        due_ms = now + int((self._limits.batch_s + self._limits.alone_s) * 1000)
        first = Fate(state=State.RETRYING, first_ms=now, version=self._consumer.version)
        waits = {
            one.position: replace(rows.get(one.position, first), due_ms=due_ms, reason=TOGETHER)
            for one in some
        }
        changes = [Change(place, rows.get(place), fate) for place, fate in waits.items()]
        try:
            self._store.commit(self._generation, Commit(changes=changes))
        except Overtaken:
            return 0  # Others have them in hand too.
        except Refused as refusal:
            # Nothing of anybody's content is in it: the server had no time or room just now.
            raise Outage(str(refusal)) from refusal
        self._together = some, waits
        return self.finish_together()

    def finish_together(self) -> int:
        """Fold what has rows of ours only; after an outage too, because this process lives."""
        if self._together is None:
            return 0
        some, waits = self._together
        try:
            applied = self._attempt(some, {}, waits)
        except Overtaken:
            applied = 0  # Another one has them; what is left without a fate will be due.
        self._together = None
        return applied

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
                return self._attempt(self._without_row(deliveries), through or {}, {})
            except Overtaken as overtaken:
                logger.info("folded again", action="fold_again", reason=str(overtaken))
                # Two that overtake each other all the time would both stand still.
                time.sleep(random.uniform(0, _ASIDE_S))  # noqa: S311

    def _without_row(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        if not deliveries:
            return []
        unique = {delivery.position: delivery for delivery in deliveries}
        have = self._store.fates(self._generation, list(unique))
        return [delivery for position, delivery in unique.items() if position not in have]

    def _attempt(
        self, deliveries: Sequence[Delivery], through: Watermarks, before: Mapping[Position, Fate]
    ) -> int:
        try:
            return self._fold(deliveries, through, before)
        except Refused as refusal:
            if len(deliveries) == 1:
                changes = [self._failure(deliveries[0], before, refusal)]
                self._store.commit(self._generation, Commit(changes=changes))
                return self._fold((), through, {})
        # The store refuses the content of somebody here: halve until the culprit stands alone.
        middle = len(deliveries) // 2
        first = self._attempt(deliveries[:middle], {}, before)
        return first + self._attempt(deliveries[middle:], through, before)

    def _fold(
        self, deliveries: Sequence[Delivery], through: Watermarks, before: Mapping[Position, Fate]
    ) -> int:
        if not deliveries and not through:
            return 0
        events, positions, changes = self._decoded(deliveries, before)
        folded = self._act(
            events,
            lambda keys: self._store.load(self._generation, keys),
            guard=self._guard,
            deadline_s=self._limits.batch_s,
        )
        for place, error in folded.failures.items():
            row = before.get(positions[place])
            fate = self._alone.failed(row, error, event_id=events[place].id)
            changes.append(Change(positions[place], row, fate))
        failed = folded.failures
        applied = [one for place, one in enumerate(positions) if place not in failed]
        changes += [Change(one, before[one], APPLIED) for one in applied if one in before]
        rate = self._rate.after(len(applied))
        self._store.commit(
            self._generation,
            Commit(
                documents=folded.documents,
                applied=[one for one in applied if one not in before],
                changes=changes,
                facts=folded.facts,
                through=through,
                rate=rate,
            ),
        )
        return len(applied)

    def _decoded(
        self, deliveries: Sequence[Delivery], before: Mapping[Position, Fate]
    ) -> tuple[list[Event], list[Position], list[Change]]:
        events, positions, changes = [], [], []
        for delivery in deliveries:
            try:
                events.append(event_of(delivery))
                positions.append(delivery.position)
            except (Undecodable, NewerVersion) as error:
                changes.append(self._failure(delivery, before, error))
        return events, positions, changes

    def _failure(
        self, delivery: Delivery, before: Mapping[Position, Fate], error: Exception
    ) -> Change:
        row = before.get(delivery.position)
        fate = self._alone.failed(row, error, event_id=id_of(delivery))
        return Change(delivery.position, row, fate)

    def apply_alone(self, delivery: Delivery, before: Fate | None) -> bool:
        """Fold one suspect or one due retry, its strike committed first; say whether it is applied.

        `before` is its row. Only code that ends the process leaves the strike standing.
        """
        return self._alone.apply(delivery, before)
