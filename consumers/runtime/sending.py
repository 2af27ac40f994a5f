"""Sending history to one queue of the broker, and to nobody else: for strangers' consumers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from events.bus import Publisher
from events.errors import PacelineError
from events.log import Appended, Logged, LogReader, Outcome, Selection
from events.settings import Settings

_AT_ONCE = 500


class ToQueue(Protocol):
    """A publisher whose events all go to one queue."""

    def send(self, log: LogReader, selection: Selection) -> Iterator[int]:
        """Send, and yield after each part how many events are confirmed in all."""


def to_queue(settings: Settings, queue: str) -> "Sender":
    """Return what sends to a queue; raises PacelineError where there is no broker or no queue."""
    if not settings.broker_url:
        raise PacelineError("--to-queue needs a broker: set PACELINE_BROKER_URL.")
    from events.bus.rabbitmq import exists
    from events.bus.rabbitmq_publisher import RabbitPublisher

    if not exists(settings.broker_url, queue):
        raise PacelineError(f"The broker has no queue {queue!r}; whoever reads it makes it first.")
    return Sender(RabbitPublisher(settings.broker_url, exchange="", routing_key=queue))


class Sender:
    """Sends rows of the log, some at a time; each part is confirmed before the next one."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def send(self, log: LogReader, selection: Selection) -> Iterator[int]:
        """Send, and yield after each part how many events are confirmed in all."""
        sent = 0
        try:
            while rows := log.scan(selection, limit=_AT_ONCE):
                self._send(rows)
                sent += len(rows)
                selection = replace(selection, after=rows[-1].place)
                yield sent
        finally:
            self._publisher.close()

    def _send(self, rows: list[Logged]) -> None:
        unsent = [
            Appended(Outcome.DUPLICATE, row.position, row.routing_key, row.body) for row in rows
        ]
        while unsent:
            confirmed = set(self._publisher.publish(unsent).confirmed())
            unsent = [event for event in unsent if event.position not in confirmed]
