"""What every store must do: `StoreContract` is inherited by the tests of each backend."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cmp_to_key
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers.runtime.fates import APPLIED, Fate, State
from consumers.runtime.store import (
    Change,
    Commit,
    Generation,
    Lead,
    Phase,
    Store,
    Stored,
    StoreReader,
    Written,
    each_open,
)
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.mongo_reader import MongoStoreReader
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.envelope import Sealed, id_text
from events.errors import Gone, Outage, Overtaken, Refused
from events.log import Position
from events.mongo import Client
from tests.contract.power_cut import Disk
from tests.servers.databases import Databases, databases
from tests.servers.mongod import Mongod

RELAYS = ("first", "second")
POSITIONS = tuple(Position(relay, number) for relay in RELAYS for number in range(1, 7))
ONE, TWO, THREE, FOUR = POSITIONS[:4]
RETRYING = Fate(state=State.RETRYING, attempts=1, due_ms=1_000, reason="odd", first_ms=1, last_ms=2)
STRUCK = replace(RETRYING, strikes=1)
WAITING = Fate(state=State.RETRYING, needs=2, reason="newer")
DEAD = Fate(state=State.DEAD, attempts=6, reason="odd", trace="Traceback\n…", version=1)
DISCARDED = replace(DEAD, state=State.DISCARDED)
INDEXES = {"rank": ("board", "-score", "reached"), "by-day": ("-day",), "open": ("board",)}
MIB = 1 << 20
EVERY_EXAMPLE = settings(
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
    max_examples=40,
)


def body(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


class StoreSite(Protocol):
    """A place for the store of one consumer, empty at first."""

    def writer(self) -> Store:
        """Open it as a worker that has just started does."""

    def reader(self) -> StoreReader:
        """Open it as everybody else does."""


def begun(
    store: Store, *, version: int = 1, indexes: Mapping[str, Sequence[str]] | None = None
) -> Generation:
    """A new generation."""
    return store.begin(
        version=version, code=f"c{version}", bindings=("#", "a.*"), indexes=indexes or {}
    )


def everything(store: StoreReader) -> Any:
    """All that a store tells, but for the clock and the rate."""
    told = []
    for one in store.generations():
        number = one.number
        told.append(
            (
                replace(one, rate=0.0, committed_ms=0),
                store.watermarks(number),
                store.fates(number, POSITIONS),
                [store.open_fates(number, state) for state in list(State)[1:]],
                [store.rows(number, relay, 0, 99) for relay in RELAYS],
                store.counts(number),
                store.documents(number).range("", "\U0010ffff"),
            )
        )
    return told


def fact(number: int, *, told: str = "first") -> Sealed:
    """A fact with an id of its own; another `told` is another content under the same id."""
    return Sealed(id_text(number.to_bytes(16)), b"digest", f"{number} {told}".encode())


def facts_of(store: StoreReader) -> list[Sealed]:
    """All facts of what is live, in their order."""
    facts = store.facts()
    return [row.event for row in facts.rows(0, limit=1_000_000)] if facts else []


# Each is refused beside whatever else stands in its commit.
OVERTAKEN = {
    "a document that was changed": Commit(documents=[Written("a", 1, body(n=9))]),
    "a document that is there already": Commit(documents=[Written("a", 0, body(n=9))]),
    "a document that is not there": Commit(documents=[Written("z", 1, body(n=9))]),
    "an event that was applied": Commit(applied=[ONE]),
    "an event that is retrying": Commit(applied=[TWO]),
    "a fate that is another": Commit(changes=[Change(TWO, STRUCK, APPLIED)]),
    "a fate that is due at another time": Commit(
        changes=[Change(TWO, replace(RETRYING, due_ms=1_001), APPLIED)]
    ),
    "a fate where none was": Commit(changes=[Change(ONE, None, RETRYING)]),
    "no fate where one was": Commit(changes=[Change(FOUR, RETRYING, APPLIED)]),
    "a fate of a relay that is not known": Commit(
        changes=[Change(Position("nobody", 1), RETRYING, APPLIED)]
    ),
}
GOOD = Commit(
    documents=[Written("b", 1, body(n=5)), Written("c", 0, body(n=6))],
    applied=[FOUR, Position("third", 8)],
    changes=[Change(THREE, DEAD, DISCARDED)],
    facts=[fact(9), fact(8)],
    through={"first": 4, "third": 8},
)


def beside(other: Commit, *, first: bool) -> Commit:
    """GOOD with the other's parts before or after its own."""

    def both(ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
        return [*theirs, *ours] if first else [*ours, *theirs]

    return replace(
        GOOD,
        documents=both(GOOD.documents, other.documents),
        applied=both(GOOD.applied, other.applied),
        changes=both(GOOD.changes, other.changes),
    )


class StoreContract:
    """The tests; a backend gives `new_site`, which makes an empty place at each call."""

    @pytest.fixture
    def new_site(self) -> Callable[[], StoreSite]:
        raise NotImplementedError

    @pytest.fixture
    def site(self, new_site: Callable[[], StoreSite]) -> StoreSite:
        return new_site()

    @pytest.fixture
    def store(self, site: StoreSite) -> Store:
        return site.writer()

    @pytest.fixture
    def live(self, store: Store) -> int:
        """A live generation with two documents, and a fate of every kind but one."""
        number = begun(store).number
        store.commit(
            number,
            Commit(
                documents=[Written("a", 0, body(n=1)), Written("b", 0, body(n=2))],
                applied=[ONE],
                changes=[Change(TWO, None, RETRYING), Change(THREE, None, DEAD)],
                through={"first": 3},
            ),
        )
        store.commit(number, Commit(documents=[Written("a", 1, body(n=3))]))
        return number

    # Generations

    def test_a_new_store_has_no_generation(self, store: Store, site: StoreSite) -> None:
        assert store.generations() == []
        assert store.live() is None
        assert site.reader().live() is None

    def test_the_first_generation_is_live_at_once_and_says_what_it_is(
        self, store: Store, site: StoreSite
    ) -> None:
        made = store.begin(version=3, code="abc", bindings=("#", "a.*"), indexes=INDEXES)
        assert made == Generation(
            number=made.number,
            phase=Phase.LIVE,
            version=3,
            code="abc",
            bindings=("#", "a.*"),
            indexes=INDEXES,
        )
        assert site.reader().generations() == [made]
        assert site.reader().live() == made

    def test_the_next_generation_is_built_beside_the_live_one(
        self, store: Store, live: int
    ) -> None:
        before = everything(store)
        built = begun(store, version=2)
        assert built.phase is Phase.BUILDING
        assert built.number != live
        assert everything(store)[:1] == before
        assert [one.phase for one in store.generations()] == [Phase.LIVE, Phase.BUILDING]

    def test_a_generation_that_was_being_built_gives_way_to_the_next(
        self, store: Store, live: int
    ) -> None:
        first = begun(store, version=2)
        store.commit(first.number, Commit(applied=[FOUR], documents=[Written("x", 0, b"{}")]))
        second = begun(store, version=3)
        assert [(one.number, one.phase) for one in store.generations()] == [
            (live, Phase.LIVE),
            (second.number, Phase.BUILDING),
        ]
        assert store.load(second.number, ["x"]) == {}
        assert store.fates(second.number, POSITIONS) == {}
        assert store.watermarks(second.number) == {}
        with pytest.raises(Overtaken):
            store.swap(first.number, expected=live)

    def test_a_new_generation_is_empty_but_for_what_was_discarded(
        self, store: Store, live: int
    ) -> None:
        store.commit(live, Commit(changes=[Change(THREE, DEAD, DISCARDED)]))
        built = begun(store, version=2).number
        assert store.fates(built, POSITIONS) == {THREE: DISCARDED}
        assert store.counts(built) == dict.fromkeys(State, 0) | {State.DISCARDED: 1}
        assert store.load(built, ["a", "b"]) == {}
        assert store.watermarks(built) == {}
        with pytest.raises(Overtaken):
            store.commit(built, Commit(applied=[THREE]))

    def test_generations_keep_their_documents_fates_and_watermarks_apart(
        self, store: Store, live: int
    ) -> None:
        before = everything(store)
        built = begun(store, version=2).number
        store.commit(
            built,
            Commit(
                documents=[Written("a", 0, body(n=100))],
                applied=[TWO],
                changes=[Change(ONE, None, DEAD)],
                through={"first": 2, "second": 9},
            ),
        )
        assert everything(store)[:1] == before
        assert store.load(built, ["a", "b"]) == {"a": Stored(1, body(n=100))}
        assert store.fates(built, POSITIONS) == {ONE: DEAD, TWO: APPLIED}
        assert store.watermarks(built) == {"first": 2, "second": 9}

    def test_a_swap_makes_the_built_one_live_and_keeps_the_old_one(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        built = begun(store, version=2).number
        reader = site.reader()
        store.swap(built, expected=live)
        assert [(one.number, one.phase) for one in reader.generations()] == [
            (live, Phase.OLD),
            (built, Phase.LIVE),
        ]
        now = reader.live()
        assert now is not None
        assert (now.number, now.version) == (built, 2)
        assert reader.documents(live).get("a") == {"n": 3}

    def test_the_old_one_is_dropped_at_the_next_swap(self, store: Store, live: int) -> None:
        second = begun(store, version=2).number
        store.swap(second, expected=live)
        third = begun(store, version=3).number
        store.commit(live, Commit(applied=[FOUR]))  # what was in flight does no harm
        assert [one.number for one in store.generations()] == [live, second, third]
        store.swap(third, expected=second)
        assert [(one.number, one.phase) for one in store.generations()] == [
            (second, Phase.OLD),
            (third, Phase.LIVE),
        ]
        with pytest.raises(Gone):
            store.commit(live, Commit(applied=[POSITIONS[5]]))

    def test_a_swap_that_another_overtook_changes_nothing(self, store: Store, live: int) -> None:
        second = begun(store, version=2).number
        store.swap(second, expected=live)
        third = begun(store, version=3).number
        before = everything(store)
        for generation, expected in ((third, live), (third, third), (second, second), (99, second)):
            with pytest.raises(Overtaken):
                store.swap(generation, expected=expected)
            assert everything(store) == before

    def test_what_is_discarded_while_a_generation_is_built_is_discarded_in_it_too(
        self, store: Store, live: int
    ) -> None:
        built = begun(store, version=2).number
        changes = [Change(at, None, DEAD) for at in (TWO, THREE)]
        store.commit(built, Commit(applied=[FOUR], changes=changes))
        store.commit(
            live,
            Commit(changes=[Change(THREE, DEAD, DISCARDED), Change(FOUR, None, DISCARDED)]),
        )
        fifth = POSITIONS[4]
        store.commit(live, Commit(changes=[Change(fifth, None, DISCARDED)]))
        assert store.fates(built, POSITIONS) == {TWO: DEAD, THREE: DEAD, FOUR: APPLIED}
        store.swap(built, expected=live)
        assert store.fates(built, POSITIONS) == {
            TWO: DEAD,
            THREE: DISCARDED,
            FOUR: APPLIED,
            fifth: DISCARDED,
        }
        assert store.counts(built) == {
            State.APPLIED: 1,
            State.RETRYING: 0,
            State.DEAD: 1,
            State.DISCARDED: 2,
        }

    def test_a_generation_that_is_abandoned_is_gone_and_no_other_is(
        self, store: Store, live: int
    ) -> None:
        second = begun(store, version=2).number
        store.swap(second, expected=live)
        before = everything(store)
        third = begun(store, version=3).number
        store.commit(third, Commit(applied=[ONE], documents=[Written("a", 0, b"{}")]))
        for number in (live, second, third + 1):
            store.abandon(number)
            assert [one.number for one in store.generations()] == [live, second, third]
        store.abandon(third)
        assert everything(store) == before
        with pytest.raises(Gone):
            store.commit(third, Commit(applied=[TWO]))

    def test_a_number_of_a_generation_is_not_given_to_the_next_one(
        self, store: Store, live: int
    ) -> None:
        numbers = [live]
        for version in range(2, 6):
            numbers.append(begun(store, version=version).number)
            store.swap(numbers[-1], expected=numbers[-2])
        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize("name", ["open", "fates", "documents", "by-user", "Größe"])
    def test_an_index_may_have_any_name(self, store: Store, name: str) -> None:
        number = begun(store, indexes={name: ("board",)}).number
        store.commit(number, Commit(documents=[Written("a", 0, body(board="x"))]))
        assert store.documents(number).listed(name, ("x",), limit=5) == (
            [("a", {"board": "x"})],
            None,
        )

    # Commits

    def test_documents_are_loaded_as_they_were_written_with_a_revision_that_rises(
        self, store: Store, live: int
    ) -> None:
        loaded = store.load(live, ["a", "b", "nothing"])
        assert {key: stored.body for key, stored in loaded.items()} == {
            "a": body(n=3),
            "b": body(n=2),
        }
        assert loaded["a"].revision > loaded["b"].revision > 0
        assert store.load(live, []) == {}

    def test_a_document_may_hold_any_text_under_any_printable_key(
        self, store: Store, live: int
    ) -> None:
        key, text = (
            "ada/2026-11-24 ü%_'\"€\U0001f3c3",
            body(text="\u0000\n'\"ü€\U0001f3c3", n=-(2**60)),
        )
        store.commit(live, Commit(documents=[Written(key, 0, text)]))
        assert store.load(live, [key])[key].body == text
        assert store.documents(live).get(key) == json.loads(text)

    def test_all_of_a_commit_is_there_after_it(self, store: Store, live: int) -> None:
        before = store.counts(live)
        store.commit(live, GOOD)
        assert store.load(live, ["b", "c"]) == {
            "b": Stored(2, body(n=5)),
            "c": Stored(1, body(n=6)),
        }
        assert store.fates(live, [*POSITIONS, Position("third", 8)]) == {
            ONE: APPLIED,
            TWO: RETRYING,
            THREE: DISCARDED,
            FOUR: APPLIED,
            Position("third", 8): APPLIED,
        }
        assert store.watermarks(live) == {"first": 4, "third": 8}
        assert facts_of(store) == [fact(9), fact(8)]
        assert store.counts(live) == before | {
            State.APPLIED: 3,
            State.DEAD: 0,
            State.DISCARDED: 1,
        }

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("part", OVERTAKEN)
    def test_a_commit_with_a_part_that_was_overtaken_leaves_nothing(
        self,
        store: Store,
        live: int,
        part: str,
        first: bool,  # noqa: FBT001
    ) -> None:
        before = everything(store)
        with pytest.raises(Overtaken):
            store.commit(live, beside(OVERTAKEN[part], first=first))
        assert (everything(store), facts_of(store)) == (before, [])
        store.commit(live, GOOD)

    def test_a_commit_to_a_generation_that_is_gone_leaves_nothing(
        self, store: Store, live: int
    ) -> None:
        before = everything(store)
        with pytest.raises(Gone):
            store.commit(live + 7, GOOD)
        assert (everything(store), facts_of(store)) == (before, [])

    @pytest.mark.parametrize("first", [True, False])
    def test_a_document_over_1_mib_is_refused_with_all_of_its_commit(
        self,
        store: Store,
        live: int,
        first: bool,  # noqa: FBT001
    ) -> None:
        huge = Commit(documents=[Written("huge", 0, body(text="x" * MIB))])
        before = everything(store)
        with pytest.raises(Refused, match="huge") as refused:
            store.commit(live, beside(huge, first=first))
        assert getattr(refused.value, "permanent", False)
        assert (everything(store), facts_of(store)) == (before, [])
        largest = body(text="x" * (MIB - 20))
        store.commit(live, Commit(documents=[Written("large", 0, largest)]))
        assert store.load(live, ["large"])["large"].body == largest

    @pytest.mark.parametrize(
        "part",
        [
            "a document that was changed",
            "an event that was applied",
            "a fate that is another",
            "a generation that is gone",
        ],
    )
    def test_after_a_commit_that_failed_a_relay_is_known_by_its_own_name(
        self, site: StoreSite, part: str
    ) -> None:
        # The failing commit is the first that names this relay, and another one comes after it.
        store = site.writer()
        live = begun(store).number
        store.commit(
            live,
            Commit(
                documents=[Written("a", 0, body(n=1))],
                applied=[ONE],
                changes=[Change(TWO, None, RETRYING)],
            ),
        )
        store.commit(live, Commit(documents=[Written("a", 1, body(n=2))]))
        late, later = Position("late", 1), Position("later", 1)
        failing = replace(OVERTAKEN.get(part, Commit()), through={"late": 1})
        with pytest.raises((Overtaken, Gone)):
            store.commit(live if part in OVERTAKEN else 99, failing)
        store.commit(live, Commit(applied=[late], through={"late": 1}))
        for opened in (site.reader(), site.writer()):
            assert opened.fates(live, [ONE, TWO, late, later]).keys() == {ONE, TWO, late}
            assert opened.watermarks(live) == {"late": 1}
        site.writer().commit(
            live, Commit(changes=[Change(later, None, DEAD)], through={"later": 1})
        )
        for opened in (store, site.reader()):
            assert opened.fates(live, [late, later]) == {late: APPLIED, later: DEAD}
            assert opened.open_fates(live, State.DEAD) == [(later, DEAD)]
            assert opened.watermarks(live) == {"late": 1, "later": 1}

    def test_the_second_of_two_who_loaded_the_same_document_is_overtaken(
        self, site: StoreSite
    ) -> None:
        one, other = site.writer(), site.writer()
        live = begun(one).number
        for store in (one, other):
            assert store.load(live, ["a"]) == {}
        one.commit(live, Commit(documents=[Written("a", 0, body(n=1))]))
        with pytest.raises(Overtaken):
            other.commit(live, Commit(documents=[Written("a", 0, body(n=2))]))
        revision = other.load(live, ["a"])["a"].revision
        other.commit(live, Commit(documents=[Written("a", revision, body(n=3))]))
        assert one.load(live, ["a"])["a"].body == body(n=3)

    def test_writers_at_the_same_time_lose_no_update(self, site: StoreSite) -> None:
        live = begun(site.writer()).number

        def count(writer: int) -> None:
            store, random = site.writer(), Random(writer)
            for number in range(1, 21):
                key = random.choice("ab")
                position = Position(f"relay {writer}", number)
                while True:
                    found = store.load(live, [key]).get(key)
                    told = json.loads(found.body) if found else {"n": 0}
                    written = Written(key, found.revision if found else 0, body(n=told["n"] + 1))
                    commit = Commit(documents=[written], applied=[position])
                    try:
                        store.commit(live, commit)
                    except Overtaken:
                        continue
                    break

        with ThreadPoolExecutor(3) as writers:
            list(writers.map(count, range(3)))
        reader = site.reader()
        documents = reader.documents(live).range("", "z")
        assert sum(document["n"] for _, document in documents) == 60
        assert reader.counts(live)[State.APPLIED] == 60
        for writer in range(3):
            rows = reader.rows(live, f"relay {writer}", 0, 99)
            assert rows == dict.fromkeys(range(1, 21), State.APPLIED)

    def test_all_is_there_when_it_is_opened_again(self, site: StoreSite) -> None:
        store = site.writer()
        live = begun(store, indexes=INDEXES).number
        store.commit(live, replace(GOOD, documents=[], changes=[Change(THREE, None, DEAD)]))
        built = begun(store, version=2).number
        store.commit(built, Commit(documents=[Written("a", 0, body(n=1))], through={"second": 5}))
        store.set_mark("paused", "since noon")
        told = everything(store)
        assert everything(site.reader()) == told
        assert everything(site.writer()) == told
        assert site.reader().mark("paused") == "since noon"

    # Fates

    def test_a_fate_comes_back_whole(self, store: Store, live: int) -> None:
        fates = [RETRYING, STRUCK, WAITING, DEAD, DISCARDED]
        positions = [Position("second", number) for number in range(1, 6)]
        changes = [Change(at, None, fate) for at, fate in zip(positions, fates, strict=True)]
        store.commit(live, Commit(changes=changes))
        assert store.fates(live, positions) == dict(zip(positions, fates, strict=True))
        assert store.fates(live, []) == {}

    def test_an_event_climbs_the_ladder_by_compare_and_set(self, store: Store, live: int) -> None:
        ladder = [None, RETRYING, STRUCK, DEAD, replace(RETRYING, due_ms=5), APPLIED]
        for before, after in pairwise(ladder):
            assert after is not None
            store.commit(live, Commit(changes=[Change(FOUR, before, after)]))
            assert store.fates(live, [FOUR]) == {FOUR: after}
            with pytest.raises(Overtaken):
                store.commit(live, Commit(changes=[Change(FOUR, before, DISCARDED)]))
        assert store.counts(live)[State.APPLIED] == 2

    def test_what_is_due_comes_in_the_order_in_which_it_is_due(
        self, store: Store, live: int
    ) -> None:
        due = {POSITIONS[3]: 30, POSITIONS[4]: 10, POSITIONS[6]: 20, POSITIONS[7]: 10}
        changes = [Change(at, None, replace(RETRYING, due_ms=ms)) for at, ms in due.items()]
        changes.append(Change(POSITIONS[8], None, WAITING))
        store.commit(live, Commit(changes=changes))

        def found(**options: Any) -> list[Position]:
            return [at for at, _ in store.open_fates(live, State.RETRYING, **options)]

        in_order = [POSITIONS[4], POSITIONS[7], POSITIONS[6], POSITIONS[3]]
        assert found(due_ms=30) == in_order
        assert found(due_ms=29) == in_order[:3]
        assert found(due_ms=9) == []
        assert found(due_ms=30, limit=2) == in_order[:2]
        assert set(found()) == {*in_order, POSITIONS[8], TWO}
        assert store.open_fates(live, State.DEAD) == [(THREE, DEAD)]
        assert store.open_fates(live, State.DISCARDED) == []

    def test_rows_are_told_for_a_half_open_stretch_of_one_relay(
        self, store: Store, live: int
    ) -> None:
        store.commit(live, Commit(applied=[Position("second", 2), Position("second", 5)]))
        whole = {1: State.APPLIED, 2: State.RETRYING, 3: State.DEAD}
        assert store.rows(live, "first", 0, 99) == whole
        assert store.rows(live, "first", 0, 3) == whole
        assert store.rows(live, "first", 1, 2) == {2: State.RETRYING}
        assert store.rows(live, "first", 3, 99) == {}
        assert store.rows(live, "second", 0, 4) == {2: State.APPLIED}
        assert store.rows(live, "nobody", 0, 99) == {}

    def test_a_position_of_a_relay_that_nobody_knows_has_no_fate(
        self, store: Store, live: int
    ) -> None:
        assert store.fates(live, [Position("nobody", 1), ONE]) == {ONE: APPLIED}

    @EVERY_EXAMPLE
    @given(
        turns=st.lists(
            st.tuples(
                st.sampled_from(POSITIONS),
                st.sampled_from((APPLIED, RETRYING, STRUCK, WAITING, DEAD, DISCARDED)),
                st.sampled_from(("right", "right", "right", "none", "wrong")),
            ),
            max_size=30,
        )
    )
    def test_fates_are_what_a_dictionary_with_compare_and_set_would_have(
        self, new_site: Callable[[], StoreSite], turns: list[tuple[Position, Fate, str]]
    ) -> None:
        store = new_site().writer()
        live = begun(store).number
        model: dict[Position, Fate] = {}
        for position, after, how in turns:
            other = DEAD if model.get(position) != DEAD else STRUCK
            before = {"right": model.get(position), "none": None, "wrong": other}[how]
            commit = Commit(changes=[Change(position, before, after)])
            if model.get(position) == before:
                store.commit(live, commit)
                model[position] = after
            else:
                with pytest.raises(Overtaken):
                    store.commit(live, commit)
        assert store.fates(live, POSITIONS) == model
        states = [fate.state for fate in model.values()]
        assert store.counts(live) == {state: states.count(state) for state in State}
        for state in list(State)[1:]:
            told = dict(store.open_fates(live, state))
            assert told == {at: fate for at, fate in model.items() if fate.state is state}
        for relay in RELAYS:
            assert store.rows(live, relay, 0, 99) == {
                at.number: fate.state for at, fate in model.items() if at.relay == relay
            }

    def test_watermarks_only_rise(self, store: Store, live: int) -> None:
        for through, then in (
            ({"first": 2, "second": 1}, {"first": 3, "second": 1}),
            ({"second": 7}, {"first": 3, "second": 7}),
            ({"first": 9, "second": 6}, {"first": 9, "second": 7}),
        ):
            store.commit(live, Commit(through=through))
            assert store.watermarks(live) == then

    def test_a_generation_tells_how_much_and_when_it_last_committed(
        self, store: Store, live: int
    ) -> None:
        store.commit(live, Commit(applied=[FOUR], rate=12.5))
        (told,) = store.generations()
        assert (told.applied, told.rate) == (2, 12.5)
        assert told.committed_ms > 1_700_000_000_000

    def test_a_mark_is_written_replaced_and_taken_away(self, store: Store, site: StoreSite) -> None:
        reader = site.reader()
        assert reader.mark("paused") is None
        for value in ("yes", "since noon", "", None, None):
            store.set_mark("paused", value)
            assert reader.mark("paused") == store.mark("paused") == value
        store.set_mark("other", "x")
        assert (reader.mark("paused"), reader.mark("other")) == (None, "x")

    # Who is there

    def test_a_worker_leads_until_it_leaves_and_runs_as_long(
        self, store: Store, site: StoreSite
    ) -> None:
        reader = site.reader()
        assert not reader.running()
        assert [store.lead(), store.lead(), store.lead()] == [Lead.TAKEN, Lead.HELD, Lead.HELD]
        assert reader.running()
        assert store.running()
        store.leave()
        assert not reader.running()
        assert site.writer().lead() is Lead.TAKEN
        assert reader.running()

    def test_who_leaves_without_having_led_changes_nothing(self, store: Store) -> None:
        store.leave()
        assert not store.running()
        assert store.lead() is Lead.TAKEN

    # Moments

    def test_within_a_moment_a_reader_sees_nothing_of_later_commits(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        reader = site.reader()
        with reader.moment():
            before = everything(reader)
            store.commit(live, GOOD)
            second = begun(store, version=2).number
            store.swap(second, expected=live)
            assert everything(reader) == before
        assert everything(reader) == everything(store) != before

    def test_watermarks_and_rows_tell_how_high_a_relay_has_come(
        self, store: Store, live: int
    ) -> None:
        store.commit(live, Commit(applied=[Position("third", 8)], through={"second": 4}))
        assert store.highest(live) == {"first": 3, "second": 4, "third": 8}
        store.commit(live, Commit(applied=[Position("second", 5)], through={"third": 7}))
        assert store.highest(live) == {"first": 3, "second": 5, "third": 8}
        assert store.highest(begun(store, version=2).number) == {}

    def test_what_is_open_comes_page_by_page_in_the_order_of_positions(
        self, store: Store, live: int
    ) -> None:
        dead = [Position("second", number) for number in range(1, 8)]
        changes = [Change(at, None, replace(DEAD, first_ms=99 - at.number)) for at in dead]
        store.commit(live, Commit(changes=changes, applied=[FOUR]))
        for at_once in (1, 3, 500):
            pages = list(each_open(store, live, State.DEAD, at_once=at_once))
            assert all(len(page) <= at_once for page in pages)
            assert [at for page in pages for at, _ in page] == [THREE, *dead]
        assert list(each_open(store, live, State.APPLIED)) == []

    def test_many_fates_are_told_at_once(self, store: Store, live: int) -> None:
        many = [Position("many", number) for number in range(1, 8_001)]
        store.commit(live, Commit(applied=many[::2]))
        assert store.fates(live, many) == dict.fromkeys(many[::2], APPLIED)

    # Documents, as a read sees them

    @pytest.fixture
    def boards(self, store: Store) -> tuple[Store, int, dict[str, dict[str, Any]]]:
        """Documents of which some lack a field, beside what they are."""
        random = Random(7)
        documents: dict[str, dict[str, Any]] = {}
        for number in range(60):
            key = f"{random.choice(('Z', 'a', 'ä', '€', '9'))}{number}"
            document: dict[str, Any] = {"board": random.choice(("x", "y", "ü"))}
            document["score"] = random.choice((-1, 0, 7, 7, 2**53 + random.randrange(3), None))
            document["reached"] = random.choice((1, 2, 3))
            document["day"] = random.choice(("2026-11-01", "2026-11-02"))
            if random.random() < 0.2:
                del document[random.choice(("score", "reached", "day"))]
            documents[key] = document
        number = begun(store, indexes=INDEXES).number
        written = [Written(key, 0, body(**document)) for key, document in documents.items()]
        store.commit(number, Commit(documents=written))
        return store, number, documents

    def test_a_document_is_got_by_its_key(
        self, boards: tuple[Store, int, dict[str, dict[str, Any]]]
    ) -> None:
        store, live, documents = boards
        for key, document in documents.items():
            assert store.documents(live).get(key) == document
        assert store.documents(live).get("nothing") is None

    def test_a_range_is_in_the_order_of_the_bytes_of_the_keys(
        self, boards: tuple[Store, int, dict[str, dict[str, Any]]]
    ) -> None:
        store, live, documents = boards
        in_order = sorted(documents, key=str.encode)
        read = store.documents(live)
        assert [key for key, _ in read.range("", "\U0010ffff")] == in_order
        first, last = in_order[10], in_order[40]
        assert read.range(first, last) == [(key, documents[key]) for key in in_order[10:41]]
        assert [key for key, _ in read.range(first, last, limit=3)] == in_order[10:13]
        assert read.range(last, first) == []

    @EVERY_EXAMPLE
    @given(
        index=st.sampled_from(list(INDEXES)),
        leading=st.integers(0, 2),
        limit=st.integers(1, 70),
        skip=st.integers(0, 3),
        which=st.integers(0, 59),
    )
    def test_an_index_lists_page_by_page_what_sorting_would(
        self,
        boards: tuple[Store, int, dict[str, dict[str, Any]]],
        index: str,
        leading: int,
        limit: int,
        skip: int,
        which: int,
    ) -> None:
        store, live, documents = boards
        of = INDEXES[index]
        example = documents[sorted(documents)[which]]
        equals = [example.get(part.lstrip("-"), 0) for part in of[:leading]]
        if None in equals:
            return
        expected = listed(documents, of, equals)
        read, found, cursor, pages = store.documents(live), [], None, 0
        while pages == 0 or cursor is not None:
            page, cursor = read.listed(index, equals, limit=limit, after=cursor)
            assert len(page) <= limit
            assert cursor is None or len(page) == limit
            found += [key for key, _ in page]
            pages += 1
        assert found == expected
        page, _ = read.listed(index, equals, limit=limit, skip=skip)
        assert page == [(key, documents[key]) for key in expected[skip : skip + limit]]

    @EVERY_EXAMPLE
    @given(
        index=st.sampled_from(list(INDEXES)),
        leading=st.integers(0, 2),
        more=st.integers(1, 3),
        which=st.integers(0, 59),
    )
    def test_what_sorts_before_some_values_is_counted(
        self,
        boards: tuple[Store, int, dict[str, dict[str, Any]]],
        index: str,
        leading: int,
        more: int,
        which: int,
    ) -> None:
        store, live, documents = boards
        of = INDEXES[index]
        example = documents[sorted(documents)[which]]
        values = [example.get(part.lstrip("-")) for part in of[: leading + more]]
        if None in values or len(values) <= leading:
            return
        equals, values = values[:leading], values[leading:]
        fields = of[leading : leading + len(values)]
        target = {part.lstrip("-"): value for part, value in zip(fields, values, strict=True)}
        earlier = [
            key
            for key in listed(documents, of, equals)
            if compared(fields, documents[key], target) < 0
        ]
        assert store.documents(live).before(index, equals, values) == len(earlier)

    def test_an_index_and_a_cursor_that_are_none_are_named(
        self, boards: tuple[Store, int, dict[str, dict[str, Any]]]
    ) -> None:
        store, live, _ = boards
        read = store.documents(live)
        with pytest.raises(ValueError, match="'nothing' is not one of this consumer's"):
            read.listed("nothing", limit=5)
        _, of_another = read.listed("by-day", limit=5)
        _, of_another_board = read.listed("rank", ("y",), limit=5)
        for cursor in ("", "x", "AAAA", "ü", "W10", "\x00", of_another, of_another_board):
            with pytest.raises(ValueError, match="cursor is not one that this list gave"):
                read.listed("rank", ("x",), limit=5, after=cursor)

    def test_a_document_moves_in_its_index_when_it_is_written_again(self, store: Store) -> None:
        live = begun(store, indexes=INDEXES).number
        contents: list[dict[str, Any]] = [{"board": "x"}, {"board": "y"}, {"n": 1}]
        for revision, fields in enumerate(contents):
            written = Written("a", revision, body(**fields))
            store.commit(live, Commit(documents=[written]))
            for board in ("x", "y"):
                found, _ = store.documents(live).listed("open", (board,), limit=5)
                assert bool(found) == (fields.get("board") == board)

    def test_facts_are_rows_in_their_order_and_of_one_id_the_first_stands(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        one, two, other = (fact(number) for number in (3, 1, 2))
        store.commit(live, Commit(facts=[one, two, Sealed(one.id, b"another", b"later")]))
        store.commit(live, Commit(facts=[two, other]))
        facts = site.reader().facts()
        assert facts is not None
        rows = facts.rows(0, limit=9)
        assert [row.event for row in rows] == [one, two, other]
        numbers = [row.number for row in rows]
        assert numbers == sorted(set(numbers))
        assert facts.rows(numbers[0], limit=1) == rows[1:2]
        assert facts.event_id_at(numbers[2]) == other.id
        assert facts.event_id_at(numbers[2] + 1) is None

    def test_facts_are_a_source_once_their_generation_is_live(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        store.commit(live, Commit(facts=[fact(1)]))
        before = site.reader().facts()
        built = begun(store, version=2).number
        store.commit(built, Commit(facts=[fact(1), fact(2)]))
        assert before is not None
        assert [row.event for row in before.rows(0, limit=9)] == [fact(1)]
        store.swap(built, expected=live)
        after = site.reader().facts()
        assert after is not None
        assert after.source_id != before.source_id
        assert [row.event for row in after.rows(0, limit=9)] == [fact(1), fact(2)]

    def test_the_facts_of_a_generation_that_was_abandoned_are_told_by_nobody(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        built = begun(store, version=2).number
        store.commit(built, Commit(facts=[fact(1)]))
        store.abandon(built)
        assert facts_of(site.reader()) == []
        again = begun(store, version=2).number
        store.commit(again, Commit(facts=[fact(2)]))
        store.swap(again, expected=live)
        assert facts_of(site.reader()) == [fact(2)]

    def test_a_source_stays_the_same_over_a_restart_and_no_two_stores_have_one(
        self, store: Store, live: int, site: StoreSite, new_site: Callable[[], StoreSite]
    ) -> None:
        store.commit(live, Commit(facts=[fact(1)]))
        first, again = store.facts(), site.writer().facts()
        other = new_site().writer()
        begun(other)
        elsewhere = other.facts()
        assert first is not None
        assert again is not None
        assert elsewhere is not None
        assert first.source_id == again.source_id != elsewhere.source_id
        assert again.rows(0, limit=9) == first.rows(0, limit=9)

    @EVERY_EXAMPLE
    @given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 6), max_size=5)), max_size=6))
    def test_whatever_is_committed_or_refused_the_first_of_each_id_stands_in_the_order_of_commits(
        self, new_site: Callable[[], StoreSite], commits: list[tuple[bool, list[int]]]
    ) -> None:
        store = new_site().writer()
        live = begun(store).number
        store.commit(live, Commit(applied=[ONE]))
        expected: dict[int, Sealed] = {}
        for place, (good, numbers) in enumerate(commits):
            told = [fact(n, told=f"{place}/{at}") for at, n in enumerate(numbers)]
            if good:
                store.commit(live, Commit(facts=told))
                for number, one in zip(numbers, told, strict=True):
                    expected.setdefault(number, one)
            else:
                with pytest.raises(Overtaken):
                    store.commit(live, Commit(applied=[ONE], facts=told))
        assert facts_of(store) == list(expected.values())
        facts = store.facts()
        assert facts is not None
        rows = facts.rows(0, limit=99)
        assert [facts.event_id_at(row.number) for row in rows] == [row.event.id for row in rows]
        for place, row in enumerate(rows):
            assert facts.rows(row.number, limit=99) == rows[place + 1 :]

    def test_who_reads_on_from_the_last_row_misses_none_while_others_are_committed(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        def commit_all() -> None:
            for number in range(0, 300, 3):
                some = [fact(one) for one in range(number, number + 3)]
                store.commit(live, Commit(facts=some))

        reader = site.reader()
        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(commit_all)
            read = read_on(reader, count=300)
            writing.result()
        assert read == [fact(number) for number in range(300)]

    def test_where_nothing_is_live_there_are_no_facts(self, store: Store, site: StoreSite) -> None:
        assert site.reader().facts() is None

    def test_a_generation_keeps_from_when_on_events_are_for_it(self, store: Store) -> None:
        made = store.begin(
            version=1, code="c", bindings=("#",), indexes={}, since_ms=1_764_000_000_123
        )
        assert made.since_ms == 1_764_000_000_123
        live = store.live()
        assert live is not None
        assert live.since_ms == made.since_ms
        assert begun(store, version=2).since_ms == 0


def read_on(reader: StoreReader, *, count: int) -> list[Sealed]:
    """What a relay reads, from the last row that it has seen on, until it has so many."""
    read: list[Sealed] = []
    after, deadline = 0, monotonic() + 60
    while len(read) < count:
        assert monotonic() < deadline, f"{len(read)} of {count} are there"
        facts = reader.facts()
        rows = facts.rows(after, limit=7) if facts else []
        read += [row.event for row in rows]
        after = rows[-1].number if rows else after
    return read


def listed(
    documents: Mapping[str, Mapping[str, Any]], of: Sequence[str], equals: Sequence[Any]
) -> list[str]:
    """The keys of what an index has with these leading values, sorted by the rest of it."""
    names = [part.lstrip("-") for part in of]
    inside = [
        key
        for key, document in documents.items()
        if all(document.get(name) is not None for name in names)
        and [document[name] for name in names[: len(equals)]] == list(equals)
    ]
    by_key = sorted(inside, key=str.encode)

    def order(one: str, other: str) -> int:
        return compared(of, documents[one], documents[other])

    return sorted(by_key, key=cmp_to_key(order))


def compared(of: Sequence[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """Below 0 where the first sorts before the second by these fields."""
    for part in of:
        name = part.lstrip("-")
        left, right = (
            value.encode() if isinstance(value, str) else value
            for value in (one[name], other[name])
        )
        if left != right:
            return (-1 if left < right else 1) * (-1 if part.startswith("-") else 1)
    return 0


class SqliteStoreSite:
    """A store in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.opened: list[SqliteStoreReader] = []

    def writer(self) -> SqliteStore:
        store = SqliteStore(self._path)
        self.opened.append(store)
        return store

    def reader(self) -> SqliteStoreReader:
        store = SqliteStoreReader.open(self._path)
        self.opened.append(store)
        return store


class TestSqliteStore(StoreContract):
    """The store of the embedded way."""

    @pytest.fixture
    def new_site(self, tmp_path: Path) -> Iterator[Callable[[], StoreSite]]:
        sites: list[SqliteStoreSite] = []

        def make() -> StoreSite:
            sites.append(SqliteStoreSite(tmp_path / str(len(sites)) / "totals.db"))
            return sites[-1]

        yield make
        for site in sites:
            for store in site.opened:
                store.close()

    def test_a_reader_waits_for_the_file_and_for_its_tables(self, tmp_path: Path) -> None:
        file = tmp_path / "totals.db"
        with pytest.raises(Outage):
            SqliteStoreReader.open(file)
        file.touch()
        with pytest.raises(Outage):
            SqliteStoreReader.open(file)

    def test_the_counts_are_those_of_one_moment(
        self, store: Store, live: int, site: StoreSite
    ) -> None:
        reader = site.reader()
        assert isinstance(reader, SqliteStoreReader)
        retried = iter([Change(TWO, RETRYING, APPLIED)])

        def between(_: object, sql: str, __: object) -> bool:
            if "FROM generations" in sql:
                for change in retried:
                    store.commit(live, Commit(changes=[change]))
            return True

        reader._db.exec_trace = between
        assert sum(reader.counts(live).values()) == 3
        reader._db.exec_trace = None
        assert sum(reader.counts(live).values()) == 3

    def test_after_a_full_disk_the_same_commit_is_stored_under_its_own_relay(
        self, tmp_path: Path
    ) -> None:
        disk = Disk(1)
        disk.start(tmp_path / "small")
        file = disk.folder / "totals.db"
        store = SqliteStore(file, vfs=disk.name)
        live = begun(store).number
        disk.full = True
        with pytest.raises(Outage, match="Is the disk full"):
            store.commit(live, Commit(applied=[ONE], through={"first": 1}))
        disk.full = False
        assert store.counts(live)[State.APPLIED] == 0
        store.commit(live, Commit(applied=[Position("second", 1)], through={"second": 1}))
        store.commit(live, Commit(applied=[ONE], through={"first": 1}))
        again = SqliteStore(file, vfs=disk.name)
        for opened in (store, again):
            assert opened.watermarks(live) == {"second": 1, "first": 1}
            assert opened.fates(live, POSITIONS).keys() == {ONE, Position("second", 1)}
        again.close()
        store.close()

    def test_an_older_file_has_no_facts_yet_and_gets_room_for_them(self, tmp_path: Path) -> None:
        file = tmp_path / "totals.db"
        store = SqliteStore(file)
        live = begun(store).number
        store.commit(live, Commit(documents=[Written("a", 0, body(n=1))], applied=[ONE]))
        # As it was before there were facts.
        store._db.execute(f"DROP TABLE facts_{live}").fetchall()
        store._db.execute("ALTER TABLE generations DROP COLUMN since").fetchall()
        store._db.execute("DELETE FROM marks").fetchall()
        store.close()
        reader = SqliteStoreReader.open(file)
        assert reader.facts() is None
        found = reader.live()
        assert found is not None
        assert (found.number, found.since_ms) == (live, 0)
        again = SqliteStore(file)
        again.commit(live, Commit(applied=[TWO], facts=[fact(1)]))
        assert facts_of(reader) == facts_of(again) == [fact(1)]
        assert again.load(live, ["a"]) == {"a": Stored(1, body(n=1))}
        assert begun(again, version=2).since_ms == 0
        again.close()
        reader.close()

    def test_facts_that_were_dropped_or_are_in_pieces_are_an_outage(self, tmp_path: Path) -> None:
        file = tmp_path / "totals.db"
        store = SqliteStore(file)
        live = begun(store).number
        store.commit(live, Commit(facts=[fact(1)]))
        reader = SqliteStoreReader.open(file)
        facts = reader.facts()
        assert facts is not None
        store._db.execute(f"DROP TABLE facts_{live}").fetchall()
        store.close()
        with pytest.raises(Outage, match="totals"):
            facts.rows(0, limit=9)
        with pytest.raises(Outage, match="totals"):
            facts.event_id_at(1)
        reader.close()  # as whoever opens a file anew that was put in its place
        with pytest.raises(Outage, match="totals"):
            facts.rows(0, limit=9)


class MongoStoreSite:
    """A store in a database of its own, for any number of workers."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name
        self.opened: list[MongoStoreReader] = []

    def writer(self) -> MongoStore:
        store = MongoStore(self._client, self._name, f"worker {len(self.opened)}")
        self.opened.append(store)
        return store

    def reader(self) -> MongoStoreReader:
        store = MongoStoreReader(self._client, self._name)
        self.opened.append(store)
        return store


@pytest.fixture(scope="module")
def mongo(mongod: Mongod) -> Iterator[Databases]:
    with databases(mongod) as made:
        yield made


class TestMongoStore(StoreContract):
    """The store of the distributed way; what only it can do is in tests/integration."""

    @pytest.fixture
    def new_site(self, mongo: Databases) -> Iterator[Callable[[], StoreSite]]:
        sites: list[MongoStoreSite] = []

        def make() -> StoreSite:
            sites.append(MongoStoreSite(mongo.client, mongo.new_name()))
            return sites[-1]

        yield make
        for site in sites:
            for store in site.opened:
                store.close()
        mongo.drop()

    def test_with_two_writers_who_reads_on_misses_no_fact_and_each_is_there_once(
        self, site: StoreSite, store: Store, live: int
    ) -> None:
        count = 240
        writers, reader = [store, site.writer()], site.reader()

        def commit_all(place: int) -> None:
            # Both tell all of them, each in an order of its own, and overtake each other.
            numbers = list(range(count))
            Random(place).shuffle(numbers)
            for start in range(0, count, 8):
                told = [fact(one, told=str(place)) for one in numbers[start : start + 8]]
                while not _is_committed(writers[place], live, told):
                    pass

        with ThreadPoolExecutor(2) as threads:
            writing = [threads.submit(commit_all, place) for place in (0, 1)]
            read = read_on(reader, count=count)
            for one in writing:
                one.result()
        assert sorted(one.id for one in read) == sorted(fact(n).id for n in range(count))
        assert read == facts_of(store)
        assert {one.body.split()[1] for one in read} == {b"0", b"1"}


def _is_committed(store: Store, live: int, told: Sequence[Sealed]) -> bool:
    try:
        store.commit(live, Commit(facts=told))
    except Overtaken:
        return False
    return True
