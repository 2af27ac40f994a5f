"""Reactions: what is encoded, what is refused, and that a fold of many is that of each alone."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.folding import BadFold, Folded, fold_batch
from consumers.runtime.reacting import Reacting
from consumers.runtime.store import Stored
from events.envelope import Event, Sealed, from_bytes, seal
from events.errors import Undecodable
from events.log import Outcome, Selection
from events.log.sqlite import SqliteEventLog
from events.reactions import reaction_id, seal_reaction
from events.schemas import load_reaction
from events.workouts import Origin
from tests.factories import workout
from tests.integration.doubles import StillGuard

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
BADGE = {
    "type": "achievement.unlocked",
    "badge": "run-5km",
    "workout_id": "w-1",
    "day": "2026-11-24",
}


def event(**changes: Any) -> Event:
    return from_bytes(seal(replace(workout(), **changes), accepted_at=NOON).body)


def sealed(cause: Event, told: dict[str, Any] | None = None, *, key: str = "k") -> Sealed:
    return seal_reaction(cause, told or BADGE, consumer="tells", key=key, quiet=False)


def announced(badge: str, day: str = "2026-11-24") -> dict[str, Any]:
    return BADGE | {"badge": badge, "day": day}


# Ids.


def test_an_id_is_the_same_for_ever() -> None:
    # Another one would announce every badge of the past again.
    told = reaction_id("achievement.unlocked", "achievements", "ada", "run-5km")
    assert told == "b6a503cf-1758-50bb-8d1d-0bac8dbc2e03"


NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,8}\Z")
PEOPLE = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,8}\Z")
TOLD = st.tuples(NAMES, PEOPLE, st.text(st.sampled_from("ab/-. ä"), max_size=8))


@given(st.lists(TOLD, unique=True, max_size=10))
def test_no_two_of_consumer_person_and_key_have_one_id(told: list[tuple[str, str, str]]) -> None:
    assert len({reaction_id("achievement.unlocked", *one) for one in told}) == len(told)


# The wire.


def test_version_1_on_the_wire_is_what_has_shipped() -> None:
    start = datetime(2026, 11, 24, 7, 30, tzinfo=timezone(timedelta(hours=1)))
    cause = event(started_at=start, duration_ms=1_800_000)
    assert json.loads(sealed(cause).body) == {
        "specversion": "1.0",
        "id": reaction_id("achievement.unlocked", "tells", "ada", "k"),
        "source": "/paceline",
        "type": "achievement.unlocked",
        "subject": "ada",
        "time": "2026-11-24T08:00:00+01:00",
        "datacontenttype": "application/json",
        "dataversion": 1,
        "acceptedat": "2026-11-24T12:00:00Z",
        "routingkey": "achievement.unlocked.run-5km",
        "causedby": cause.id,
        "hops": 1,
        "data": {
            "user_id": "ada",
            "badge": "run-5km",
            "workout_id": "w-1",
            "day": "2026-11-24",
            "origin": "live",
        },
    }


def test_what_was_posted_says_nothing_of_causes_and_lies_no_step_behind_itself() -> None:
    posted = json.loads(seal(workout(), accepted_at=NOON).body)
    assert posted.keys().isdisjoint({"causedby", "hops"})
    assert event().hops == 0


@pytest.mark.parametrize("hops", ["-1", '"1"', "1.5", "null"])
def test_a_count_of_steps_that_is_none_cannot_be_read(hops: str) -> None:
    body = sealed(event()).body.replace(b'"hops":1', b'"hops":' + hops.encode())
    with pytest.raises(Undecodable):
        from_bytes(body)


def test_in_the_log_the_first_stands_and_a_later_one_is_no_conflict(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db")
    first = sealed(event())
    later = sealed(event(workout_id="w-9"), announced("run-5km", "2025-01-01"))
    assert first.body != later.body
    appended = log.append([first], source="store") + log.append([later, first], source="another")
    assert [one.outcome for one in appended] == [Outcome.NEW, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert {one.body for one in appended} == {first.body}
    assert [row.body for row in log.scan(Selection(), limit=9)] == [first.body]
    assert log.conflicts() == []
    log.close()


# What is refused.


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"type": "workout.completed"}, "type is 'workout.completed'; facts that may be told are"),
        ({"type": ["achievement.unlocked"]}, "facts that may be told are: achievement.unlocked"),
        ({}, "type is None"),
        (BADGE | {"badge": "a b"}, "badge is 'a b'"),
        (BADGE | {"badge": ""}, "badge is ''"),
        (BADGE | {"origin": "live"}, "origin"),
        (BADGE | {"user_id": "eve"}, "user_id"),
        (BADGE | {7: "x"}, "7"),
        (BADGE | {None: "x"}, "None"),
        (BADGE | {"day": "2026-11-24 or so"}, "day"),
    ],
    ids=repr,
)
def test_what_is_no_fact_is_named_with_its_fault(told: dict[Any, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_reaction(told)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)badge.*workout_id.*day|day.*workout_id.*badge"):
        load_reaction({"type": "achievement.unlocked"})


class Tells:
    """Says what a test wants it to say."""

    name = "tells"

    def __init__(self, told: Any) -> None:
        self.told = told

    def react(self, event: Event, before: object, after: object) -> Any:
        return self.told


@pytest.mark.parametrize(
    "told",
    [
        7,
        "text",
        {"run-5km": BADGE},
        [None],
        [BADGE],
        [("k", BADGE, "more")],
        [(b"k", BADGE)],
        [("\ud800", BADGE)],
        [("k", BADGE | {"type": []})],
        [("k", BADGE | {7: 8})],
        [("k", BADGE | {"badge": "\ud800"})],
        [("k", BADGE | {"day": NOON})],
    ],
    ids=repr,
)
def test_nonsense_breaks_the_contract_and_is_not_tried_again(told: Any) -> None:
    with pytest.raises(BadFold, match=r"react\(\) gave") as refused:
        Reacting(Tells(told), born=LONG_AGO)(event(), {}, {})
    assert refused.value.permanent


def test_what_react_itself_raises_comes_through_as_it_is() -> None:
    class Fails(Tells):
        def react(self, event: Event, before: object, after: object) -> Any:
            yield "k", BADGE
            raise TypeError("no such shoe")

    with pytest.raises(TypeError, match="no such shoe"):
        Reacting(Fails(None), born=LONG_AGO)(event(), {}, {})


def test_what_was_accepted_in_the_moment_of_its_birth_is_not_history() -> None:
    (fact,) = Reacting(Tells([("k", BADGE)]), born=NOON)(event(), {}, {})
    assert from_bytes(fact.body).data.origin is Origin.LIVE


@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "told"])
def test_what_follows_from_a_quiet_fact_is_quiet_too(quiet: bool) -> None:  # noqa: FBT001
    cause = from_bytes(seal_reaction(event(), BADGE, consumer="first", key="k", quiet=quiet).body)
    (fact,) = Reacting(Tells([("k", BADGE)]), born=LONG_AGO)(cause, {}, {})
    assert (from_bytes(fact.body).data.origin is Origin.HISTORY) == quiet


# Folding with reactions.


class Steps:
    """Counts workouts, and tells each count; notes what it was shown."""

    name, bindings, version = "steps", ("workout.completed.#",), 1

    def __init__(self, *bad: str) -> None:
        self.bad, self.shown = bad, list[tuple[Any, Any]]()

    def keys(self, event: Event) -> list[str]:
        return [event.user_id, "all"]

    def fold(self, event: Event, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1

    def react(self, event: Event, before: dict[str, Any], after: dict[str, Any]) -> Any:
        self.shown.append((json.loads(json.dumps(before)), json.loads(json.dumps(after))))
        count = after[event.user_id]["count"]
        yield f"{count}", announced(f"{event.user_id}-{count}")
        if event.data.workout_id in self.bad:
            raise LookupError("no such badge")
        for document in (*before.values(), *after.values()):
            document["count"] = -1
            document["spoilt"] = True


def folded(
    consumer: Steps, events: Sequence[Event], stored: dict[str, Stored] | None = None
) -> Folded:
    return fold_batch(
        consumer,
        events,
        lambda keys: {key: stored[key] for key in keys if key in (stored or {})} if stored else {},
        guard=StillGuard(),
        deadline_s=9,
        react=Reacting(consumer, born=LONG_AGO),
    )


def badges(facts: Iterable[Sealed]) -> list[str]:
    return [from_bytes(fact.body).data.badge for fact in facts]


def documents(folded: Folded) -> dict[str, Any]:
    return {one.key: json.loads(one.body) for one in folded.documents}


EVENTS = [event(workout_id=f"w-{n}", user_id="ab"[n % 2]) for n in range(6)]


def test_react_sees_the_documents_before_and_after_its_event_and_can_spoil_neither() -> None:
    consumer = Steps()
    made = folded(consumer, EVENTS[:3], {"all": Stored(4, b'{"count":10}')})
    assert consumer.shown == [
        ({"a": {}, "all": {"count": 10}}, {"a": {"count": 1}, "all": {"count": 11}}),
        ({"b": {}, "all": {"count": 11}}, {"b": {"count": 1}, "all": {"count": 12}}),
        ({"a": {"count": 1}, "all": {"count": 12}}, {"a": {"count": 2}, "all": {"count": 13}}),
    ]
    assert documents(made) == {"a": {"count": 2}, "b": {"count": 1}, "all": {"count": 13}}
    assert badges(made.facts) == ["a-1", "b-1", "a-2"]


@given(st.sets(st.integers(0, 5)))
def test_whoever_fails_in_react_is_as_if_it_were_not_there(bad: set[int]) -> None:
    made = folded(Steps(*(f"w-{n}" for n in bad)), EVENTS)
    without = folded(Steps(), [one for place, one in enumerate(EVENTS) if place not in bad])
    assert set(made.failures) == bad
    assert all(isinstance(error, LookupError) for error in made.failures.values())
    assert documents(made) == documents(without)
    assert made.facts == without.facts


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_however_they_are_cut_into_batches_the_facts_are_those_of_each_alone(
    sizes: list[int],
) -> None:
    def in_batches(sizes: Iterable[int]) -> tuple[dict[str, Any], list[str]]:
        stored: dict[str, Stored] = {}
        told: list[str] = []
        rest = EVENTS
        for size in sizes:
            made = folded(Steps(), rest[:size], stored)
            stored |= {one.key: Stored(one.revision + 1, one.body) for one in made.documents}
            told += badges(made.facts)
            rest = rest[size:]
        return {key: json.loads(one.body) for key, one in stored.items()}, told

    assert in_batches(chain(sizes, [6])) == in_batches([1] * 6)


def test_without_react_there_are_no_facts() -> None:
    made = fold_batch(Steps(), EVENTS, lambda keys: {}, guard=StillGuard(), deadline_s=9)
    assert made.facts == []
