"""Acting: what a worker does with events, by the kind of its consumer."""

from datetime import UTC, datetime
from functools import partial

from consumers.runtime.folding import Act, fold_batch
from consumers.runtime.handling import Handling
from consumers.runtime.reacting import Reacting
from consumers.runtime.registry import Loaded


def act_of(loaded: Loaded, *, born: datetime) -> Act:
    """Return how a consumer takes a batch: folded, folded with reactions, or handled."""
    if loaded.handles:
        return Handling(
            loaded.consumer, concurrency=loaded.concurrency, deadline_s=loaded.deadline_s
        )
    reacts = hasattr(loaded.consumer, "react")
    react = Reacting(loaded.consumer, born=born) if reacts else None
    return partial(fold_batch, loaded.consumer, react=react)


def since_ms(loaded: Loaded, now: datetime) -> int:
    """Return from which moment of acceptance on a consumer wants events, in ms since 1970."""
    if loaded.since is None:
        return 0
    since = now if loaded.since == "now" else datetime.fromisoformat(loaded.since)
    return int(since.astimezone(UTC).timestamp() * 1000)
