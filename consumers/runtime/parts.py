"""The parts of a runner: what the composition root puts together for one consumer's process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consumers.runtime.control import Control
from consumers.runtime.guard import Guard
from consumers.runtime.registry import Loaded
from consumers.runtime.store import Store
from consumers.runtime.worker import Limits
from events.bus import Queue, Subscription
from events.log import LogReader, Watermarks
from events.patience import Patience
from events.relay import Relay
from events.sources import Bookmarks, Source

Carry = Callable[[Callable[[], Sequence[Source]], Bookmarks], Relay]
Subscribe = Callable[[tuple[str, ...], Watermarks, int], Subscription]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a runner is made of.

    `subscribe` takes bindings, watermarks and a count of suspects; `queue` is None where the log
    itself is the bus; `replaced` tells whether the consumer's file, or the log's, is not what was
    opened any more. `carry` makes what carries this consumer's facts on, where that is its own
    process's work.
    """

    loaded: Loaded
    store: Store
    log: LogReader
    control: Control
    subscribe: Subscribe
    guard: Guard
    limits: Limits
    batch: int
    patience: Patience
    queue: Queue | None = None
    carry: Carry | None = None
    detach_at: int = 1_000_000
    replaced: Callable[[], bool] = lambda: False
