"""What became of an event for a consumer, as it is shown."""

from datetime import UTC, datetime
from typing import Any

from consumers.runtime.fates import Fate
from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import rfc3339
from consumers.runtime.store import StoreReader
from events.errors import Outage
from events.log import Logged
from events.topology import wanted

PENDING, NOT_FOR_IT, UNKNOWN = "pending", "not-for-it", "unknown"


def fates_of(installation: Installation, logged: Logged) -> dict[str, dict[str, Any]]:
    """Return an event's fate for every consumer, by name."""
    return {name: _fate_of(installation, name, logged) for name in installation.names()}


def _fate_of(installation: Installation, name: str, logged: Logged) -> dict[str, Any]:
    try:
        return fate_of(installation.store(name), logged)
    except Outage as outage:  # of one consumer's file, which hides nothing of the others
        installation.reopen()
        return {"fate": UNKNOWN, "reason": str(outage)}


def fate_of(store: StoreReader | None, logged: Logged) -> dict[str, Any]:
    """Return an event's fate in what readers see of a consumer; its code is not needed for that."""
    if store is None:
        return {"fate": PENDING}
    with store.moment():
        live = store.live()
        if live is None:
            return {"fate": PENDING}
        fate = store.fates(live.number, [logged.position]).get(logged.position)
    if fate is not None:
        return _shown(fate)
    mine = wanted(live.bindings, logged.routing_key) and not live.is_before(logged.body)
    return {"fate": PENDING if mine else NOT_FOR_IT}


def _shown(fate: Fate) -> dict[str, Any]:
    shown: dict[str, Any] = {"fate": fate.state.value}
    for name in ("attempts", "strikes", "needs", "reason"):
        if value := getattr(fate, name):
            shown[name] = value
    if fate.due_ms is not None:
        shown["due"] = rfc3339(datetime.fromtimestamp(fate.due_ms / 1000, UTC))
    return shown
