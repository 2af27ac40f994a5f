"""Reactions: facts that follow from events, with ids that depend on nothing but their key."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid5

from events.achievements import AchievementUnlocked
from events.envelope import (
    ACHIEVEMENT_UNLOCKED,
    IDS,
    Event,
    Sealed,
    digest_of,
    enclose,
    encode_fact,
)
from events.schemas import load_reaction
from events.workouts import Origin

MOST_HOPS = 8


def reaction_id(kind: str, consumer: str, user_id: str, key: str) -> str:
    """Return the id of a fact that a consumer finds to hold: the same in any order of arrival."""
    return str(uuid5(IDS, f"{kind}/{consumer}/{user_id}/{key}"))


def seal_reaction(
    cause: Event, told: Mapping[str, Any], *, consumer: str, key: str, quiet: bool
) -> Sealed:
    """Encode what a consumer says of an event; a quiet fact notifies nobody.

    It is accepted when its event was. Raises ValueError for what is no fact of a known type, and
    where it follows from an event by more than 8 steps.
    """
    if cause.hops >= MOST_HOPS:
        raise ValueError(
            f"it follows by more than {MOST_HOPS} steps; do two consumers feed each other?"
        )
    kind, known = load_reaction(told)
    origin = Origin.HISTORY if quiet else Origin.LIVE
    fact = AchievementUnlocked(user_id=cause.user_id, origin=origin, **known)
    event_id = reaction_id(kind, consumer, cause.user_id, key)
    data = encode_fact(fact)
    body = enclose(
        data,
        event_id=event_id,
        kind=kind,
        user_id=cause.user_id,
        time=cause.time,
        accepted_at=cause.accepted_at,
        routing_key=f"{ACHIEVEMENT_UNLOCKED}.{fact.badge.replace('.', '_')}",
        caused_by=cause.id,
        hops=cause.hops + 1,
    )
    return Sealed(event_id, digest_of(kind, event_id, data), body)
