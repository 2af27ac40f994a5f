"""What the product is compared with: pika alone, on a SelectConnection, without log or state."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import pika
from pika.spec import Basic

from events.envelope import Sealed, read_envelope
from events.topology import EXCHANGE, queue_name
from tests.bench.figures import Void
from tests.bench.real.cost import Cost, Meter

WINDOW = 1000  # messages that are not confirmed, or not acked
A_BATCH = 500  # messages that one ack is for


class Message(NamedTuple):
    """What is published."""

    routing_key: str
    body: bytes


def messages(events: Sequence[Sealed]) -> list[Message]:
    """Return what the relay would publish of events."""
    return [Message(read_envelope(event.body).routingkey, event.body) for event in events]


class _Bare(ABC):
    """One connection and one channel, timed from when it is open until all is done."""

    def __init__(self, url: str) -> None:
        self._connection = pika.SelectConnection(
            pika.URLParameters(url),
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._begin),
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
        )
        self._ending: Any = "it did not begin"
        self._cost: Cost | None = None

    def run(self) -> Cost:
        """Do all of it; raises Void where the connection ends before that."""
        self._connection.ioloop.start()
        if self._cost is None:
            raise Void(f"The bare connection ended: {self._ending}.")
        return self._cost

    def _begin(self, channel: Any) -> None:
        self._channel = channel
        self._meter = Meter()
        self._work()

    @abstractmethod
    def _work(self) -> None:
        """Begin, on an open channel."""

    def _done(self, count: int) -> None:
        self._cost = self._meter.read(count)
        self._connection.close()

    def _ended(self, _connection: Any, error: Any) -> None:
        self._ending = error
        self._connection.ioloop.stop()


class BarePublisher(_Bare):
    """Publishes persistent, mandatory messages; confirms are awaited only by a full window."""

    def __init__(self, url: str, messages: Sequence[Message]) -> None:
        super().__init__(url)
        self._messages = messages
        self._sent = self._through = 0
        self._alone: set[int] = set()  # confirmed, and past one that is not

    def _work(self) -> None:
        self._properties = pika.BasicProperties(delivery_mode=2)
        self._channel.confirm_delivery(self._told, callback=lambda _: self._publish())

    def _publish(self) -> None:
        publish, properties = self._channel.basic_publish, self._properties
        until = min(len(self._messages), self._through + len(self._alone) + WINDOW)
        for key, body in self._messages[self._sent : until]:
            publish(EXCHANGE, key, body, properties, True)
        self._sent = until

    def _told(self, frame: Any) -> None:
        if not isinstance(frame.method, Basic.Ack):
            raise Void("The broker refused a message.")
        tag = frame.method.delivery_tag
        if frame.method.multiple or tag == self._through + 1:
            self._through = max(self._through, tag)
            self._alone = {one for one in self._alone if one > tag}
        elif tag > self._through:
            self._alone.add(tag)
        if self._through + len(self._alone) == len(self._messages):
            self._done(len(self._messages))
        else:
            self._publish()


class BareConsumer(_Bare):
    """Takes so many messages from a queue, looks at none, and acks each batch at once."""

    def __init__(self, url: str, consumer: str, count: int) -> None:
        super().__init__(url)
        self._queue, self._count = queue_name(consumer), count
        self._seen = 0

    def _work(self) -> None:
        self._channel.basic_qos(prefetch_count=WINDOW)
        self._channel.basic_consume(self._queue, self._arrive)

    def _arrive(self, channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        self._seen += 1
        if self._seen == self._count or self._seen % A_BATCH == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if self._seen == self._count:
            self._done(self._count)
