"""The queues of the four consumers, with the product's own arguments and bindings."""

from events.bus.rabbitmq import connected, declare_exchange, declare_queue, queue_length
from events.topology import EXCHANGE, queue_name
from tests.acceptance.platform import BUILT_IN, until
from tests.bench.figures import Void

PATTERN = "workout.completed.#"


class Queues:
    """Queues on one vhost that everything published goes to, and that nobody consumes."""

    def __init__(self, url: str, *consumers: str) -> None:
        """Declare and bind them, by default those of all consumers."""
        self.url, self._consumers = url, consumers or BUILT_IN
        with connected(url, name="paceline bench") as connection:
            declare_exchange(connection, EXCHANGE)
            for name in self._consumers:
                declare_queue(connection, queue_name(name))
                connection.channel().queue_bind(queue_name(name), EXCHANGE, PATTERN)

    def check_held(self, expected: int) -> None:
        """Raise Void unless each of them holds so many messages."""
        try:
            until(lambda: self._lengths() == {expected}, what="the queues hold it", within_s=10)
        except AssertionError as error:
            lengths = self._lengths()
            raise Void(f"Queues that must hold {expected} events hold {lengths}.") from error

    def _lengths(self) -> set[int | None]:
        return {queue_length(self.url, name) for name in self._consumers}

    def purge(self) -> None:
        """Empty them."""
        with connected(self.url, name="paceline bench") as connection:
            for name in self._consumers:
                connection.channel().queue_purge(queue_name(name))
