"""The kit for plug-in authors: what a consumer makes of events, and whether it keeps its contract.

`check(consumer)` raises NotConforming, or all is well; `folded(consumer, events)` gives the
documents; `read(consumer, "/users/ada/calories", events)` what a client would be answered;
`MemoryPlatform()` is a platform in memory: what the fixture `paceline` of pytest gives.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from consumers import Document, Projection
from consumers.answering import Query, answered
from consumers.conformance import check_all, examine
from consumers.generated import badge, event, generated
from consumers.memory import MemoryDocuments
from consumers.memory_platform import MemoryPlatform
from consumers.runtime import registry
from consumers.trying import NotConforming, tried
from events.envelope import Event

__all__ = [
    "MemoryDocuments",
    "MemoryPlatform",
    "NotConforming",
    "Query",
    "badge",
    "check",
    "event",
    "folded",
    "generated",
    "load",
    "read",
]


def load(file: Path) -> Any:
    """Return the consumer of a file, as the platform loads it; raises Unfit, with what is wrong."""
    return registry.load(registry.single(file)).consumer


def folded(consumer: Projection, events: Iterable[Event], *, batch: int = 1) -> dict[str, Document]:
    """Return the documents after a fresh fold of the events that it is bound to, each id once.

    Between two batches the documents go through JSON, as the store's do.
    """
    made = tried(consumer, events, batch=batch).documents
    return {key: json.loads(text) for key, text in made.items()}


def check(consumer: Projection, events: Iterable[Event] | None = None) -> None:
    """Raise NotConforming unless the consumer keeps its contract over these events.

    Whatever the order, the batches and the duplicates: the documents are the same, JSON of whole
    numbers, and of a size that the store takes. Without events: over those of `generated()`, and
    documents grow slowly, and an event takes less than 50 ms.
    """
    if events is not None:
        check_all(consumer, list(events))
        return
    for one in examine(consumer, generated()):
        if not one.ok:
            raise NotConforming(one.detail)


def read(
    consumer: Projection,
    path: str,
    source: Mapping[str, Document] | Iterable[Event],
    *,
    now: datetime | None = None,
) -> Any:
    """Return what a client gets for a path such as "/users/ada/calories?from=2026-11-01".

    `source` is documents by key, or events. LookupError (404) and ValueError (422) come through.
    """
    held = source if isinstance(source, Mapping) else folded(consumer, source)
    if (found := answered(consumer, path, held, now=now)) is None:
        reads = list(getattr(consumer, "reads", {}))
        raise NotConforming(f"{consumer.name} has no read for {path!r}, only {reads}.")
    return found[0]
