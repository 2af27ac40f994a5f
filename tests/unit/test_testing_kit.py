"""The kit for plug-in authors: an honest consumer passes, every dishonest one is found."""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers import testing
from consumers.achievements import Achievements
from consumers.calories import Calories
from consumers.conformance import Checked, examine, fewest
from consumers.generated import two_years
from consumers.leaderboard import Leaderboard
from consumers.monthly_report import MonthlyReport
from consumers.purity import watched
from consumers.testing import (
    MemoryDocuments,
    MemoryPlatform,
    NotConforming,
    Query,
    check,
    folded,
    generated,
    read,
)
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


class Sporting(Recovery):
    def keys(self, event: Any) -> list[str]:
        return [event.data.sport]


class Silent(Recovery):
    def keys(self, event: Any) -> Any:
        self.fold(event, {})


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
        (Longwinded(), "a key is 1 to 512 bytes of printable text"),
        (Unprintable(), "a key is 1 to 512 bytes of printable text"),
        (Sporting(), "keys.. gave <Sport.RUNNING: 'running'>, of type Sport; write its .value"),
        (Silent(), "keys.. gave None; write a list of keys. Events: "),
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


def test_an_error_in_the_author_s_code_comes_through_with_the_event_noted() -> None:
    class Broken(Recovery):
        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            raise ZeroDivisionError

    class BrokenKeys(Recovery):
        def keys(self, event: Any) -> Any:
            yield "ada"
            raise ZeroDivisionError

    class BrokenReact(Recovery):
        def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
            yield 1 / 0

    bad = event()
    for broken in (Broken(), BrokenKeys(), BrokenReact()):
        with pytest.raises(ZeroDivisionError) as caught:
            check(broken, [bad])
        assert bad.id in caught.value.__notes__[0]


def test_a_wrong_binding_is_refused() -> None:
    class Shouting(Recovery):
        bindings: Sequence[str] = ("Workout.Completed.#",)

    with pytest.raises(NotConforming, match="topic pattern"):
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


def test_what_the_platform_adds_to_each_read_is_taken_and_not_passed_on() -> None:
    path = "/users/ada/rest/2026-11-24?after=abc&wait=1"
    assert read(Resting(), path, [event(duration_ms=1_500)], now=NOW)["rest"] == 4.5


def test_of_two_reads_that_fit_the_one_that_says_more_answers() -> None:
    class Both(Recovery):
        reads: Mapping[str, Any] = {
            "/x/{user}": lambda documents, query: dict(query),
            "/x/all": lambda documents, query: "all",
        }

    assert [read(Both(), path, []) for path in ("/x/all", "/x/ada")] == ["all", {"user": "ada"}]


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

    with pytest.raises(NotConforming, match=r"wordy: keys\(\) gave 'ada'; write a list of keys"):
        check(Wordy(), [testing.event()])  # type: ignore[arg-type]  # that is what is wrong


@pytest.mark.parametrize("kind", [Calories, Leaderboard, MonthlyReport, Achievements])
def test_the_consumers_of_the_platform_keep_the_whole_contract(kind: type[Any]) -> None:
    looked = list(examine(kind(), generated()))
    assert [one for one in looked if not one.ok] == []
    assert [one.check for one in looked][-2:] == ["growth", "time"]
    check(kind())


def flaw(consumer: Any, events: Sequence[Any] | None = None) -> Checked:
    """The one part of the contract that a consumer does not keep."""
    (found,) = [one for one in examine(consumer, events or generated()) if not one.ok]
    return found


class Asking(Recovery):
    """Asks the world something, for one sport among many."""

    def __init__(self, ask: Callable[[], object] | None = None) -> None:
        self.ask = ask or Asking.asked

    @staticmethod
    def asked() -> object:
        return None

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        super().fold(event, documents)
        if event.data.sport == "golf":
            self.ask()


ASKED: list[tuple[str, Callable[[], object]]] = [
    ("time.time()", lambda: time.time()),
    ("time.perf_counter()", lambda: perf_counter()),
    ("datetime.now()", lambda: datetime.now(UTC)),
    ("date.today()", lambda: date.today()),  # noqa: DTZ011
    ("random.randint()", lambda: random.randint(1, 2)),
    ("random.random()", lambda: random.random()),
    ("os.urandom()", lambda: uuid.uuid4()),
    ("open()", lambda: Path("/dev/null").read_text()),
    ("os.environ", lambda: __import__("os").environ.get("HOME")),
    ("socket.socket()", lambda: __import__("socket").socket().close()),
    ("subprocess.run()", lambda: __import__("subprocess").run(["true"])),
    ("hash()", lambda: hash("ada")),
    ("print()", lambda: print(end="")),
]


@pytest.mark.parametrize(("name", "ask"), ASKED, ids=[name for name, _ in ASKED])
def test_what_a_fold_asks_of_the_world_is_named_with_its_line_and_event(
    name: str, ask: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asking, "asked", staticmethod(ask))
    found = flaw(Asking())
    assert found.check == "purity"
    line = ask.__code__.co_firstlineno
    assert f"{name} in {Path(__file__).name}, line {line}" in found.detail
    (golf,) = [one.id for one in generated() if one.routing_key.endswith(".golf")]
    assert found.events == (golf,)


def test_pure_code_asks_nothing_of_the_world() -> None:
    day = datetime(2026, 11, 24, tzinfo=UTC)
    with watched() as asked:
        (day + timedelta(days=1)).date().isocalendar()
        Random("a seed").random()
        uuid.uuid5(uuid.NAMESPACE_DNS, "paceline")
        repr(generated()[0])
        {generated()[0].data.athlete: 1}
    assert asked == []


def test_the_watch_leaves_nothing_behind() -> None:
    with watched() as asked, pytest.raises(LookupError):
        raise LookupError
    time.time()
    assert asked == []


class Hoarding(Recovery):
    """Keeps everything of a person in one document."""

    def keys(self, event: Any) -> list[str]:
        return [event.user_id]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            self.keep(document, event)

    def keep(self, document: dict[str, Any], event: Any) -> None:
        document.setdefault("workouts", {})[event.data.workout_id] = 1


class Swelling(Hoarding):
    def keep(self, document: dict[str, Any], event: Any) -> None:
        document.setdefault("days", {})[str(event.data.local_date)] = "x" * 300


class Accelerating(Hoarding):
    def keep(self, document: dict[str, Any], event: Any) -> None:
        days = document.setdefault("days", {})
        days[str(event.data.local_date)] = 1
        document["pairs"] = "x" * (len(days) ** 2 // 10)


class Steady(Hoarding):
    def keep(self, document: dict[str, Any], event: Any) -> None:
        document.setdefault("days", {})[str(event.data.local_date)] = 1


class Crowded(Hoarding):
    def keys(self, event: Any) -> list[str]:
        return ["all"]

    def keep(self, document: dict[str, Any], event: Any) -> None:
        document.setdefault("people", {})[event.user_id] = 1


class Counted(Crowded):
    def keep(self, document: dict[str, Any], event: Any) -> None:
        document["workouts"] = document.get("workouts", 0) + 1


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Crowded, "document 'all' grows by 17 bytes for each person; make a document for each."),
        (Hoarding, "document 'ada' grows by a piece for each workout: 14 bytes a day with one"),
        (Swelling, "document 'ada' grows by 318 bytes for each active day, over 256"),
        (Accelerating, "document 'ada' grows faster and faster"),
    ],
)
def test_a_document_that_grows_too_fast_is_found(kind: type[Any], says: str) -> None:
    found = flaw(kind())
    assert (found.check, says in found.detail) == ("growth", True), found.detail


def test_a_fold_that_assigns_another_document_is_found() -> None:
    class Assigning(Hoarding):
        def keep(self, document: dict[str, Any], event: Any) -> None:
            document = {"workouts": 1}  # noqa: F841  # that is the mistake

    found = flaw(Assigning())
    assert (found.check, "leave every document empty" in found.detail) == ("fold", True)


def test_a_consumer_that_gives_no_keys_for_what_it_leaves_out_is_well() -> None:
    class Leaving(Steady):
        def keys(self, event: Any) -> Any:
            yield from ()

    looked = {one.check for one in examine(Leaving(), generated()) if one.ok}
    assert "fold" in looked


@pytest.mark.parametrize("kind", [Steady, Counted])
def test_a_document_that_grows_by_its_days_or_counts_everybody_is_well(kind: type[Any]) -> None:
    check(kind())
    assert "growth" in {one.check for one in examine(kind(), generated()) if one.ok}


def test_a_consumer_of_facts_alone_has_no_days_to_grow_by() -> None:
    class Badges(Recovery):
        bindings: Sequence[str] = ("achievement.unlocked.#",)

        def keys(self, event: Any) -> list[str]:
            return [event.user_id]

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            for document in documents.values():
                document.setdefault("badges", {})[event.data.badge] = 1

    looked = {one.check: one.detail for one in examine(Badges(), generated()) if one.ok}
    assert looked["growth"] == "bound to no workout, so not looked at"
    assert looked["fold"].startswith("20 events make ")


class Sleeping(Recovery):
    """Sleeps, in a way that no watch sees, at one event among many."""

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        super().fold(event, documents)
        if event.data.sport == "golf":
            list(map(time.sleep, [0.06]))


def test_an_event_that_takes_too_long_is_found() -> None:
    found = flaw(Sleeping())
    assert found.check == "time"
    assert "recovery takes " in found.detail
    assert len(found.events) == 1


def test_what_rests_on_a_part_that_fails_is_not_looked_at() -> None:
    class Absent(Recovery):
        version = 0

    (looked,) = examine(Absent(), generated())
    assert looked.detail == (
        "recovery: version is 0; write version = 1, and raise it when the fold changes."
    )
    looked = list(examine(Averaging(), generated()))[-1]
    assert (looked.check, looked.ok) == ("fold", False)


def test_an_error_of_the_author_is_told_in_a_sentence_with_line_and_event() -> None:
    class Greedy(Recovery):
        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            event.data.distance_mm + 1

    bare = event(workout_id="bare", distance_mm=None)
    found = flaw(Greedy(), [bare])
    line = Greedy.fold.__code__.co_firstlineno + 1
    assert found.detail == (
        f"{__file__}, line {line}, in fold(): TypeError: unsupported operand type(s) for +: "
        f"'NoneType' and 'int'. recovery was folding this. Events: {bare.id}."
    )


def test_a_consumer_that_none_of_the_events_reach_is_told_so() -> None:
    class Deaf(Recovery):
        bindings: Sequence[str] = ("workout.completed.flying",)

    assert "none of 212 events matches" in flaw(Deaf()).detail


def test_what_lives_on_a_consumer_is_found_by_a_restart() -> None:
    class Remembering(Recovery):
        """Knows in memory alone whom it has seen."""

        def __init__(self) -> None:
            self.seen: set[str] = set()

        def keys(self, event: Any) -> list[str]:
            return [event.user_id]

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            for document in documents.values():
                again = int(event.user_id in self.seen)
                document["again"] = document.get("again", 0) + again
            self.seen.add(event.user_id)

    failed = [one for one in examine(Remembering(), generated()) if not one.ok]
    assert "rebuild" in {one.check for one in failed}


def test_a_handler_is_looked_at_and_not_called() -> None:
    class Exploding(Pushing):
        def handle(self, event: Any) -> None:
            raise AssertionError("called")

    assert [one.check for one in examine(Exploding(), generated()) if one.ok] == ["shape"]
    check(Exploding())


@given(st.lists(st.integers(0, 60), unique=True, max_size=40), st.data())
def test_the_fewest_events_still_show_it_and_none_can_be_left_out(
    numbers: list[int], data: st.DataObject
) -> None:
    culprits = data.draw(st.sets(st.sampled_from(numbers), max_size=4)) if numbers else set()
    few = fewest(numbers, lambda some: culprits <= set(some))  # type: ignore[arg-type]
    assert few == [number for number in numbers if number in culprits] or len(few) == 1


def unlocked(event: Any, badge: str) -> tuple[str, Mapping[str, Any]]:
    workout = event.data
    day = workout.local_date.isoformat()
    told = {"badge": badge, "workout_id": workout.workout_id, "day": day}
    return badge, {"type": "achievement.unlocked", **told}


class Awarding(Recovery):
    """A badge for who has done two workouts."""

    def keys(self, event: Any) -> list[str]:
        return [event.user_id]

    def fold(self, event: Any, documents: dict[str, Any]) -> None:
        for document in documents.values():
            document["workouts"] = document.get("workouts", 0) + 1

    def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
        if after[event.user_id]["workouts"] >= 2 > before[event.user_id].get("workouts", 0):
            yield unlocked(event, "second")


def test_a_fact_that_newly_holds_is_told_once_in_any_order() -> None:
    looked = {one.check: one for one in examine(Awarding(), generated())}
    assert all(one.ok for one in looked.values())
    assert looked["fold"].detail.endswith("and 4 facts")


def test_a_fact_that_is_told_again_changes_nothing() -> None:
    class Repeating(Awarding):
        def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
            if after[event.user_id]["workouts"] >= 2:
                yield unlocked(event, "second")

    platform = MemoryPlatform()
    platform.add(Repeating())
    for _ in range(4):
        platform.post()
    assert [fact.data.workout_id for fact in platform.facts] == ["w-2"]
    looked = {one.check: one for one in examine(Repeating(), generated())}
    assert all(one.ok for one in looked.values())
    assert looked["fold"].detail.endswith("and 4 facts")


class Favouring(Awarding):
    def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
        if after[event.user_id]["workouts"] == 2:
            yield unlocked(event, event.data.workout_id)


class Inventing(Awarding):
    def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
        yield "a", {"type": "weather.changed"}


class Babbling(Awarding):
    def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
        yield "a"


class Numbered(Awarding):
    def react(self, event: Any, before: Any, after: Any) -> Any:
        return 5


class Writing(Awarding):
    def react(self, event: Any, before: Any, after: Any) -> Iterator[Any]:
        after[event.user_id]["workouts"] = 0
        return iter(())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Favouring, r"tells the facts \[.*\] when folded in the opposite order, and \["),
        (Inventing, "tells under 'a' what is no fact: type is 'weather.changed'"),
        (Babbling, r"yields 'a' from react\(\), not \(key, fact\)"),
        (Numbered, r"recovery: react\(\) gave 5; yield a key and a mapping with its type"),
        (Writing, r"changes in react\(\) what it was given"),
    ],
)
def test_each_way_of_telling_facts_wrongly_is_found(kind: type[Any], says: str) -> None:
    history = [event(workout_id=f"w{number}") for number in range(4)]
    with pytest.raises(NotConforming, match=says):
        check(kind(), history)


def test_the_generated_events_are_the_same_each_time_and_of_many_kinds() -> None:
    events = generated()
    generated.cache_clear()
    assert generated() == events != generated(2)
    assert len({one.id for one in events}) == len(events)
    workouts = [one.data for one in events if one.type == "workout.completed"]
    assert {one.sport for one in workouts} == set(Sport)
    assert {one.visibility for one in workouts} == {"public", "private"}
    assert {one.origin for one in workouts} == {"live", "history"}
    for name in ("zone", "distance_mm", "energy_cal", "avg_power_mw", "elapsed_ms", "athlete"):
        assert {getattr(one, name) is None for one in workouts} == {True, False}, name
    offsets = {one.started_at.utcoffset() for one in workouts}
    assert {timedelta(hours=14), timedelta(hours=-12), timedelta(hours=5, minutes=45)} <= offsets
    # Where the clocks went back, one wall time happened twice.
    autumn = [one for one in workouts if one.started_at.isoformat().startswith("2026-10-25T02:30")]
    assert len({one.started_at.utcoffset() for one in autumn}) == 2
    starts = [one.started_at for one in workouts]
    assert len(set(starts)) < len(starts)
    assert {one.type for one in events} == {"workout.completed", "achievement.unlocked"}


def test_two_years_have_so_many_workouts_on_each_day() -> None:
    days = [one.data.local_date for one in two_years(("yoga",), 3)]
    assert len(set(days)) == 731
    assert all(days.count(day) == 3 for day in days[:: 731 // 5])


class Rest(Resting):
    """Recovery with reads of its own and a name of its own."""

    name = "rest"


class Pushing:
    """Remembers what it would have sent."""

    name = "pushing"
    bindings = ("achievement.unlocked.#",)
    version = 1

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handle(self, event: Any) -> None:
        self.sent.append(event.data.badge)


def test_a_platform_in_memory_folds_what_is_posted_for_who_wants_it() -> None:
    class Runs(Recovery):
        name = "runs"
        bindings: Sequence[str] = ("workout.*.running",)

    platform = MemoryPlatform()
    platform.add(Recovery())
    platform.add(Runs())
    platform.post(duration_s=1)
    platform.post(duration_s=10, sport="yoga")
    platform.assert_documents("recovery", {"ada/2026-11-24": {"rest_ms": 33_000}})
    platform.assert_documents("runs", {"ada/2026-11-24": {"rest_ms": 3_000}})


def test_an_event_that_is_sent_again_changes_nothing_and_another_of_its_id_is_refused() -> None:
    platform = MemoryPlatform()
    platform.add(Recovery())
    sent = platform.post(workout_id="w-1", duration_s=1)
    platform.send(sent)
    platform.post(workout_id="w-1", duration_s=1)
    assert platform.documents("recovery") == {"ada/2026-11-24": {"rest_ms": 3_000}}
    with pytest.raises(ValueError, match="was sent before with another fact"):
        platform.post(workout_id="w-1", duration_s=2)


def test_a_projection_that_comes_later_has_the_past_and_a_handler_what_comes() -> None:
    platform = MemoryPlatform()
    platform.add(Awarding())
    for _ in range(2):
        platform.post(user_id="ada")
    handler = Pushing()
    platform.add(handler)
    platform.add(Rest())
    assert platform.documents("rest") == {"ada/2026-11-24": {"rest_ms": 10_800_000}}
    assert handler.sent == []
    for _ in range(2):
        platform.post(user_id="ben")
    platform.replay()
    assert handler.sent == ["second"]
    platform.replay("pushing", act=True)
    assert handler.sent == ["second", "second"]
    platform.replay("pushing", act=True)
    assert handler.sent == ["second", "second"]


def test_facts_are_told_once_and_quietly_of_history() -> None:
    platform = MemoryPlatform()
    handler = Pushing()
    platform.add(handler)
    platform.add(Awarding())
    for user, origin in (("ada", "live"), ("ben", "history")):
        for _ in range(3):
            platform.post(user_id=user, origin=origin)
    assert [(fact.user_id, fact.data.origin) for fact in platform.facts] == [
        ("ada", "live"),
        ("ben", "history"),
    ]
    assert handler.sent == ["second"]
    platform.rebuild("recovery")
    assert (len(platform.facts), handler.sent) == (2, ["second"])


def test_what_follows_from_before_a_consumer_came_is_quiet() -> None:
    platform = MemoryPlatform()
    for _ in range(2):
        platform.post()
    handler = Pushing()
    platform.add(handler)
    platform.add(Awarding())
    assert [fact.data.origin for fact in platform.facts] == ["history"]
    assert handler.sent == []


def test_a_handler_that_wants_history_gets_it() -> None:
    class Remembering(Pushing):
        history = True

    platform, handler = MemoryPlatform(), Remembering()
    platform.add(handler)
    platform.add(Awarding())
    for _ in range(2):
        platform.post(origin="history")
    assert handler.sent == ["second"]


@pytest.mark.parametrize(
    ("moment", "folded_ms"), [("now", 300_000), ("2026-11-24T00:00:00+00:00", 330_000)]
)
def test_what_was_accepted_before_its_time_is_not_for_a_projection(
    moment: str, folded_ms: int
) -> None:
    class Later(Recovery):
        since = moment

    platform = MemoryPlatform()
    for day, duration_s in ((23, 1), (24, 10)):
        accepted_at = datetime(2026, 11, day, 20, tzinfo=UTC)
        platform.post(accepted_at=accepted_at, duration_s=duration_s)
    platform.add(Later())
    platform.post(duration_s=100)
    platform.replay()
    platform.rebuild("recovery")
    assert platform.documents("recovery") == {"ada/2026-11-24": {"rest_ms": folded_ms}}


def test_a_higher_version_is_filled_anew_and_the_same_one_is_refused() -> None:
    class Doubled(Recovery):
        version = 2

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            super().fold(event, documents)
            super().fold(event, documents)

    platform = MemoryPlatform()
    platform.add(Recovery())
    platform.post(duration_s=1)
    with pytest.raises(NotConforming, match="recovery is there in version 1; raise its version"):
        platform.add(Recovery())
    platform.add(Doubled())
    assert platform.documents("recovery") == {"ada/2026-11-24": {"rest_ms": 6_000}}


def test_who_fails_fails_alone_and_may_have_the_event_again() -> None:
    class Failing(Recovery):
        name = "failing"
        well = False

        def fold(self, event: Any, documents: dict[str, Any]) -> None:
            if not self.well:
                raise LookupError("no such shoe")
            super().fold(event, documents)

    platform, failing = MemoryPlatform(), Failing()
    platform.add(failing)
    platform.add(Recovery())
    with pytest.raises(LookupError, match="no such shoe") as failed:
        platform.post(duration_s=1)
    assert failed.value.__notes__[0].startswith("failing had event ")
    assert platform.documents("failing") == {}
    assert platform.documents("recovery") == {"ada/2026-11-24": {"rest_ms": 3_000}}
    failing.well = True
    platform.replay()
    assert platform.documents("failing") == platform.documents("recovery")


def test_a_read_is_found_among_all_consumers() -> None:
    platform = MemoryPlatform()
    platform.add(Recovery())
    platform.add(Rest())
    platform.post(duration_s=1.5)
    assert platform.read("/users/ada/rest/2026-11-24?unit=s", now=NOW)["rest"] == 4.5
    with pytest.raises(LookupError, match="no rest"):
        platform.read("/users/ben/rest/2026-11-24")
    with pytest.raises(LookupError, match="No consumer here has a read for '/users'"):
        platform.read("/users")


def test_other_documents_than_expected_are_told_by_key_and_field() -> None:
    platform = MemoryPlatform()
    platform.add(Recovery())
    platform.post(duration_s=1)
    platform.post(duration_s=1, user_id="ben")
    with pytest.raises(AssertionError) as told:
        platform.assert_documents("recovery", {"ada/2026-11-24": {"rest_ms": 3}, "zoe": {"n": 1}})
    assert str(told.value).splitlines() == [
        "recovery has other documents:",
        "  'ada/2026-11-24': rest_ms is 3000, not 3",
        "  'ben/2026-11-24' is not expected: {\"rest_ms\": 3000}",
        "  'zoe' is missing: {\"n\": 1}",
    ]


def test_a_wrong_consumer_and_a_name_of_nobody_are_refused() -> None:
    class Wrong(Recovery):
        bindings: Any = "workout.#"

    platform = MemoryPlatform()
    with pytest.raises(NotConforming, match=r"recovery: bindings is 'workout\.#'; write"):
        platform.add(Wrong())
    with pytest.raises(LookupError, match="There is no consumer 'recovery' here; there are: none"):
        platform.documents("recovery")


@given(histories(max_size=8))
def test_the_platform_in_memory_makes_what_a_fold_makes(history: list[Any]) -> None:
    platform = MemoryPlatform()
    for one in history[:3]:
        platform.send(one)
    platform.add(Recovery())
    for one in history[3:]:
        platform.send(one)
    assert platform.documents("recovery") == folded(Recovery(), history)
