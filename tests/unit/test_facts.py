"""Facts that follow from events: their ids, their envelopes, and what is refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.achievements import Achievements
from consumers.runtime.folding import BadFold
from consumers.runtime.reacting import Reacting
from events.envelope import Event, from_bytes, read_envelope, seal
from events.reactions import MOST_HOPS, reaction_id
from events.workouts import Origin
from tests.factories import workout

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
BADGE = {
    "type": "achievement.unlocked",
    "badge": "run-5km",
    "workout_id": "w-1",
    "day": "2026-11-24",
}


def event(*, accepted_at: datetime = NOON, hops: int = 0, **changes: Any) -> Event:
    made = from_bytes(seal(replace(workout(), **changes), accepted_at=accepted_at).body)
    # msgspec's own way to change a frozen struct; only the platform makes events.
    return Event(
        **{name: getattr(made, name) for name in made.__struct_fields__ if name != "hops"},
        hops=hops,
    )


class Tells:
    """A consumer that says what a test wants it to say."""

    name = "tells"

    def __init__(self, told: Any) -> None:
        self.told = told

    def react(self, event: Event, before: object, after: object) -> Any:
        return self.told


def told(cause: Event, *facts: Any, born: datetime = NOON) -> list[Event]:
    sealed = Reacting(Tells(list(facts)), born=born)(cause, {}, {})
    return [from_bytes(one.body) for one in sealed]


def test_a_fact_has_its_own_id_and_the_time_and_acceptance_of_its_cause() -> None:
    cause = event()
    (fact,) = told(cause, ("run-5km", BADGE))
    assert fact.id == reaction_id("achievement.unlocked", "tells", cause.user_id, "run-5km")
    assert (fact.type, fact.version, fact.hops) == ("achievement.unlocked", 1, 1)
    assert (fact.time, fact.accepted_at) == (cause.time, cause.accepted_at)
    assert (fact.user_id, fact.data.badge, fact.data.origin) == (
        cause.user_id,
        "run-5km",
        Origin.LIVE,
    )


def test_the_envelope_says_which_event_caused_it_and_a_posted_one_says_nothing_of_it() -> None:
    cause = event()
    (sealed,) = Reacting(Tells([("k", BADGE)]), born=NOON)(cause, {}, {})
    assert read_envelope(sealed.body).causedby == cause.id
    assert b"causedby" not in seal(workout(), accepted_at=NOON).body


def test_the_same_key_is_the_same_event_whatever_it_was_seen_with() -> None:
    one = Reacting(Tells([("k", BADGE)]), born=NOON)(event(), {}, {})[0]
    other = BADGE | {"workout_id": "w-9", "day": "2025-01-01"}
    again = Reacting(Tells([("k", other)]), born=NOON)(event(workout_id="w-9"), {}, {})[0]
    assert (one.id, one.digest) == (again.id, again.digest)
    assert one.body != again.body


def test_another_key_another_person_or_another_consumer_is_another_event() -> None:
    ids = {
        told(event(), ("k", BADGE))[0].id,
        told(event(), ("other", BADGE))[0].id,
        told(event(user_id="bob"), ("k", BADGE))[0].id,
        reaction_id("achievement.unlocked", "another", event().user_id, "k"),
    }
    assert len(ids) == 4


def test_a_badge_with_a_dot_is_one_word_of_the_routing_key() -> None:
    (fact,) = told(event(), ("k", BADGE | {"badge": "run-21.0975km"}))
    assert fact.routing_key == "achievement.unlocked.run-21_0975km"
    assert fact.data.badge == "run-21.0975km"


@pytest.mark.parametrize(
    ("cause", "born"),
    [
        (event(origin=Origin.HISTORY), NOON),
        (event(accepted_at=NOON - timedelta(microseconds=1)), NOON),
    ],
    ids=["imported", "accepted before it was born"],
)
def test_what_follows_from_history_is_history(cause: Event, born: datetime) -> None:
    (fact,) = told(cause, ("k", BADGE), born=born)
    assert fact.data.origin is Origin.HISTORY


@pytest.mark.parametrize(
    "nonsense",
    [
        "text",
        ("only a key",),
        (1, BADGE),
        ("k", "no mapping"),
        ("k", {}),
        ("k", BADGE | {"type": "workout.completed"}),
        ("k", BADGE | {"badge": 5}),
        ("k", BADGE | {"colour": "red"}),
        ("k", {name: value for name, value in BADGE.items() if name != "day"}),
    ],
    ids=repr,
)
def test_what_is_no_fact_is_refused_and_shown(nonsense: Any) -> None:
    with pytest.raises(BadFold, match=r"react\(\) gave"):
        told(event(), nonsense)


def test_nothing_told_is_no_fact() -> None:
    assert Reacting(Tells(None), born=NOON)(event(), {}, {}) == []


def test_what_follows_by_too_many_steps_is_refused() -> None:
    assert told(event(hops=MOST_HOPS - 1), ("k", BADGE))[0].hops == MOST_HOPS
    with pytest.raises(BadFold, match="feed each other"):
        told(event(hops=MOST_HOPS), ("k", BADGE))


def test_in_every_order_of_arrival_each_badge_is_told_once() -> None:
    facts = [
        workout(
            workout_id=f"w-{day}",
            started_at=datetime(2025, 12, 30, 8, tzinfo=UTC) + timedelta(days=day),
            distance_mm=25_000_000,
        )
        for day in range(8)
    ]
    events = [from_bytes(seal(one, accepted_at=NOON).body) for one in facts]
    expected = {
        *("first-workout", "run-5km", "run-10km", "run-21.0975km"),
        *("streak-3-days", "streak-7-days", "total-running-100km"),
    }
    for order in (events, events[::-1], [*events[4:], *events[:4]], events[::2] + events[1::2]):
        badges = list(_badges(order))
        assert len(badges) == len(set(badges)), "told twice"
        assert set(badges) == expected


def _badges(events: list[Event]) -> Any:
    consumer, documents = Achievements(), dict[str, Any]()
    for one in events:
        keys = consumer.keys(one)
        before = {key: _copied(documents.get(key, {})) for key in keys}
        touched = {key: documents.setdefault(key, {}) for key in keys}
        consumer.fold(one, touched)
        for badge, fact in consumer.react(one, before, touched):
            assert fact["badge"] == badge
            yield badge


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
