"""Carrying: the facts of a consumer go into the log and on to the exchange, by its leader.

Where state and log are files, the relay's process reads them itself.
"""

import json
import time
from collections.abc import Sequence

import structlog

from consumers.runtime.parts import Parts
from consumers.runtime.store import Store
from events.errors import PacelineError
from events.relay import Relay
from events.sources import Bookmark, Source, Stuck

logger = structlog.get_logger(__name__)
_RELAYED, _STUCK = "relayed", "stuck"
_AGAIN_AFTER_S = 2.0


class Carrying:
    """A relay of a consumer's own facts; nothing for one that never reacts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._make = parts.carry if hasattr(parts.loaded.consumer, "react") else None
        self._relay: Relay | None = None
        self._next_at = 0.0

    def stop(self) -> None:
        """Let go: whoever goes on begins at the bookmark."""
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def step(self) -> bool:
        """Carry some facts on; where the way is closed, that waits, and nothing else does."""
        if self._make is None or time.monotonic() < self._next_at:
            return False
        try:
            self._relay = self._relay or self._make(
                self._sources, StoreBookmarks(self._parts.store)
            )
            return bool(self._relay.step())
        except PacelineError as outage:  # also where we may not write to the log: folding goes on
            self._next_at = time.monotonic() + _AGAIN_AFTER_S
            logger.warning("facts wait", action="facts_wait", reason=str(outage))
            return False

    def _sources(self) -> Sequence[Source]:
        facts = self._parts.store.facts()
        return [facts] if facts else []


class StoreBookmarks:
    """What a relay remembers of a store's facts, in marks of that store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, source: str) -> Bookmark | None:
        """Return the bookmark in a source, or None."""
        text = self._store.mark(f"{_RELAYED} {source}")
        return Bookmark(*json.loads(text)) if text else None

    def save(self, bookmark: Bookmark) -> None:
        """Write it, synced."""
        self._store.set_mark(f"{_RELAYED} {bookmark.source}", json.dumps(bookmark))

    def set_aside(self, stuck: Stuck) -> None:
        """Write a fact that the log refuses; its bytes are in the source for ever."""
        told = json.dumps([stuck.event_id, stuck.reason])
        self._store.set_mark(f"{_STUCK} {stuck.source} {stuck.row}", told)
