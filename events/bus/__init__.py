"""Publisher and Subscription, the contract of the bus: two methods each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.log import Appended, Position, Watermarks


class Delivery(NamedTuple):
    """One event as a queue brings it; `redelivered` where it came before and may have been seen."""

    position: Position
    routing_key: str
    body: bytes
    redelivered: bool = False
    tag: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscription brings at once.

    `through` are watermarks that may be committed with the deliveries' fates, because every row up
    to there is in this batch, was in an earlier one, or is not wanted; a broker never knows that.
    """

    deliveries: Sequence[Delivery] = ()
    through: Watermarks = field(default_factory=dict)


class Publisher(Protocol):
    """Brings what the log has to whoever is bound."""

    def publish(self, events: Sequence[Appended]) -> list[Position]:
        """Publish, and return the positions that are confirmed; the others must be sent again.

        Order is kept within a call. Raises Outage where nothing can be sent.
        """

    def close(self) -> None:
        """Let the connection go; what was not confirmed stays unconfirmed."""


class Subscription(Protocol):
    """A consumer's own queue, durable, at least once."""

    def batches(self) -> Iterator[Batch]:
        """Yield batches, for ever; an empty one when nothing came for a moment."""

    def ack(self, batch: Batch) -> None:
        """Say that every delivery of the batch has a fate that is safe; unsaid, they come again."""

    def close(self) -> None:
        """Let the connection go; what was not acked comes again to the next one."""
