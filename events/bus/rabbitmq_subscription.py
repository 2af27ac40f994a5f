"""A consumer's queue on RabbitMQ; a thread of its own keeps it declared, bound and consumed."""

import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from queue import Empty, SimpleQueue
from typing import Any

import structlog
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPConnectionError, ConnectionWrongStateError

from events.bus import Batch, Delivery
from events.bus.rabbitmq import (
    TROUBLE,
    NoLeader,
    Unanswered,
    abort,
    answered,
    declare_exchange,
    declare_queue,
    problem_of,
    said,
)
from events.bus.rabbitmq_messages import position_of, times_before
from events.bus.rabbitmq_nodes import address, parameters
from events.log import Position
from events.topology import EXCHANGE, queue_name

logger = structlog.get_logger(__name__)
_MOMENT_S = 0.1
_LEAST_WAIT_S, _MOST_WAIT_S = 0.05, 5.0
_GOODBYE_S = 5.0


class RabbitSubscription:
    """Brings what a consumer's queue holds, through every loss of the connection."""

    problem: str | None = None

    def __init__(
        self,
        url: str,
        consumer: str,
        bindings: Sequence[str],
        *,
        former: Sequence[str] = (),
        size: int = 500,
        prefetch: int | None = None,
        check_s: float = 5.0,
        answer_s: float = 10.0,
    ) -> None:
        """Open the queue in the background, once somebody takes; unbind `former` bindings.

        At most `size` deliveries come at once, and `prefetch` are on their way or not acked. What
        is declared and bound is looked at again every `check_s`, because a queue or an exchange
        that somebody deletes says nothing; a broker that does not answer for `answer_s` is left.
        Raises PacelineError for a URL that can never be one.
        """
        self._nodes = cycle(parameters(url, name=f"paceline {consumer}"))
        self._address, self._queue = address(url), queue_name(consumer)
        self._bindings = tuple(bindings)
        self._former = tuple(pattern for pattern in former if pattern not in self._bindings)
        self._size, self._prefetch, self._check_s = size, prefetch or 2 * size, check_s
        self._answer_s = answer_s
        self._arrived: SimpleQueue[Delivery] = SimpleQueue()
        self._epoch = 0
        self._unacked: dict[int, tuple[Position, int]] = {}
        self._had: dict[Position, int] = {}
        self._closing, self._ready = threading.Event(), threading.Event()
        self._cancelled = False
        self._attempts = 0
        self._lost = ""
        self._connection: BlockingConnection | None = None
        self._channel: Any = None
        self._thread = threading.Thread(target=self._run, name=self._queue, daemon=True)

    def _start(self) -> None:  # once somebody takes: what is prefetched is kept from all others
        if self._thread.ident is None and not self._closing.is_set():
            self._thread.start()

    def wait_until_ready(self, seconds: float) -> bool:
        """Wait until the queue is bound and consumed, for so long at most; say whether it is."""
        self._start()
        return self._ready.wait(seconds)

    def batches(self) -> Iterator[Batch]:
        """Yield batches, for ever; an empty one when nothing came for a moment, or nothing can."""
        while True:
            self._start()
            yield Batch(self._taken())

    def _taken(self) -> list[Delivery]:
        taken = []
        with suppress(Empty):
            taken.append(self._arrived.get(timeout=_MOMENT_S))
            while len(taken) < self._size:
                taken.append(self._arrived.get_nowait())
        # What a former connection brought cannot be acked any more, and comes again by this one.
        return [delivery for delivery in taken if delivery.epoch == self._epoch]

    def ack(self, batch: Batch) -> None:
        """Say that every delivery of the batch has a fate that is safe; unsaid, they come again."""
        self._soon(partial(self._ack, [(one.epoch, one.tag) for one in batch.deliveries]))

    def close(self) -> None:
        """Let the connection go; what was not acked comes again to the next one."""
        self._closing.set()
        if self._thread.ident is None:
            return
        self._soon(lambda: None)
        self._thread.join(_GOODBYE_S)
        if (connection := self._connection) is not None:
            link = connection._impl
            drop = partial(abort, link, "closing takes too long")
            with suppress(ConnectionWrongStateError):
                link._adapter_add_callback_threadsafe(drop)
            self._thread.join(_GOODBYE_S)

    def _soon(self, call: Any) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(ConnectionWrongStateError):
                connection.add_callback_threadsafe(call)

    # What follows runs in the subscription's own thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._serve_once()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next connection may live
                self._lose(error)
            if not self._closing.is_set():
                self._closing.wait(self._next_wait_s())

    def _next_wait_s(self) -> float:
        if self.problem is not None:
            return self._check_s
        most = min(_MOST_WAIT_S, _LEAST_WAIT_S * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 10)
        return random.uniform(0, most)  # noqa: S311

    def _serve_once(self) -> None:
        connection = BlockingConnection(next(self._nodes))
        try:
            self._connection = connection
            self._begin(connection)
            self._serve(connection)
        finally:
            self._connection = None
            self._keep_in_mind()
            with suppress(*TROUBLE):
                connection.close()

    def _begin(self, connection: BlockingConnection) -> None:
        with answered(connection, self._answer_s, what="declaring"):
            declare_exchange(connection, EXCHANGE)
            declare_queue(connection, self._queue)
            self._epoch += 1
            self._channel = channel = connection.channel()
            channel.basic_qos(prefetch_count=self._prefetch)
            self._bind(channel)
        self._consume(connection, channel)
        self._say_ready()

    def _consume(self, connection: BlockingConnection, channel: BlockingChannel) -> None:
        self._cancelled = False
        channel.add_on_cancel_callback(self._cancel)
        try:
            with answered(connection, self._answer_s, what="consuming"):
                channel.basic_consume(self._queue, self._arrive)
        except Unanswered as error:
            raise NoLeader(*error.args) from error

    def _say_ready(self) -> None:
        logger.info("consuming", action="queue_consumed", queue=self._queue, broker=self._address)
        self.problem, self._lost, self._attempts = None, "", 0
        self._ready.set()

    def _bind(self, channel: BlockingChannel) -> None:
        for pattern in self._bindings:
            channel.queue_bind(self._queue, EXCHANGE, pattern)
        for pattern in self._former:
            channel.queue_unbind(self._queue, EXCHANGE, pattern)

    def _serve(self, connection: BlockingConnection) -> None:
        check_at = time.monotonic() + self._check_s
        while not self._closing.is_set():
            connection.process_data_events(max(0.0, check_at - time.monotonic()))
            if self._cancelled:
                raise AMQPConnectionError("the queue was deleted, or has lost its leader")
            if time.monotonic() >= check_at:
                # Each raises where what it names is gone; then all is declared again.
                with answered(connection, self._answer_s, what="looking"):
                    self._look_again()
                check_at = time.monotonic() + self._check_s
        # Acks that were said before the end are still to be sent.
        connection.process_data_events(0)

    def _look_again(self) -> None:
        self._channel.queue_declare(self._queue, passive=True)
        self._bind(self._channel)

    def _cancel(self, _frame: Any) -> None:
        self._cancelled = True

    def _arrive(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        headers: Mapping[str, Any] = properties.headers or {}
        position, tag = position_of(headers, body), method.delivery_tag
        count = times_before(headers)
        # What this process had in its hands when the connection was lost did not end the process.
        innocent = count <= self._had.pop(position, -1)
        redelivered = not innocent and (method.redelivered or count > 0)
        self._unacked[tag] = position, count
        self._arrived.put(
            Delivery(position, method.routing_key, body, redelivered, tag, self._epoch)
        )

    def _ack(self, said_of: Sequence[tuple[int, int]]) -> None:
        tags = sorted(tag for epoch, tag in said_of if epoch == self._epoch)
        tags = [tag for tag in tags if tag in self._unacked]
        # A multiple ack covers all that is not acked below it, so only the oldest may go by one.
        if tags and tags == list(islice(self._unacked, len(tags))):
            self._channel.basic_ack(tags[-1], multiple=True)
        else:
            for tag in tags:
                self._channel.basic_ack(tag)
        for tag in tags:
            del self._unacked[tag]

    def _keep_in_mind(self) -> None:
        """Remember what was in hand, and how often it may have come when it comes again."""
        self._ready.clear()
        self._had |= {position: count + 1 for position, count in self._unacked.values()}
        for position in list(islice(self._had, max(0, len(self._had) - 4 * self._prefetch))):
            del self._had[position]
        self._unacked.clear()

    def _lose(self, error: Exception) -> None:
        why = said(error)
        self.problem = problem_of(error, self._queue, self._address)
        if why != self._lost:
            logger.warning("queue lost", action="queue_lost", queue=self._queue, reason=why)
        self._lost = why
