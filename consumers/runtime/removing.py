"""Removing: a consumer whose code is gone leaves a queue and a state; both are taken away."""

from consumers.runtime.places import is_served
from consumers.runtime.registry import NAME
from consumers.runtime.ways import drop_store, queue_of
from events.errors import PacelineError
from events.settings import Settings


def remove(settings: Settings, name: str) -> list[str]:
    """Take a consumer's queue and state away, and return what there was of them.

    Raises PacelineError for what is no name, and while a worker of it runs: it would make both
    again.
    """
    if not NAME.match(name):
        raise PacelineError(f"{name!r:.80} is no consumer's name: a-z, 0-9 and -, at most 63.")
    if is_served(settings, name):
        raise PacelineError(f"A worker of {name} runs; stop it first.")
    queue = queue_of(settings, name)
    gone = ["queue"] if queue is not None and queue.delete() else []
    return [*gone, "state"] if drop_store(settings, name) else gone
