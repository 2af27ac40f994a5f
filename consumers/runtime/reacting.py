"""Reacting: what a consumer says follows from an event, made into facts of its own."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from consumers import Document
from consumers.runtime.folding import BadFold
from events.envelope import Event, Sealed
from events.reactions import seal_reaction
from events.workouts import Origin


class Reacting:
    """Calls `react`; what follows from history is quiet, and notifies nobody.

    History is an event of that origin, and one that was accepted before this consumer first went
    live: it tells of what people have long known.
    """

    def __init__(self, consumer: Any, *, born: datetime) -> None:
        self._consumer, self._born = consumer, born

    def __call__(
        self, event: Event, before: dict[str, Document], after: dict[str, Document]
    ) -> list[Sealed]:
        """Return the facts that newly hold; raises BadFold for what is none."""
        quiet = event.accepted_at < self._born or is_history(event)
        told = self._consumer.react(event, before, after) or ()
        if not isinstance(told, Iterable):
            raise BadFold(f"react() gave {told!r:.80}; yield a key and a mapping with its type")
        return [self._fact(event, one, quiet=quiet) for one in told]

    def _fact(self, event: Event, told: Any, *, quiet: bool) -> Sealed:
        try:
            key, fact = told
        except (TypeError, ValueError):
            key, fact = None, None
        if not isinstance(key, str) or not isinstance(fact, Mapping):
            raise BadFold(f"react() gave {told!r:.80}; yield a key and a mapping with its type")
        try:
            name = self._consumer.name
            return seal_reaction(event, fact, consumer=name, key=key, quiet=quiet)
        except ValueError as error:
            raise BadFold(f"react() gave {fact!r:.80}: {error}") from error


def is_history(event: Event) -> bool:
    """Say whether a fact is of history: imported, or following from what was."""
    return bool(getattr(event.data, "origin", Origin.LIVE) == Origin.HISTORY)
