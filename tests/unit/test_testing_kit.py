"""The kit for plug-in authors: an honest consumer passes, every dishonest one is found."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers import testing
from consumers.testing import MemoryDocuments, NotConforming, Query, check, folded, read
from events.schemas import InvalidWorkout
from events.workouts import Sport
from tests.factories import event, histories, random_history

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Recovery:
    """Rest after the day's work, per local day: the consumer that the documentation shows."""

    name = "recovery"
    bindings: Sequence[str] = ("workout.completed.#",)
    version = 1

    def keys(self, event: Any) -> list[str]:
        return [f"{event.user_id}/{event.data.local_date}"]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["rest_ms"] = document.get("rest_ms", 0) + 3 * event.data.duration_ms


class Resting(Recovery):
    """Recovery with reads and an index."""

    def __init__(self) -> None:
        self.reads = {"/users/{user}/rest/{day}{?unit}": self.rest, "/rest": self.all}

    def rest(self, documents: Any, query: Any) -> Any:
        document = documents.get(f"{query['user']}/{query['day']}")
        if document is None:
            raise LookupError("no rest")
        return {"rest": document["rest_ms"] / 1000, "unit": query.get("unit"), "at": query.now.year}

    def all(self, documents: Any, query: Any) -> Any:
        return [key for key, _ in documents.range("", "~")]


@given(histories())
def test_an_honest_consumer_conforms(history: list[Any]) -> None:
    check(Recovery(), history)


def test_the_documents_are_what_a_fresh_fold_of_each_event_once_makes() -> None:
    one, other = event(workout_id="a", duration_ms=1), event(workout_id="b", duration_ms=10)
    assert folded(Recovery(), [one, other, one]) == {"ada/2026-11-24": {"rest_ms": 33}}


def test_only_events_that_a_consumer_is_bound_to_reach_it() -> None:
    class Runs(Recovery):
        bindings: Sequence[str] = ("workout.completed.running",)

    ride, run = event(workout_id="a", sport=Sport.CYCLING), event(workout_id="b", duration_ms=1)
    assert folded(Runs(), [ride, run]) == {"ada/2026-11-24": {"rest_ms": 3}}


def test_a_new_document_that_stays_empty_is_not_kept() -> None:
    class Idle(Recovery):
        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            pass

    assert folded(Idle(), [event()]) == {}


class Last(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["last"] = event.data.workout_id


class Second(Recovery):
    """The second of three is the same one seen from either end."""

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["workouts"] = document.get("workouts", 0) + 1
            if document["workouts"] == 2:
                document["second"] = event.data.workout_id


class Counting(Recovery):
    def __init__(self) -> None:
        self.seen = 0

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        self.seen += 1
        for document in documents.values():
            document["folds"] = document.get("folds", 0) + self.seen


class Sharing(Recovery):
    def keys(self, event: Any) -> list[str]:
        return [f"{event.user_id}/1", f"{event.user_id}/2"]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        first, second = documents.values()
        if not first:
            first["ids"] = second["ids"] = [event.id]
        else:
            for ids in (first["ids"], second["ids"]):
                ids.append(event.id)
                ids.sort()


class Numbering(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document.setdefault("by_hour", {})[event.data.started_at.hour] = 1


class Averaging(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["speeds"] = [{"m_s": event.data.distance_mm / event.data.duration_ms}]


class Dating(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["day"] = event.data.local_date


class Huge(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["padding"] = "x" * 1024 * 1024


class Overflowing(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["sum"] = 2**63


class Reaching(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        documents["everybody"] = {"workouts": 1}


class Forgetting(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        documents.clear()


class Moody(Recovery):
    def __init__(self) -> None:
        self.calls = 0

    def keys(self, event: Any) -> list[str]:
        self.calls += 1
        return [str(self.calls)]


class Longwinded(Recovery):
    def keys(self, event: Any) -> list[str]:
        return ["é" * 257]


class Unprintable(Recovery):
    def keys(self, event: Any) -> list[str]:
        return ["ada\n"]


class Meddling(Recovery):
    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        object.__setattr__(event.data, "duration_ms", 0)


@pytest.mark.parametrize(
    ("consumer", "says"),
    [
        (Last(), "is {.*} when folded in the opposite order, and {.*} when folded as given"),
        (Second(), "when folded in random order"),
        (Counting(), "when folded with every event twice"),
        (Sharing(), "when folded in batches of 3"),
        (Numbering(), "holds .*: not text, a whole number"),
        (Averaging(), r"holds 2\.7.*: not text, a whole number"),
        (Dating(), "holds datetime.date"),
        (Huge(), "has 1,048,591 bytes of JSON, not under 1 MiB"),
        (Overflowing(), "holds 9223372036854775808"),
        (Reaching(), "adds or removes documents"),
        (Forgetting(), "adds or removes documents"),
        (Moody(), "gives other keys when it is asked again"),
        (Longwinded(), "not 1 to 512 bytes of printable text"),
        (Unprintable(), "not 1 to 512 bytes of printable text"),
        (Meddling(), "changes the event"),
    ],
)
def test_each_way_of_breaking_the_contract_is_found_and_named(consumer: Any, says: str) -> None:
    history = [event(workout_id=f"w{number}") for number in range(3)]
    with pytest.raises(NotConforming, match=f"recovery.*{says}"):
        check(consumer, history)


def test_a_difference_is_told_with_the_few_events_that_make_it() -> None:
    class Fussy(Last):
        """Depends on the order of two events among many."""

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            if event.data.workout_id in ("w7", "w31"):
                super().fold(event, documents)

    history = [event(workout_id=f"w{number}") for number in range(40)]
    with pytest.raises(NotConforming) as caught:
        check(Fussy(), history)
    assert str(caught.value).endswith(f"Events: {history[7].id}, {history[31].id}.")


def test_an_error_in_a_fold_comes_through_with_the_event_noted() -> None:
    class Broken(Recovery):
        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            raise ZeroDivisionError

    bad = event()
    with pytest.raises(ZeroDivisionError) as caught:
        check(Broken(), [bad])
    assert bad.id in caught.value.__notes__[0]


def test_a_wrong_binding_is_refused() -> None:
    class Shouting(Recovery):
        bindings: Sequence[str] = ("Workout.Completed.#",)

    with pytest.raises(ValueError, match="topic pattern"):
        check(Shouting(), [])


def test_a_read_gets_the_parameters_of_its_path_and_query_and_the_time() -> None:
    path = "/users/ada/rest/2026%2D11-24?unit=%20s"
    answer = read(Resting(), path, [event(duration_ms=1_500)], now=NOW)
    assert answer == {"rest": 4.5, "unit": " s", "at": 2026}


def test_a_read_takes_documents_in_place_of_events() -> None:
    assert read(Resting(), "/rest", {"b": {}, "a": {}}) == ["a", "b"]


def test_what_a_read_refuses_comes_through() -> None:
    with pytest.raises(LookupError, match="no rest"):
        read(Resting(), "/users/ada/rest/2026-11-25", [event()])
    with pytest.raises(ValueError, match="colour is no parameter of"):
        read(Resting(), "/users/ada/rest/2026-11-24?colour=red", [event()])


def test_a_path_without_a_read_is_a_mistake_of_the_test() -> None:
    with pytest.raises(NotConforming, match="has no read for '/users/ada'"):
        read(Resting(), "/users/ada", [event()])


def test_a_query_is_a_mapping_with_the_time() -> None:
    query = Query({"user": "ada"}, now=NOW)
    assert (query["user"], query.get("from"), query.get("to", "x")) == ("ada", None, "x")
    assert query.now is NOW


SCORES = {"by_score": ("board", "-score", "reached", "-name")}


def entry(score: int | None, reached: str = "", name: str | None = "", board: str = "run") -> Any:
    return {"board": board, "score": score, "reached": reached, "name": name}


def keys_of(page: tuple[list[tuple[str, Any]], str | None]) -> list[str]:
    return [key for key, _ in page[0]]


def test_an_index_rises_and_falls_field_by_field_and_ends_with_the_key() -> None:
    documents = MemoryDocuments(
        {
            "k5": entry(5, "2026-01-01", "ab"),
            "k9": entry(9),
            "k10": entry(10, "2026-01-02"),
            "k10b": entry(10, "2026-01-01"),
            "k5b": entry(5, "2026-01-01", "abc"),
            "k5a": entry(5, "2026-01-01", "ab"),
            "other": entry(99, board="ride"),
            "lacks": entry(None),
        },
        SCORES,
    )
    ranked = documents.listed("by_score", ["run"], limit=10)
    assert keys_of(ranked) == ["k10b", "k10", "k9", "k5b", "k5", "k5a"]
    assert ranked[1] is None


def test_a_cursor_goes_on_behind_an_entry_that_has_gone() -> None:
    entries = {f"k{number}": entry(number) for number in range(5)}
    page, cursor = MemoryDocuments(entries, SCORES).listed("by_score", ["run"], limit=2)
    assert [key for key, _ in page] == ["k4", "k3"]
    del entries["k3"]
    after = MemoryDocuments(entries, SCORES).listed("by_score", ["run"], limit=3, after=cursor)
    assert keys_of(after) == ["k2", "k1", "k0"]
    assert after[1] is None


@pytest.mark.parametrize("cursor", ["", "x", "MQ==", "é", "bnVsbA=="])
def test_a_cursor_of_nothing_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="is not of this list"):
        MemoryDocuments({}, SCORES).listed("by_score", ["run"], limit=1, after=cursor)


def test_a_cursor_of_another_board_is_refused() -> None:
    documents = MemoryDocuments({"a": entry(1), "b": entry(2)}, SCORES)
    _, cursor = documents.listed("by_score", ["run"], limit=1)
    with pytest.raises(ValueError, match="is not of this list"):
        documents.listed("by_score", ["ride"], limit=1, after=cursor)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "ab", "é", "z"])), max_size=9))
def test_pages_in_a_row_hold_each_entry_once_in_order(rows: list[tuple[int, str]]) -> None:
    held = {f"k{at}": entry(score, reached) for at, (score, reached) in enumerate(rows)}
    documents = MemoryDocuments(held, SCORES)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = documents.listed("by_score", ["run"], limit=2, after=cursor)
        seen += [key for key, _ in page]
        if cursor is None:
            break
    wanted = sorted(held, key=lambda k: (-held[k]["score"], held[k]["reached"].encode(), k))
    assert seen == wanted


def test_before_counts_what_sorts_strictly_before() -> None:
    documents = MemoryDocuments(
        {
            **{f"k{score}": entry(score) for score in (1, 5, 5_000)},
            "tie": entry(5, "b"),
            "elsewhere": entry(7, board="ride"),
        },
        SCORES,
    )
    assert documents.before("by_score", ["run"], [5]) == 1
    assert documents.before("by_score", ["run"], [5, "b"]) == 2
    assert documents.before("by_score", ["run"], [0]) == 4


def test_a_range_is_in_the_order_of_bytes_with_both_ends() -> None:
    documents = MemoryDocuments({"b": {"n": 1}, "a": {}, "é": {}, "Z": {}, "ba": {}})
    assert [key for key, _ in documents.range("Z", "b")] == ["Z", "a", "b"]
    assert [key for key, _ in documents.range("a", "é", limit=2)] == ["a", "b"]
    assert [key for key, _ in documents.range("b", "\U0010ffff")] == ["b", "ba", "é"]


def test_what_is_answered_may_be_changed_without_changing_what_is_held() -> None:
    documents = MemoryDocuments({"a": {"days": [1]}})
    document = documents.get("a")
    assert document is not None
    document["days"].append(2)
    assert documents.get("a") == {"days": [1]}
    assert documents.get("b") is None


def test_random_histories_are_the_same_for_the_same_seed() -> None:
    one, again, other = (random_history(seed=seed, count=20) for seed in (1, 1, 2))
    assert one == again != other
    assert len({event.id for event in one}) == 20
    assert all(event.data.local_date > date(2024, 12, 1) for event in one)


def test_an_event_is_made_as_it_would_be_posted() -> None:
    made = testing.event(workout_id="w-7", sport="yoga", duration_s=60.5)
    assert (made.user_id, made.data.workout_id, made.data.duration_ms) == ("ada", "w-7", 60_500)
    assert made.routing_key == "workout.completed.yoga"


def test_an_event_that_the_door_would_refuse_is_refused() -> None:
    with pytest.raises(InvalidWorkout, match="duration_s"):
        testing.event(duration_s=-1)


def test_text_from_keys_does_not_conform() -> None:
    class Wordy:
        name = "wordy"
        bindings = ("workout.completed.#",)
        version = 1

        def keys(self, event: Any) -> str:
            return event.user_id

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            pass

    with pytest.raises(NotConforming, match="gives text from keys"):
        check(Wordy(), [testing.event()])  # type: ignore[arg-type]  # that is what is wrong
