"""Event: a fact in its envelope, CloudEvents 1.0 JSON, and the only codec of the wire."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid5

import msgspec

from events.achievements import AchievementUnlocked
from events.errors import NewerVersion, Undecodable
from events.upcasters import CURRENT, upcast
from events.workouts import WorkoutCompleted

WORKOUT_COMPLETED = "workout.completed"
SOURCE = "/paceline"
ACHIEVEMENT_UNLOCKED = "achievement.unlocked"
FACTS: dict[str, type[Any]] = {
    WORKOUT_COMPLETED: WorkoutCompleted,
    ACHIEVEMENT_UNLOCKED: AchievementUnlocked,
}
_TOLD = FACTS.keys() - {WORKOUT_COMPLETED}  # by consumers, of what they found
IDS = UUID("5a0f9c62-2f0b-5d0e-9f0a-7b1c1b1a6f43")


Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What the platform reads of an event, by the names on the wire; the fact stays bytes.

    `time` is when it happened (the end of a workout), `acceptedat` when we said 202. What follows
    from another event says which one in `causedby`, and in `hops` how many lie between it and a
    post.
    """

    specversion: str = "1.0"
    id: str
    source: str = SOURCE
    type: str
    subject: str
    time: Aware
    datacontenttype: str = "application/json"
    dataversion: Annotated[int, msgspec.Meta(ge=1)]
    acceptedat: Aware
    routingkey: str
    causedby: str | msgspec.UnsetType = msgspec.UNSET
    hops: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened, as consumers see it; `data` is the fact in its current version."""

    id: str
    type: str
    version: int
    user_id: str
    time: datetime
    accepted_at: datetime
    routing_key: str
    hops: int = 0
    data: Any


class Sealed(msgspec.Struct, frozen=True):
    """An event that is encoded once: what is synced is what is logged and published.

    `digest` is the content hash: of the canonical fact, without envelope times and absent fields.
    """

    id: str
    digest: bytes
    body: bytes


_envelopes = msgspec.json.Decoder(Envelope)
_facts = {kind: msgspec.json.Decoder(fact) for kind, fact in FACTS.items()}
_encode = msgspec.json.Encoder().encode


def id_bytes(event_id: str) -> bytes:
    """Return the 16 bytes of an event's id; raises ValueError for what is none."""
    return bytes.fromhex(event_id.replace("-", ""))


def is_id(text: str) -> bool:
    """Say whether a text is an event's id as we write them."""
    try:
        return id_text(id_bytes(text)) == text
    except ValueError:
        return False


def id_text(key: bytes) -> str:
    """Return the id of its 16 bytes."""
    text = key.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def workout_event_id(user_id: str, workout_id: str) -> str:
    """Return the id of a workout's event, a UUIDv5, so that a client's retry is the same event."""
    return str(uuid5(IDS, f"{WORKOUT_COMPLETED}/{user_id}/{workout_id}"))


def seal(fact: WorkoutCompleted, *, accepted_at: datetime) -> Sealed:
    """Encode a fact in its envelope, with the id and the routing key that it keeps for ever."""
    data = encode_fact(fact)
    event_id = workout_event_id(fact.user_id, fact.workout_id)
    body = enclose(
        data,
        event_id=event_id,
        kind=WORKOUT_COMPLETED,
        user_id=fact.user_id,
        time=fact.ended_at,
        accepted_at=accepted_at.astimezone(UTC),
        routing_key=f"{WORKOUT_COMPLETED}.{fact.sport}",
    )
    return Sealed(event_id, digest_of(WORKOUT_COMPLETED, event_id, data), body)


def digest_of(kind: str, event_id: str, data: bytes) -> bytes:
    """Return an event's content hash.

    Of what a consumer tells it is that of the id: of two that differ in what they were seen with,
    or in being quiet, the first stands, and is no conflict.
    """
    return sha256(event_id.encode() if kind in _TOLD else data).digest()


def enclose(
    data: bytes,
    *,
    event_id: str,
    kind: str,
    user_id: str,
    time: datetime,
    accepted_at: datetime,
    routing_key: str,
    caused_by: str | msgspec.UnsetType = msgspec.UNSET,
    hops: int | msgspec.UnsetType = msgspec.UNSET,
) -> bytes:
    """Return the bytes of an event around those of its fact, which has its current version."""
    return _encode(
        Envelope(
            id=event_id,
            type=kind,
            subject=user_id,
            time=time,
            dataversion=CURRENT[kind],
            acceptedat=accepted_at,
            routingkey=routing_key,
            causedby=caused_by,
            hops=hops,
            data=msgspec.Raw(data),
        )
    )


def encode_fact(fact: object) -> bytes:
    """Return the canonical JSON of a fact: its fields in their order, absent ones left out."""
    return _encode(_present(fact))


def _present(fact: Any) -> dict[str, Any]:
    present = {}
    for name in _names(fact.__class__):
        value = getattr(fact, name)
        if value is not None:
            present[name] = _present(value) if is_dataclass(value) else value
    return present


@cache
def _names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


def read_envelope(body: bytes) -> Envelope:
    """Return the envelope of an event's bytes; raises Undecodable."""
    try:
        return _envelopes.decode(body)
    except _UNREADABLE as error:
        raise Undecodable(f"These bytes are not an event: {error}: {body[:80]!r}.") from error


def from_bytes(body: bytes) -> Event:
    """Return the event of its bytes; raises Undecodable, or NewerVersion where it must wait."""
    envelope = read_envelope(body)
    return Event(
        id=envelope.id,
        type=envelope.type,
        version=envelope.dataversion,
        user_id=envelope.subject,
        time=envelope.time,
        accepted_at=envelope.acceptedat,
        routing_key=envelope.routingkey,
        hops=envelope.hops or 0,
        data=_fact(envelope),
    )


def _fact(envelope: Envelope) -> Any:
    kind, version = envelope.type, envelope.dataversion
    known = CURRENT.get(kind, 0)
    if version > known:
        raise NewerVersion(kind, version, known)
    try:
        if version == known:
            return _facts[kind].decode(envelope.data)
        data = upcast(kind, version, msgspec.json.decode(envelope.data))
        return msgspec.convert(data, FACTS[kind])
    except (*_UNREADABLE, LookupError, TypeError, ValueError, AttributeError) as error:
        raise Undecodable(f"The fact of event {envelope.id} is not a {kind}: {error}.") from error


def same_fact(one: bytes, other: bytes) -> bool:
    """Say whether two events' bytes hold the same fact, whatever version each was written in."""
    ours, theirs = from_bytes(one), from_bytes(other)
    # As bytes: two times of one instant are equal in Python, and different days elsewhere.
    return ours.type == theirs.type and encode_fact(ours.data) == encode_fact(theirs.data)


def to_json(body: bytes) -> dict[str, Any]:
    """Return an event's bytes as the CloudEvents object that they are."""
    return msgspec.json.decode(body, type=dict[str, Any])
