"""The contract of `Documents`: a read sees the same in a store and in the kit for authors."""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cmp_to_key
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers import Document, Documents
from consumers.memory import MemoryDocuments
from consumers.runtime.store import Commit, Written
from consumers.runtime.store.mongo import MongoStore
from consumers.runtime.store.sqlite import SqliteStore
from tests.servers.databases import Databases, databases
from tests.servers.mongod import Mongod

Indexes = Mapping[str, tuple[str, ...]]
Make = Callable[[Mapping[str, Document], Indexes], AbstractContextManager[Documents]]


@contextmanager
def in_memory(documents: Mapping[str, Document], indexes: Indexes) -> Iterator[Documents]:
    yield MemoryDocuments(documents, indexes)


@contextmanager
def in_sqlite(documents: Mapping[str, Document], indexes: Indexes) -> Iterator[Documents]:
    # SQLite's own file system in memory: the contract is not about the disk.
    store = SqliteStore(Path(gettempdir()) / f"{uuid4()}.db", vfs="memdb")
    try:
        made = store.begin(version=1, code="", bindings=("#",), indexes=indexes)
        written = [Written(key, 0, msgspec.json.encode(body)) for key, body in documents.items()]
        store.commit(made.number, Commit(documents=written))
        yield store.documents(made.number)
    finally:
        store.close()


class InMongo:
    """Documents in MongoDB, one database for each set of indexes: to make one takes a while."""

    def __init__(self, made: Databases) -> None:
        self._databases = made
        self._stores: dict[str, tuple[str, MongoStore, int]] = {}

    @contextmanager
    def __call__(self, documents: Mapping[str, Document], indexes: Indexes) -> Iterator[Documents]:
        name, store, number = self._store(indexes)
        self._databases.client[name][f"documents_{number}"].delete_many({})
        written = [Written(key, 0, msgspec.json.encode(body)) for key, body in documents.items()]
        store.commit(number, Commit(documents=written))
        yield store.documents(number)

    def _store(self, indexes: Indexes) -> tuple[str, MongoStore, int]:
        if repr(indexes) not in self._stores:
            name = self._databases.new_name()
            store = MongoStore(self._databases.client, name, "worker")
            made = store.begin(version=1, code="", bindings=("#",), indexes=indexes)
            self._stores[repr(indexes)] = name, store, made.number
        return self._stores[repr(indexes)]


@pytest.fixture(scope="module", params=["memory", "sqlite", "mongo"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    if request.param == "mongo":
        with databases(request.getfixturevalue("mongod")) as made:
            yield InMongo(made)
    else:
        yield in_memory if request.param == "memory" else in_sqlite


FIELDS = ("a", "b", "c")
LARGEST = 2**63 - 1
keys = st.sampled_from(["a", "a/1", "a/10", "a/2", "B", "ß", "\uffee", "\U0001f3c3"]) | st.text(
    st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1, max_size=8
)
values = (
    st.integers(-2, 2)
    | st.sampled_from([-LARGEST, LARGEST, "", "a", "ab", "b", "1", "\uffee", "\U0001f3c3"])
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, st.none() | values),
        "of": st.dictionaries(st.text(max_size=2), st.lists(st.integers(-9, 9), max_size=2)),
    },
)
contents = st.dictionaries(keys, bodies, max_size=12)
indexed = st.permutations(FIELDS).flatmap(
    lambda fields: st.tuples(*[st.sampled_from([name, f"-{name}"]) for name in fields])
)
some_index = st.builds(lambda fields, count: fields[:count], indexed, st.integers(1, 3))


def compared(one: Any, other: Any) -> int:
    """Numbers come before texts, texts go by their bytes."""
    left, right = ((isinstance(value, str), value) for value in (one, other))
    if left[0] != right[0]:
        return -1 if right[0] else 1
    if left[0]:
        one, other = one.encode(), other.encode()
    return int(one > other) - int(one < other)


def order(of: Sequence[str], one: Sequence[Any], other: Sequence[Any]) -> int:
    """Say which of two lists of values an index has first; the shorter one decides how far."""
    for field, left, right in zip(of, one, other, strict=False):
        if found := compared(left, right):
            return -found if field.startswith("-") else found
    return 0


def entries(documents: Mapping[str, Document], of: Sequence[str]) -> list[tuple[list[Any], str]]:
    """What an index holds, in its order, computed from all documents: values and key."""
    rows: list[tuple[list[Any], str]] = [
        ([body.get(field.removeprefix("-")) for field in of], key)
        for key, body in documents.items()
    ]
    there = [row for row in rows if None not in row[0]]

    def compare(one: tuple[list[Any], str], other: tuple[list[Any], str]) -> int:
        return order([*of, "key"], [*one[0], one[1]], [*other[0], other[1]])

    return sorted(there, key=cmp_to_key(compare))


def walked(
    documents: Documents, index: str, equals: Sequence[Any], limit: int
) -> list[tuple[str, Document]]:
    """All pages of a listing."""
    found: list[tuple[str, Document]] = []
    page, cursor = documents.listed(index, equals, limit=limit)
    while cursor is not None:
        assert len(page) == limit
        found += page
        page, cursor = documents.listed(index, equals, limit=limit, after=cursor)
    assert len(page) <= limit
    return found + page


@given(documents=contents, other=keys)
def test_a_document_is_found_under_its_key_and_nothing_under_another(
    make: Make, documents: dict[str, Document], other: str
) -> None:
    with make(documents, {}) as made:
        for key, body in documents.items():
            assert made.get(key) == body
        assert made.get(other) == documents.get(other)


@given(documents=contents, first=keys, last=keys, limit=st.none() | st.integers(0, 5))
def test_a_range_holds_its_ends_and_what_is_between_in_the_order_of_bytes(
    make: Make, documents: dict[str, Document], first: str, last: str, limit: int | None
) -> None:
    inside = [key for key in documents if first.encode() <= key.encode() <= last.encode()]
    expected = sorted(inside, key=str.encode)[:limit]
    with make(documents, {}) as made:
        assert made.range(first, last, limit=limit) == [(key, documents[key]) for key in expected]


@given(documents=contents, of=some_index, limit=st.integers(1, 13))
def test_cursors_walk_through_an_index_and_meet_every_document_that_is_in_it_once(
    make: Make, documents: dict[str, Document], of: tuple[str, ...], limit: int
) -> None:
    with make(documents, {"by": of}) as made:
        found = walked(made, "by", (), limit)
    assert found == [(key, documents[key]) for _, key in entries(documents, of)]


@given(documents=contents, of=some_index, limit=st.integers(1, 4), data=st.data())
def test_leading_fields_that_are_given_leave_the_others_in_their_order(
    make: Make, documents: dict[str, Document], of: tuple[str, ...], limit: int, data: st.DataObject
) -> None:
    equals = _leading(data, documents, of)
    expected = [key for values, key in entries(documents, of) if values[: len(equals)] == equals]
    with make(documents, {"by": of}) as made:
        assert [key for key, _ in walked(made, "by", equals, limit)] == expected


@given(documents=contents, of=some_index, data=st.data())
def test_before_counts_what_sorts_strictly_before_whether_it_is_there_or_not(
    make: Make, documents: dict[str, Document], of: tuple[str, ...], data: st.DataObject
) -> None:
    equals = _leading(data, documents, of)[: len(of) - 1]
    rest = of[len(equals) :]
    given_values = data.draw(st.lists(values, min_size=1, max_size=len(rest)))
    there = [row for row, _ in entries(documents, of) if row[: len(equals)] == equals]
    expected = sum(order(rest, row[len(equals) :], given_values) < 0 for row in there)
    with make(documents, {"by": of}) as made:
        assert made.before("by", equals, given_values) == expected


@given(documents=contents, of=some_index)
def test_before_agrees_with_the_place_in_the_listing(
    make: Make, documents: dict[str, Document], of: tuple[str, ...]
) -> None:
    fields = [field.removeprefix("-") for field in of]
    with make(documents, {"by": of}) as made:
        for place, (_, body) in enumerate(walked(made, "by", (), 200)):
            own = [body[field] for field in fields]
            ahead = made.before("by", (), own)
            listed = made.listed("by", (), limit=200)[0]
            peers = [key for key, other in listed if [other[field] for field in fields] == own]
            assert ahead <= place < ahead + len(peers)


@given(documents=contents, of=some_index, limit=st.integers(1, 3), data=st.data())
def test_a_cursor_goes_on_though_the_document_that_gave_it_has_changed(
    make: Make, documents: dict[str, Document], of: tuple[str, ...], limit: int, data: st.DataObject
) -> None:
    with make(documents, {"by": of}) as made:
        page, cursor = made.listed("by", limit=limit)
    if cursor is None:
        return
    gone = data.draw(st.sets(st.sampled_from([key for key, _ in page])))
    left = {key: body for key, body in documents.items() if key not in gone}
    with make(left, {"by": of}) as made:
        found = made.listed("by", limit=200, after=cursor)[0]
    expected = [key for _, key in entries(documents, of)][limit:]
    assert [key for key, _ in found] == expected


@given(documents=contents, of=some_index, limit=st.integers(1, 4), skip=st.integers(0, 13))
def test_entries_are_passed_over_from_where_the_cursor_is(
    make: Make, documents: dict[str, Document], of: tuple[str, ...], limit: int, skip: int
) -> None:
    expected = [key for _, key in entries(documents, of)]
    with make(documents, {"by": of}) as made:
        page, cursor = made.listed("by", limit=limit, skip=skip)
        assert [key for key, _ in page] == expected[skip : skip + limit]
        if cursor is not None:
            page, _ = made.listed("by", limit=limit, after=cursor, skip=skip)
            assert [key for key, _ in page] == expected[2 * skip + limit :][:limit]


def test_what_a_read_does_to_a_document_is_its_own_business(make: Make) -> None:
    with make({"a": {"n": [1]}}, {"by": ("a",)}) as made:
        document = made.get("a")
        assert document is not None
        document["n"].append(2)
        made.range("a", "a")[0][1]["n"].append(3)
        assert made.get("a") == {"n": [1]}


@pytest.mark.parametrize(
    "cursor", ["", "x", "a cursor", "ß", "W10", "W251bGxd", "e30", "bnVsbA==", "W1td"]
)
def test_a_cursor_that_is_not_of_this_index_is_a_value_error(make: Make, cursor: str) -> None:
    with make({"a": {"n": 1}}, {"by": ("n",)}) as made, pytest.raises(ValueError, match="cursor"):
        made.listed("by", limit=1, after=cursor)


def test_a_cursor_of_another_list_is_a_value_error(make: Make) -> None:
    documents = {key: {"a": number, "b": number % 2} for number, key in enumerate("vwxyz")}
    indexes = {"by": ("a",), "longer": ("a", "b"), "like": ("b",), "pair": ("b", "a")}
    with make(documents, indexes) as made:
        for other in ("longer", "like"):
            _, cursor = made.listed(other, limit=1)
            with pytest.raises(ValueError, match="cursor"):
                made.listed("by", limit=1, after=cursor)
        _, cursor = made.listed("pair", (0,), limit=1)
        with pytest.raises(ValueError, match="cursor"):
            made.listed("pair", (1,), limit=1, after=cursor)


def test_a_cursor_that_somebody_made_up_is_a_value_error(make: Make) -> None:
    with make({"x": {"a": 1}}, {"by": ("a",)}) as made:
        for values in ([2**63, "x"], ["by", 2**63, "x"], ["by", 1.5, "x"], ["by", None, "x"]):
            cursor = urlsafe_b64encode(msgspec.json.encode(values)).decode()
            with pytest.raises(ValueError, match="cursor"):
                made.listed("by", limit=1, after=cursor)


def test_a_field_may_be_called_key(make: Make) -> None:
    documents = {"x": {"key": "3"}, "y": {"key": "1"}, "z": {"key": "2"}}
    with make(documents, {"by": ("key",)}) as made:
        assert [key for key, _ in walked(made, "by", (), 1)] == ["y", "z", "x"]


def test_the_stores_agree_on_fields_that_are_neither_whole_numbers_nor_texts(
    mongod: Mongod,
) -> None:
    odd = [True, False, 1.5, -0.5, 2**63, -(2**63), [2, "b"], [], {"n": 1}, {}, "[]", None, 1, ""]
    documents = {f"{place:02}": {"a": value} for place, value in enumerate(odd)}
    indexes = {"up": ("a",), "down": ("-a",)}
    with (
        databases(mongod) as made,
        InMongo(made)(documents, indexes) as ours,
        in_sqlite(documents, indexes) as theirs,
    ):
        for index in indexes:
            page, expected = (read.listed(index, limit=50)[0] for read in (ours, theirs))
            assert [key for key, _ in page] == [key for key, _ in expected]
            assert len(page) == len(odd) - 1
            for value in (True, 1.5, 2**62, "[", "{"):
                assert ours.before(index, (), (value,)) == theirs.before(index, (), (value,))
        for leading in ([True], [None]):
            assert ours.listed("up", leading, limit=9) == theirs.listed("up", leading, limit=9)


@pytest.mark.parametrize("name", ["a.b", "$a", "$", ".", "_id", "ü", "$where.x.$"])
def test_a_field_may_have_any_name(make: Make, name: str) -> None:
    documents = {"x": {name: 3}, "y": {name: 1}, "z": {name: 2}}
    with make(documents, {name: (f"-{name}",)}) as made:
        assert [key for key, _ in walked(made, name, (), 1)] == ["x", "z", "y"]
        assert made.before(name, (), (2,)) == 1


def _leading(
    data: st.DataObject, documents: Mapping[str, Document], of: Sequence[str]
) -> list[Any]:
    """Draw values for the leading fields, mostly such that there are."""
    there = [row for row, _ in entries(documents, of)]
    row = data.draw(st.sampled_from(there)) if there else ["a", 1, 2]
    count = data.draw(st.integers(0, len(of)))
    return list(data.draw(st.just(row) | st.lists(values, min_size=3, max_size=3))[:count])
