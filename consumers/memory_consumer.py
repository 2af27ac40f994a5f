"""One consumer in memory: its queue, its documents, and what it has had."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from consumers import Document
from consumers.memory_bus import MemorySubscription
from consumers.runtime.folding import fold_batch
from consumers.runtime.guard import Guard
from consumers.runtime.reacting import Reacting, is_history
from consumers.runtime.store import Stored
from events.bus import Delivery
from events.envelope import Event, Sealed, from_bytes
from events.log import Position

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
_AFTER_ALL = datetime.max.replace(tzinfo=UTC)


class _Unguarded(Guard):
    """A test's own process is not ended from here: whoever runs tests bounds their time."""

    def __init__(self) -> None:
        pass

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        yield


class MemoryConsumer:
    """One consumer with its queue, its documents, and what it has had."""

    def __init__(self, consumer: Any, queue: MemorySubscription, *, arrived: int) -> None:
        self.consumer, self.queue, self.arrived = consumer, queue, arrived
        self.handles = hasattr(consumer, "handle")
        self.stored: dict[str, Stored] = {}
        self.had: set[Position] = set()

    def take(self, delivery: Delivery, *, act: bool) -> list[Sealed]:
        """Fold or handle one event that it has not had, and return the facts that follow."""
        if delivery.position in self.had:
            return []
        event, facts = from_bytes(delivery.body), []
        early = delivery.position.number <= self.arrived
        if not self.handles:
            if not self._is_since(event, early=early):
                return []
            facts = self._fold(event, early=early)
        elif early and not act:
            return []  # not for it, and without a fate: it may still be asked to act
        elif getattr(self.consumer, "history", False) or not is_history(event):
            self.consumer.handle(event)
        self.had.add(delivery.position)
        return facts

    def _is_since(self, event: Event, *, early: bool) -> bool:
        since = getattr(self.consumer, "since", None)
        if since == "now":
            return not early
        return since is None or event.accepted_at >= datetime.fromisoformat(since)

    def _fold(self, event: Event, *, early: bool) -> list[Sealed]:
        reacts = hasattr(self.consumer, "react")
        # What an early event brings is history: it was accepted before this consumer was there.
        born = _AFTER_ALL if early else _BEFORE_ALL
        folded = fold_batch(
            self.consumer,
            [event],
            self._load,
            guard=_Unguarded(),
            deadline_s=0.0,
            react=Reacting(self.consumer, born=born) if reacts else None,
        )
        for error in folded.failures.values():
            raise error
        for written in folded.documents:
            self.stored[written.key] = Stored(written.revision + 1, written.body)
        return folded.facts

    def _load(self, keys: Sequence[str]) -> dict[str, Stored]:
        return {key: self.stored[key] for key in keys if key in self.stored}

    def documents(self) -> dict[str, Document]:
        """Return its documents by key."""
        return {key: json.loads(self.stored[key].body) for key in sorted(self.stored)}
