"""Folding a batch: what a bad event may do, and that it costs its neighbours nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.runtime.folding import BadFold, Folded, fold_batch
from consumers.runtime.guard import Guard
from consumers.runtime.store import Stored, Written
from events.envelope import Event
from tests.factories import event

Fold = Callable[[Event, dict[str, Any]], object]
Keys = Callable[[Event], Any]
BAD = "w-250"


class Unarmed(Guard):
    """Notes the deadlines, and arms none."""

    def __init__(self) -> None:
        self.armed: list[float] = []
        self.inside = False

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        self.armed.append(seconds)
        self.inside = True
        yield
        self.inside = False


class Sums:
    """Sums durations per user, but for what a test puts in place of keys and fold."""

    name, bindings, version = "sums", ("#",), 1

    def __init__(self, *, fold: Fold | None = None, keys: Keys | None = None) -> None:
        self._fold, self._keys = fold, keys

    def keys(self, event: Event) -> Any:
        return self._keys(event) if self._keys else [event.user_id]

    def fold(self, event: Event, documents: dict[str, Any]) -> None:
        if self._fold:
            self._fold(event, documents)
        else:
            add(event, documents)


def add(event: Event, documents: dict[str, Any]) -> None:
    for document in documents.values():
        document["ms"] = document.get("ms", 0) + event.data.duration_ms


@cache
def batch(count: int = 500) -> list[Event]:
    """Events of five users, in the middle of which is the bad one."""
    return [
        event(workout_id=f"w-{n}", user_id=f"u{n % 5}", duration_ms=1_000 + n) for n in range(count)
    ]


def sums(events: Sequence[Event], start: int = 0) -> dict[str, dict[str, int]]:
    """What the documents must be without the bad event, by other means than a fold."""
    good = [one for one in events if one.data.workout_id != BAD]
    users = {one.user_id for one in good}
    return {
        user: {"ms": start + sum(one.data.duration_ms for one in good if one.user_id == user)}
        for user in users
    }


def folded(
    consumer: Sums, events: Sequence[Event], stored: dict[str, dict[str, Any]] | None = None
) -> Folded:
    held = {key: Stored(7, msgspec.json.encode(body)) for key, body in (stored or {}).items()}
    return fold_batch(
        consumer,
        events,
        lambda keys: {key: held[key] for key in keys if key in held},
        guard=Unarmed(),
        deadline_s=1.0,
    )


def bodies(found: Folded) -> dict[str, Any]:
    return {one.key: msgspec.json.decode(one.body) for one in found.documents}


def on_bad(misdeed: Fold) -> Fold:
    """A fold that does its work, and for the bad event this too, when the document is changed."""

    def fold(event: Event, documents: dict[str, Any]) -> None:
        add(event, documents)
        if event.data.workout_id == BAD:
            misdeed(event, documents)

    return fold


def _raise(event: Event, documents: dict[str, Any]) -> None:
    raise ZeroDivisionError("no such shoe")


def _exit(event: Event, documents: dict[str, Any]) -> None:
    raise SystemExit(3)


def _interrupt(event: Event, documents: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def _clear_and_raise(event: Event, documents: dict[str, Any]) -> None:
    for document in documents.values():
        document.clear()
    raise ZeroDivisionError


def _add_key(event: Event, documents: dict[str, Any]) -> None:
    documents["another"] = {"ms": 1}


def _remove_key(event: Event, documents: dict[str, Any]) -> None:
    documents.clear()


def _exchange_key(event: Event, documents: dict[str, Any]) -> None:
    documents["another"] = documents.pop(event.user_id)


def _set(value: Any) -> Fold:
    def misdeed(event: Event, documents: dict[str, Any]) -> None:
        documents[event.user_id]["odd"] = value

    return misdeed


def _replace(value: Any) -> Fold:
    def misdeed(event: Event, documents: dict[str, Any]) -> None:
        documents[event.user_id] = value

    return misdeed


def _deep() -> Any:
    nested: list[Any] = []
    for _ in range(20_000):
        nested = [nested]
    return nested


def _circle(event: Event, documents: dict[str, Any]) -> None:
    documents[event.user_id]["self"] = documents


MISDEEDS: dict[str, Fold] = {
    "raises": _raise,
    "exits": _exit,
    "interrupts": _interrupt,
    "raises after it has cleared the document": _clear_and_raise,
    "adds a document": _add_key,
    "removes its document": _remove_key,
    "puts a document under another key": _exchange_key,
    "writes an object": _set(object()),
    "writes a lone surrogate": _set("\ud83d"),
    "writes a function": _set(print),
    "writes a key that is a tuple": _set({(1, 2): 3}),
    "writes a circle": _circle,
    "writes lists in lists without an end": _set(_deep()),
    "puts a list in place of its document": _replace([1]),
    "puts nothing in place of its document": _replace(None),
    "puts a text in place of its document": _replace("gone"),
}


@pytest.mark.parametrize("misdeed", MISDEEDS.values(), ids=MISDEEDS.keys())
@pytest.mark.parametrize("stored", [False, True])
def test_an_event_whose_fold_is_bad_fails_alone_and_leaves_no_trace(
    misdeed: Fold, *, stored: bool
) -> None:
    events = batch()
    held = {f"u{number}": {"ms": 1_000_000} for number in range(5)} if stored else {}
    found = folded(Sums(fold=on_bad(misdeed)), events, held)
    assert list(found.failures) == [250]
    assert bodies(found) == sums(events, start=1_000_000 if stored else 0)


@pytest.mark.parametrize("misdeed", MISDEEDS.values(), ids=MISDEEDS.keys())
def test_a_batch_in_which_all_are_bad_writes_nothing(misdeed: Fold) -> None:
    events = batch(20)
    found = folded(Sums(fold=misdeed), events, {"u1": {"ms": 5}})
    assert found.documents == []
    assert list(found.failures) == list(range(20))


class Shoe(str):
    """A text that is not quite one."""

    __slots__ = ()


@pytest.mark.parametrize(
    "given_keys",
    [
        [""],
        ["k" * 513],
        ["é" * 257],
        ["new\nline"],
        ["nul\0"],
        ["\ud83d"],
        ["fine", 7],
        [None],
        [b"bytes"],
        [Shoe("odd")],
        "text",
        None,
        7,
    ],
    ids=lambda keys: repr(keys)[:20],
)
def test_an_event_whose_keys_are_bad_fails_alone(given_keys: Any) -> None:
    events = batch()

    def keys(event: Event) -> Any:
        return given_keys if event.data.workout_id == BAD else [event.user_id]

    found = folded(Sums(keys=keys), events)
    assert list(found.failures) == [250]
    assert bodies(found) == sums(events)


def test_keys_that_raise_fail_their_event_alone() -> None:
    events = batch()

    def keys(event: Event) -> Any:
        if event.data.workout_id == BAD:
            raise SystemExit("no key")
        yield event.user_id

    found = folded(Sums(keys=keys), events)
    assert list(found.failures) == [250]
    assert bodies(found) == sums(events)


@pytest.mark.parametrize(
    ("consumer", "says"),
    [
        (Sums(keys=lambda _: ["new\nline"]), "keys() gave 'new\\nline'; a key is 1 to 512 bytes"),
        (Sums(keys=lambda _: "text"), "keys() gave 'text'; write a list of keys"),
        (Sums(keys=lambda _: None), "keys() gave None; write a list of keys"),
        (
            Sums(keys=lambda one: [one.data.sport]),
            "keys() gave <Sport.RUNNING: 'running'>, of type Sport; write its .value or its str()",
        ),
        (Sums(fold=_add_key), "fold() added or removed documents"),
        (Sums(fold=_replace([1])), "fold() put [1] in place of document 'u0'"),
    ],
)
def test_what_breaks_the_contract_is_told_how_and_is_not_tried_again(
    consumer: Sums, says: str
) -> None:
    failure = folded(consumer, batch(1)).failures[0]
    assert isinstance(failure, BadFold)
    assert failure.permanent
    assert says in str(failure)


@pytest.mark.parametrize("key", ["k" * 512, "é" * 256, "a/b c~", "🏃"])
def test_a_key_of_512_printable_bytes_is_taken(key: str) -> None:
    assert list(bodies(folded(Sums(keys=lambda _: [key]), batch(1)))) == [key]


def test_the_failure_of_an_event_is_the_error_that_it_raised() -> None:
    failure = folded(Sums(fold=on_bad(_raise)), batch()).failures[250]
    assert isinstance(failure, ZeroDivisionError)
    assert str(failure) == "no such shoe"


def test_a_memory_error_is_no_event_s_failure() -> None:
    calls: list[str] = []

    def fold(event: Event, documents: dict[str, Any]) -> None:
        calls.append("fold")
        raise MemoryError

    def keys(event: Event) -> Any:
        calls.append("keys")
        raise MemoryError

    for consumer in (Sums(fold=fold), Sums(keys=keys)):
        with pytest.raises(MemoryError):
            folded(consumer, batch(3))
    assert calls == ["fold", "keys"]  # and nothing is tried again


def test_an_event_that_touches_several_documents_fails_in_all_of_them() -> None:
    def keys(event: Event) -> list[str]:
        return [event.user_id, "all"]

    def misdeed(event: Event, documents: dict[str, Any]) -> None:
        documents["all"]["odd"] = object()

    events = batch()
    found = folded(Sums(fold=on_bad(misdeed), keys=keys), events)
    expected = sums(events)
    everybody = sum(one["ms"] for one in expected.values())
    assert bodies(found) == expected | {"all": {"ms": everybody}}


def test_one_document_under_a_key_that_is_given_twice_is_folded_once() -> None:
    found = folded(Sums(keys=lambda event: [event.user_id] * 2), batch(1))
    assert bodies(found) == {"u0": {"ms": 1_000}}


def test_what_did_not_change_is_not_written() -> None:
    def fold(event: Event, documents: dict[str, Any]) -> None:
        if event.user_id == "u1":
            add(event, documents)

    held = {"u0": {"ms": 1}, "u1": {"ms": 2}}
    found = folded(Sums(fold=fold), batch(10), held)
    assert bodies(found) == {"u1": {"ms": 2 + 1_001 + 1_006}}


def test_a_document_carries_the_revision_that_it_was_loaded_with() -> None:
    found = folded(Sums(), batch(2), {"u1": {"ms": 2}})
    assert [(one.key, one.revision) for one in found.documents] == [("u0", 0), ("u1", 7)]
    assert all(isinstance(one, Written) for one in found.documents)


def test_each_key_of_a_batch_is_loaded_once_and_outside_of_the_deadline() -> None:
    guard, asked = Unarmed(), list[str]()

    def load(keys: Sequence[str]) -> dict[str, Stored]:
        assert not guard.inside
        asked.extend(keys)
        return {}

    def fold(event: Event, documents: dict[str, Any]) -> None:
        assert guard.inside
        add(event, documents)

    found = fold_batch(Sums(fold=fold), batch(50), load, guard=guard, deadline_s=3.5)
    assert not found.failures
    assert sorted(asked) == ["u0", "u1", "u2", "u3", "u4"]
    assert set(guard.armed) == {3.5}


@given(
    bad=st.sets(st.integers(0, 11)),
    misdeeds=st.lists(st.sampled_from(list(MISDEEDS.values())), min_size=12, max_size=12),
    users=st.lists(st.sampled_from(["ada", "bob"]), min_size=12, max_size=12),
)
def test_whatever_fails_how_the_documents_are_those_of_the_others(
    bad: set[int], misdeeds: list[Fold], users: list[str]
) -> None:
    events = [
        event(workout_id=f"w-{n}", user_id=user, duration_ms=10**n) for n, user in enumerate(users)
    ]

    def fold(event: Event, documents: dict[str, Any]) -> None:
        add(event, documents)
        number = int(event.data.workout_id[2:])
        if number in bad:
            misdeeds[number](event, documents)

    found = folded(Sums(fold=fold), events)
    assert set(found.failures) == bad
    good = [(user, 10**n) for n, user in enumerate(users) if n not in bad]
    assert {key: one["ms"] for key, one in bodies(found).items()} == {
        user: sum(ms for of, ms in good if of == user) for user in {user for user, _ in good}
    }
