"""Acting: what a worker does with events, by the kind of its consumer."""

from datetime import UTC, datetime
from functools import partial

from consumers.runtime.folding import Act, fold_batch
from consumers.runtime.handling import Handling
from consumers.runtime.reacting import Reacting
from consumers.runtime.registry import Loaded
from consumers.runtime.store import Store
from events.errors import PacelineError

_KIND = "kind"


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


def check_kind(loaded: Loaded, store: Store) -> None:
    """Raise PacelineError, and say so in the store, where a handler would take over a wrong state.

    A handler has one generation for ever, of the bindings that it began with; and what was folded
    is no state of a handler, nor the other way round.
    """
    name, kind = loaded.name, "handler" if loaded.handles else "projection"
    live, before = store.live(), store.mark(_KIND) or kind
    if live is not None and before != kind:
        changed = f"{name} was a {before} and is a {kind} now"
    elif live is not None and loaded.handles and live.bindings != loaded.bindings:
        changed = f"The bindings of {name} have changed"
    else:
        store.set_mark(_KIND, kind)
        return
    says = (
        f"{changed}, and a handler never begins anew: give it another name, or take it away first: "
        f"`paceline consumers remove {name}`."
    )
    if not store.running():  # else others run well with the code that they have
        store.set_mark("problem", says)
    raise PacelineError(says)
