"""The publisher on RabbitMQ: confirms are pipelined, and it connects again by itself."""

import random
import threading
import time
from collections.abc import Sequence
from functools import partial
from itertools import cycle
from typing import Any

import structlog
from pika.spec import Basic

from events.bus.rabbitmq import NOT_FOUND, abort, said
from events.bus.rabbitmq_joined import JoinedConnection
from events.bus.rabbitmq_messages import properties_of
from events.bus.rabbitmq_nodes import address, parameters
from events.bus.rabbitmq_sending import CONFIRMED, REFUSED, RabbitSending
from events.errors import Outage
from events.log import Appended
from events.topology import EXCHANGE

logger = structlog.get_logger(__name__)
_LEAST_WAIT_S, _MOST_WAIT_S = 0.05, 5.0
_GOODBYE_S = 2.0


class RabbitPublisher:
    """Publishes to an exchange; a thread of its own keeps the connection."""

    window = 2

    def __init__(
        self,
        url: str,
        *,
        exchange: str = EXCHANGE,
        routing_key: str | None = None,
        confirm_s: float = 10.0,
        ready_s: float = 5.0,
    ) -> None:
        """Connect in the background; `routing_key` stands for each event's own.

        Raises PacelineError for a URL that can never be one.
        """
        self._nodes = cycle(parameters(url, name="paceline relay"))
        self._address = address(url)
        self._exchange, self._routing_key = exchange, routing_key
        self._confirm_s, self._ready_s = confirm_s, ready_s
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._connection: Any = None
        self._channel: Any = None
        self._blocked = ""
        self._lost = "no connection was made yet"
        self._attempts = 0
        self._unrouted = 0
        self._next_tag = 1
        self._moved_at = 0.0
        self._sendings: list[RabbitSending] = []
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    @property
    def unrouted(self) -> int:
        """How many messages came back because no queue wanted them."""
        return self._unrouted

    def publish(self, events: Sequence[Appended]) -> RabbitSending:
        """Hand events over, in their order; raises Outage where no way is for seconds."""
        sending = RabbitSending(events, self._wait_for)
        if not events:
            return sending
        with self._changed:
            if not self._changed.wait_for(self._usable, self._ready_s):
                raise Outage(f"The broker at {self._address} takes nothing: {self._why()}.")
            self._sendings.append(sending)
            self._connection.ioloop.add_callback_threadsafe(partial(self._send, sending))
        return sending

    def _usable(self) -> bool:
        return self._channel is not None and not self._blocked

    def _why(self) -> str:
        return f"it blocks publishers ({self._blocked})" if self._blocked else self._lost

    def _wait_for(self, sending: RabbitSending) -> None:
        """Wait until a sending has all it will get; a connection that is silent is aborted."""
        since = time.monotonic()
        while True:
            silent_s = time.monotonic() - max(since, self._moved_at)
            if sending.done.wait(max(0.0, self._confirm_s - silent_s)):
                return
            if time.monotonic() - max(since, self._moved_at) >= self._confirm_s:
                self._give_up(sending)
                return

    def _give_up(self, sending: RabbitSending) -> None:
        """Abort the connection: where the other end is gone, nobody else notices for a minute.

        A broker that blocks is there; it goes on with what it has when its alarm is over.
        """
        with self._changed:
            if sending in self._sendings and not self._blocked:
                why = f"no confirm within {self._confirm_s:g} s"
                self._connection.ioloop.add_callback_threadsafe(partial(self._abort, why))
                self._lose(why)

    def close(self) -> None:
        """Let the connection go; what was not confirmed stays unconfirmed."""
        with self._changed:
            self._closing.set()
            if self._connection is not None:
                self._connection.ioloop.add_callback_threadsafe(self._say_goodbye)
        self._thread.join(2 * _GOODBYE_S)

    # What follows runs in the publisher's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._connect_and_serve()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next connection may live
                self._lose(said(error))
            most = min(_MOST_WAIT_S, _LEAST_WAIT_S * 2**self._attempts)
            self._attempts = min(self._attempts + 1, 10)
            self._closing.wait(random.uniform(0, most))  # noqa: S311

    def _connect_and_serve(self) -> None:
        with self._changed:
            if self._closing.is_set():
                return
            self._connection = connection = JoinedConnection(
                next(self._nodes),
                on_open_callback=self._opened,
                on_open_error_callback=self._ended,
                on_close_callback=self._ended,
            )
        try:
            connection.ioloop.start()
        finally:
            with self._changed:
                self._connection = None
            connection.ioloop.close()

    def _opened(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._block)
        connection.add_on_connection_unblocked_callback(self._unblock)
        connection.channel(on_open_callback=self._look_for_exchange)

    def _look_for_exchange(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        if self._exchange:
            confirm = partial(self._confirm, channel)
            channel.exchange_declare(self._exchange, passive=True, callback=confirm)
        else:
            self._confirm(channel)

    def _declare_exchange(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        confirm = partial(self._confirm, channel)
        channel.exchange_declare(self._exchange, "topic", durable=True, callback=confirm)

    def _confirm(self, channel: Any, _declared: Any = None) -> None:
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._told, callback=partial(self._ready, channel))

    def _ready(self, channel: Any, _selected: Any) -> None:
        if self._lost:
            logger.info("connected", action="broker_connected", broker=self._address)
        with self._changed:
            self._channel, self._lost, self._next_tag, self._attempts = channel, "", 1, 0
            self._changed.notify_all()

    def _send(self, sending: RabbitSending) -> None:
        if sending.done.is_set():
            return
        publish, exchange, key = self._channel.basic_publish, self._exchange, self._routing_key
        sending.first = self._next_tag
        self._next_tag += len(sending.events)
        with self._connection.joined():
            for event in sending.events:
                own = event.routing_key if key is None else key
                publish(exchange, own, event.body, properties_of(event), True)

    def _told(self, frame: Any) -> None:
        self._moved_at = time.monotonic()
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        fate = CONFIRMED if isinstance(frame.method, Basic.Ack) else REFUSED
        for sending in self._sendings:
            if sending.first <= tag and (multiple or tag < sending.first + len(sending.events)):
                sending.tell(tag, multiple=multiple, fate=fate)
        if any(sending.done.is_set() for sending in self._sendings):
            with self._changed:
                self._sendings = [one for one in self._sendings if not one.done.is_set()]

    def _returned(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self._unrouted += 1
        logger.debug("unrouted", action="event_unrouted", event_id=properties.message_id)

    def _block(self, _connection: Any, frame: Any) -> None:
        logger.warning("broker blocks", action="broker_blocks", reason=frame.method.reason)
        with self._changed:
            self._blocked = frame.method.reason or "alarm"

    def _unblock(self, _connection: Any, _frame: Any) -> None:
        logger.info("broker goes on", action="broker_unblocked")
        with self._changed:
            self._blocked, self._moved_at = "", time.monotonic()
            self._changed.notify_all()

    def _channel_closed(self, channel: Any, reason: BaseException) -> None:
        self._lose(said(reason))
        connection = channel.connection
        if not connection.is_open:
            return
        if getattr(reason, "reply_code", None) == NOT_FOUND:
            connection.channel(on_open_callback=self._declare_exchange)
        else:
            connection.close()

    def _ended(self, connection: Any, error: BaseException) -> None:
        self._lose(said(error))
        connection.ioloop.stop()

    def _lose(self, why: str) -> None:
        if not self._lost and not self._closing.is_set():
            logger.warning("broker lost", action="broker_lost", reason=why)
        with self._changed:
            self._channel, self._blocked, self._lost = None, "", why
            lost, self._sendings = self._sendings, []
        for sending in lost:
            sending.done.set()

    def _abort(self, why: str) -> None:
        if self._connection is not None:
            abort(self._connection, why)

    def _say_goodbye(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed or connection.is_closing:
            return
        connection.ioloop.call_later(_GOODBYE_S, partial(self._abort, "closing takes too long"))
        connection.close()
