"""What both ends of the bus on RabbitMQ share: connections, queues, and what goes wrong there."""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from events.bus.rabbitmq_nodes import address, parameters
from events.errors import Outage, PacelineError
from events.topology import queue_name

NOT_FOUND = 404
# The broker would set a message aside that several workers died with, whoever was at fault; here
# strikes decide. There is no limit of length or time and no dead-letter exchange either.
QUEUE_ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}

TROUBLE = (AMQPError, OSError)
_ACCESS_REFUSED, _PRECONDITION_FAILED, _NOT_ALLOWED = 403, 406, 530
_LASTING_CODES = {_ACCESS_REFUSED, _PRECONDITION_FAILED, _NOT_ALLOWED}
_LASTING = (
    ProbableAuthenticationError,
    ProbableAccessDeniedError,
    IncompatibleProtocolError,
    ssl.SSLError,
)
_REMEDY = "Delete the queue: it is made again within seconds, and what it held comes from the log."


class Unanswered(AMQPConnectionError):  # type: ignore[misc]  # pika ships no types
    """The broker is connected, and does not answer."""


class NoLeader(PacelineError):
    """The queue is declared, and nobody answers for it."""


# It reports each step of each failed attempt; what matters is said by us, in one line.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def said(error: BaseException) -> str:
    """Return what went wrong in one line, by its innermost cause; no URL is in it."""
    inner = innermost(error)
    code, text = getattr(inner, "reply_code", None), getattr(inner, "reply_text", None)
    if code is not None:
        return f"{code} {text}"
    return f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the cause that pika has wrapped."""
    while True:
        wrapped = getattr(error, "exceptions", None) or error.args[:1]
        inner = getattr(error, "exception", None) or (wrapped[-1] if wrapped else None)
        if not isinstance(inner, BaseException):
            return error
        error = inner


def problem_of(error: BaseException, queue: str, broker: str) -> str | None:
    """Return what somebody has to mend before the queue is served, or None where it passes."""
    inner, why = innermost(error), said(error)
    if isinstance(inner, NoLeader):
        return (
            f"Queue {queue} of {broker} is there and does not answer ({why}); it may have no "
            f"leader: see rabbitmq-queues quorum_status {queue}. {_REMEDY}"
        )
    if "inequivalent arg" in why:
        return (
            f"Queue {queue} of {broker} was made with other arguments: {why}. Nothing was "
            f"touched. {_REMEDY}"
        )
    if isinstance(inner, _LASTING) or getattr(inner, "reply_code", None) in _LASTING_CODES:
        return f"The broker {broker} refuses queue {queue}: {why}."
    return None


@contextmanager
def connected(url: str, *, name: str) -> Iterator[BlockingConnection]:
    """Give a connection for some commands; raises Outage for whatever goes wrong."""
    try:
        with BlockingConnection(parameters(url, name=name)) as connection:
            yield connection
    except TROUBLE as error:
        raise Outage(f"The broker at {address(url)} does not do it: {said(error)}.") from error


def abort(connection: Any, why: str) -> None:
    """Drop a connection without asking its other end, which may be gone."""
    if not connection.is_closed:
        # pika has no public way; this is its own, where heartbeats stay away.
        connection._terminate_stream(Unanswered(why))


@contextmanager
def answered(connection: BlockingConnection, within_s: float, *, what: str) -> Iterator[None]:
    """Raise Unanswered where the broker leaves a command without an answer for so long."""
    link = connection._impl
    why = f"{what} was not answered within {within_s:g} s"
    timer = link._adapter_call_later(within_s, lambda: abort(link, why))
    try:
        yield
    finally:
        link._adapter_remove_timeout(timer)


class RabbitQueue:
    """A consumer's queue, for who looks at it or takes it away; a connection for each call."""

    def __init__(self, url: str, consumer: str, *, size: int = 500) -> None:
        self._url, self._consumer = url, consumer
        self.size = size

    def length(self) -> int | None:
        """Return how many messages wait in it, or None where there is no such queue."""
        return queue_length(self._url, self._consumer)

    def delete(self) -> bool:
        """Take it away with all that is in it; say whether there was one."""
        return delete_queue(self._url, self._consumer)


def queue_length(url: str, consumer: str) -> int | None:
    """Return how many messages wait for a consumer, or None without a queue; raises Outage."""
    with connected(url, name=f"paceline {consumer} length") as connection:
        try:
            found = connection.channel().queue_declare(queue_name(consumer), passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise
        return int(found.method.message_count)


def delete_queue(url: str, consumer: str) -> bool:
    """Delete a consumer's queue and say whether there was one; raises Outage."""
    if queue_length(url, consumer) is None:
        return False
    with connected(url, name=f"paceline {consumer} delete") as connection:
        connection.channel().queue_delete(queue_name(consumer))
    return True


def exists(url: str, queue: str) -> bool:
    """Say whether the broker has a queue, whoever made it; raises Outage."""
    with connected(url, name="paceline look") as connection:
        return _exists(connection, queue)


def declare_exchange(connection: BlockingConnection, exchange: str) -> None:
    """Use the exchange as it is, or make it; so it may be one that an operator made otherwise."""
    try:
        connection.channel().exchange_declare(exchange, passive=True)
    except ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        connection.channel().exchange_declare(exchange, "topic", durable=True)


def declare_queue(connection: BlockingConnection, queue: str) -> None:
    """Use the queue, or make it; raises ChannelClosedByBroker where it has other arguments."""
    found = _exists(connection, queue)
    channel = connection.channel()
    try:
        # Looking does not compare the arguments; declaring does, and changes nothing.
        channel.queue_declare(queue, durable=True, arguments=QUEUE_ARGUMENTS)
        channel.close()
    except ChannelClosedByBroker as error:
        # Whoever may not declare uses the queue that an operator has made.
        if not (found and error.reply_code == _ACCESS_REFUSED):
            raise


def _exists(connection: BlockingConnection, queue: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
        channel.close()
    except ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            return False
        raise
    return True
