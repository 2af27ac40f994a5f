"""How an event is a message on RabbitMQ, and what of a message is believed."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeGuard

import pika

from events.bus import UNREADABLE
from events.envelope import read_envelope
from events.errors import Undecodable
from events.log import Appended, Position

RELAY, NUMBER, COUNT = "paceline-relay", "paceline-number", "x-delivery-count"
_LARGEST_NUMBER = (1 << 40) - 1


def properties_of(event: Appended) -> pika.BasicProperties:
    """Return what a message says beside its body: the event's names, and its position."""
    envelope = read_envelope(event.body)
    return pika.BasicProperties(
        content_type="application/cloudevents+json",
        headers={RELAY: event.position.relay, NUMBER: event.position.number},
        delivery_mode=2,
        message_id=envelope.id,
        timestamp=int(envelope.acceptedat.timestamp()),
        type=envelope.type,
        app_id="paceline",
    )


def position_of(headers: Mapping[str, Any], body: bytes) -> Position:
    """Return the position that a message carries, or one under the hash of an unreadable body."""
    relay, number = headers.get(RELAY), headers.get(NUMBER)
    if isinstance(relay, str) and relay and _is_number(number):
        try:
            read_envelope(body)
        except Undecodable:
            pass
        else:
            return Position(relay, int(number))
    return Position(UNREADABLE, int.from_bytes(sha256(body).digest()[:5], "big"))


def times_before(headers: Mapping[str, Any]) -> int:
    """Return how often the queue has brought the message before; a stranger may write anything."""
    count = headers.get(COUNT)
    return int(count) if isinstance(count, int) else 0


def _is_number(number: Any) -> TypeGuard[int]:
    # An int of 64 bits comes as a subclass of it.
    whole = isinstance(number, int) and not isinstance(number, bool)
    return whole and 0 < number <= _LARGEST_NUMBER
