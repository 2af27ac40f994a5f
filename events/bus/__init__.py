"""Publisher and Subscription, the contract of the bus: two methods each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from events.log import Appended, Position, Watermarks

UNREADABLE = "unreadable"
"""The relay of a position that a message does not carry; its number comes of the bytes' hash."""


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


class Sending(Protocol):
    """Events that were handed to the exchange, and may not be confirmed yet."""

    def confirmed(self) -> list[Position]:
        """Wait for the confirms, within a deadline, and return the positions that have theirs.

        The others must be published again: nobody knows whether they came anywhere.
        """


class Publisher(Protocol):
    """Brings what the log has to whoever is bound; `window` sendings may be on their way."""

    window: int

    def publish(self, events: Sequence[Appended]) -> Sending:
        """Hand events over, in their order. Raises Outage where nothing can be sent."""

    def close(self) -> None:
        """Let the connection go; what was not confirmed stays unconfirmed."""


class Queue(Protocol):
    """A consumer's queue as a broker holds it; a subscription brings at most `size` at once."""

    size: int

    def length(self) -> int | None:
        """Return how many messages wait in it, or None where there is no such queue."""

    def delete(self) -> bool:
        """Take it away with all that is in it; say whether there was one."""


class Subscription(Protocol):
    """A consumer's own queue, durable, at least once.

    `problem` says why it brings nothing, where the cause does not pass by itself.
    """

    problem: str | None

    def batches(self) -> Iterator[Batch]:
        """Yield batches, for ever; an empty one when nothing came for a moment."""

    def ack(self, batch: Batch) -> None:
        """Say that every delivery of the batch has a fate that is safe; unsaid, they come again."""

    def close(self) -> None:
        """Let the connection go; what was not acked comes again to the next one."""
