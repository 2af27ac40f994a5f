"""One line of an exported history: the bytes of an event, checked before they are trusted."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC
from typing import Any, BinaryIO

from events.envelope import (
    WORKOUT_COMPLETED,
    Envelope,
    Sealed,
    digest_of,
    from_bytes,
    is_id,
    read_envelope,
    workout_event_id,
)
from events.errors import NewerVersion, Undecodable

LONGEST_LINE = 1 << 20
_LONGEST_KEY = 255


def each_line(stream: BinaryIO) -> Iterator[bytes]:
    """Yield each line without its end; of one that is too long no more than shows that it is."""
    while line := stream.readline(LONGEST_LINE + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
        yield line.rstrip(b"\r\n")


def sealed(line: bytes) -> tuple[Sealed, bool]:
    """Return the event of a line, and whether this code knows its fact.

    It keeps its id, its acceptance time and its bytes. Raises Undecodable that says what is wrong.
    """
    if len(line) > LONGEST_LINE:
        raise Undecodable(f"The line is longer than {LONGEST_LINE} bytes.")
    envelope = read_envelope(line)
    data: Any = None
    with suppress(NewerVersion):
        data = from_bytes(line).data
    _check(line, envelope)
    if envelope.type == WORKOUT_COMPLETED and data is not None:
        _agree("id", envelope.id, workout_event_id(data.user_id, data.workout_id))
        _agree("subject", envelope.subject, data.user_id)
        _agree("time", envelope.time, data.ended_at)
        _agree("routingkey", envelope.routingkey, f"{WORKOUT_COMPLETED}.{data.sport}")
    digest = digest_of(envelope.type, envelope.id, envelope.data)
    return Sealed(envelope.id, digest, line), data is not None


def _check(line: bytes, envelope: Envelope) -> None:
    kind, key = envelope.type, envelope.routingkey
    try:
        line.decode()
        envelope.time.astimezone(UTC)
        envelope.acceptedat.astimezone(UTC)
    except (UnicodeDecodeError, OverflowError) as error:
        raise Undecodable(f"These bytes are not an event: {error}.") from error
    if envelope.specversion != "1.0":
        raise Undecodable(f"specversion is {envelope.specversion!r:.80}; only 1.0 is known.")
    if not is_id(envelope.id):
        raise Undecodable(f"id is {envelope.id!r:.80}; it must be a UUID in lower case.")
    if key != kind and not key.startswith(f"{kind}."):
        raise Undecodable(f"routingkey is {key!r:.80}; it must begin with the type, {kind!r:.80}.")
    if len(key.encode()) > _LONGEST_KEY:
        raise Undecodable(f"routingkey is longer than {_LONGEST_KEY} bytes: {key!r:.80}…")


def _agree(name: str, told: object, meant: object) -> None:
    if told != meant:
        raise Undecodable(f"{name} is {str(told)!r:.80}; its workout means {str(meant)!r:.80}.")
