"""A walk over the log: all that was there, nothing twice, and an end while the log grows."""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from events.log import Conflict, Logged, Position, Selection
from events.log.walk import IDS_AT_ONCE, Walk, counted, parts

USERS = ("ada", "bob")


class Growing:
    """A log of several relays that work at once; rows are (relay, user), in the order they came."""

    def __init__(self, came: Sequence[tuple[int, str]]) -> None:
        self.rows: list[tuple[Logged, str]] = []
        self.asked: list[Selection] = []
        for relay, user in came:
            self.comes(relay, user)

    def comes(self, relay: int, user: str) -> None:
        number = 1 + sum(row.position.relay == f"r{relay}" for row, _ in self.rows)
        position = Position(f"r{relay}", number)
        place = relay * 1_000_000 + number
        self.rows.append((Logged(position, f"{place:032}", "workout.completed", b"", place), user))
        self.rows.sort(key=lambda row: row[0].place)

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        self.asked.append(selection)
        return self._all(selection)[:limit]

    def count(self, selection: Selection) -> int:
        return len(self._all(selection))

    def _all(self, selection: Selection) -> list[Logged]:
        return [
            row
            for row, user in self.rows
            if row.place > selection.after
            and selection.user_id in (None, user)
            and (selection.ids is None or row.event_id in selection.ids)
        ]

    def settled(self) -> dict[str, int]:
        return {row.position.relay: row.position.number for row, _ in self.rows}

    def get(self, event_id: str) -> Logged | None:
        raise NotImplementedError

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        raise NotImplementedError

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        raise NotImplementedError


class Grows(NamedTuple):
    """What comes in while one page is read."""

    relay: int
    user: str
    count: int


came = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(USERS)), max_size=40)
grows = st.lists(
    st.builds(Grows, st.integers(1, 5), st.sampled_from(USERS), st.integers(1, 3)), max_size=5
)


@given(
    there=came,
    grown=grows,
    limit=st.integers(4, 9),
    user=st.sampled_from([None, *USERS]),
    again=st.booleans(),
)
def test_a_walk_passes_what_was_there_once_and_ends_however_the_log_grows(
    *,
    there: list[tuple[int, str]],
    grown: list[Grows],
    limit: int,
    user: str | None,
    again: bool,
) -> None:
    log = Growing(there)
    expected = [row for row, of in log.rows if user in (None, of)]
    walk, passed = Walk(log, Selection(user_id=user)), []
    for turn in range(100):
        page = walk.page(limit)
        if page is None:
            break
        assert len(page) <= limit
        passed += page
        # Less than a page comes in while a page is read, all the time, in whatever place.
        for one in grown[turn % len(grown) : turn % len(grown) + 1] if grown else ():
            for _ in range(one.count):
                log.comes(one.relay, one.user)
        if again and not grown:
            walk = Walk(log, Selection(user_id=user), after=walk.after)
    else:
        raise AssertionError("the walk does not end")
    assert passed == expected


def test_a_walk_by_ids_looks_them_up_in_parts_and_is_taken_up_where_it_was() -> None:
    log = Growing([(1, "ada")] * 1_300)
    ids = [row.event_id for row, _ in log.rows[:1_200]] + [f"{7:032}"]
    first = Walk(log, Selection(ids=ids))
    assert len(first.page(10_000) or ()) == IDS_AT_ONCE
    assert len(first.page(3) or ()) == 3
    walk, passed = Walk(log, Selection(ids=ids), after=first.after), 503
    while (page := walk.page(10_000)) is not None:
        passed += len(page)
    assert passed == walk.total() == 1_200
    assert max(len(asked.ids or ()) for asked in log.asked) == IDS_AT_ONCE


def test_no_ids_select_nothing_and_no_selection_of_ids_selects_all() -> None:
    log = Growing([(1, "ada")] * 3)
    assert Walk(log, Selection(ids=[])).page(9) is None
    assert counted(log, Selection(ids=[])) == 0
    assert counted(log, Selection()) == 3
    assert parts(Selection(ids=[])) == []
