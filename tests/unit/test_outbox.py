"""The outbox: its answers are on disk, its memory is bounded, and one process writes it."""

import shutil
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Event
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.envelope import Sealed, seal
from events.errors import Held, Outage
from events.workouts import WorkoutCompleted
from producer import outbox_room
from producer.outbox import Accepted, Conflicting, Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds, OutboxFull
from tests.contract.power_cut import Disk
from tests.factories import workout

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY_S = 24 * 3600
MIB = 1 << 20
ROOM = Bounds(free_bytes=0)
Make = Callable[..., Outbox]


def sealed(number: int, **changes: Any) -> Sealed:
    """The event of one of many workouts."""
    fact: WorkoutCompleted = replace(workout(workout_id=f"w{number}"), **changes)
    return seal(fact, accepted_at=NOON)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "outbox.db"


@pytest.fixture
def opened(file: Path) -> Iterator[Make]:
    made: list[Outbox] = []

    def make(
        *,
        passed: Callable[[str], int] = lambda source: 0,
        bounds: Bounds = ROOM,
        vfs: str | None = None,
        path: Path = file,
    ) -> Outbox:
        made.append(Outbox(path, passed=passed, bounds=bounds, vfs=vfs))
        return made[-1]

    yield make
    for outbox in made:
        outbox.close()


@pytest.fixture
def outbox(opened: Make) -> Outbox:
    return opened()


@pytest.fixture
def fast_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_room, "PRUNE_EVERY_S", 0.0)
    monkeypatch.setattr(outbox_room, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def disk_space(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    space = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: space)
    monkeypatch.setattr(outbox_room, "LOOK_EVERY_S", 0.0)
    return space


def kept(file: Path) -> list[str]:
    return [event_id for _, event_id in OutboxReader(file).ids()]


def test_what_is_accepted_is_there_for_the_relay_byte_for_byte(outbox: Outbox, file: Path) -> None:
    events = [sealed(number) for number in range(3)]
    assert outbox.accept(events) == [Accepted(event.id, duplicate=False) for event in events]
    source = OutboxReader(file)
    assert [row.event for row in source.rows(0, limit=10)] == events
    assert [row.number for row in source.rows(0, limit=10)] == [1, 2, 3]
    assert [row.event for row in source.rows(1, limit=1)] == events[1:2]
    assert source.event_id_at(2) == events[1].id
    assert source.event_id_at(4) is None
    assert source.source_id == outbox.source_id


def test_what_was_accepted_is_a_duplicate_whenever_it_comes_again(outbox: Outbox) -> None:
    outbox.accept([sealed(1)])
    later = seal(workout(workout_id="w1"), accepted_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert outbox.accept([sealed(2), later]) == [
        Accepted(sealed(2).id, duplicate=False),
        Accepted(later.id, duplicate=True),
    ]


def test_the_bytes_of_the_first_stay_when_a_duplicate_comes(outbox: Outbox, file: Path) -> None:
    outbox.accept([sealed(1)])
    outbox.accept([seal(workout(workout_id="w1"), accepted_at=datetime(2027, 1, 1, tzinfo=UTC))])
    assert [row.event for row in OutboxReader(file).rows(0, limit=10)] == [sealed(1)]


def test_a_conflict_names_its_places_and_keeps_nothing_of_its_request(
    outbox: Outbox, file: Path
) -> None:
    outbox.accept([sealed(1), sealed(2)])
    with pytest.raises(Conflicting) as refused:
        outbox.accept([sealed(3), sealed(1, duration_ms=1), sealed(2), sealed(2, duration_ms=1)])
    assert refused.value.places == [1, 3]
    assert kept(file) == [sealed(1).id, sealed(2).id]
    assert [row.event for row in OutboxReader(file).rows(0, limit=9)] == [sealed(1), sealed(2)]


def test_a_request_of_nothing_is_answered_with_nothing(outbox: Outbox) -> None:
    assert outbox.accept([]) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    requests=st.lists(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(1, 2)), max_size=4, unique_by=lambda t: t[0]
        ),
        max_size=12,
    ),
    data=st.data(),
)
def test_requests_one_after_the_other_are_answered_as_a_dictionary_would(
    opened: Make, tmp_path: Path, requests: list[list[tuple[int, int]]], data: st.DataObject
) -> None:
    file = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
    outbox = opened(path=file)
    known: dict[int, int] = {}
    for request in requests:
        events = [sealed(number, duration_ms=ms) for number, ms in request]
        clashes = [at for at, (number, ms) in enumerate(request) if known.get(number, ms) != ms]
        if clashes:
            with pytest.raises(Conflicting) as refused:
                outbox.accept(events)
            assert refused.value.places == clashes
        else:
            duplicates = [answer.duplicate for answer in outbox.accept(events)]
            assert duplicates == [number in known for number, _ in request]
            known |= dict(request)
        assert sorted(kept(file)) == sorted(sealed(number).id for number in known)


class HeldUp(Disk):
    """A disk whose syncs wait for a sign, so that requests are in flight together."""

    def __init__(self) -> None:
        super().__init__(1)
        self.go_on = Event()
        self.go_on.set()
        self.syncing = Event()

    def synced(self, *arguments: Any, **options: Any) -> None:
        self.syncing.set()
        assert self.go_on.wait(30)
        super().synced(*arguments, **options)


@pytest.fixture
def slow(opened: Make, tmp_path: Path) -> Iterator[tuple[Outbox, HeldUp]]:
    disk = HeldUp()
    disk.start(tmp_path / "slow")
    outbox = opened(vfs=disk.name, path=disk.folder / "outbox.db")
    disk.syncing.clear()
    disk.go_on.clear()
    yield outbox, disk
    disk.go_on.set()


def started(slow: tuple[Outbox, HeldUp], people: ThreadPoolExecutor, requests: list[Any]) -> Any:
    """Bring the first request to its sync, then all others behind it."""
    outbox, disk = slow
    first = people.submit(outbox.accept, requests[0])
    assert disk.syncing.wait(30)
    others = [people.submit(outbox.accept, request) for request in requests[1:]]
    deadline = time.monotonic() + 30
    while len(outbox._waiting) < len(others):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return [first, *others]


def test_a_duplicate_of_a_request_in_flight_waits_for_its_sync(
    slow: tuple[Outbox, HeldUp],
) -> None:
    with ThreadPoolExecutor(3) as people:
        answers = started(slow, people, [[sealed(1)], [sealed(1)], [sealed(1)]])
        assert not any(answer.done() for answer in answers)
        slow[1].go_on.set()
        duplicates = [answer.result(30)[0].duplicate for answer in answers]
    assert duplicates == [False, True, True]
    assert kept_of(slow) == [sealed(1).id]


def kept_of(slow: tuple[Outbox, HeldUp]) -> list[str]:
    return [
        event_id
        for _, event_id in OutboxReader(slow[1].folder / "outbox.db", vfs=slow[1].name).ids()
    ]


def test_of_two_that_conflict_in_one_group_the_first_stays(slow: tuple[Outbox, HeldUp]) -> None:
    with ThreadPoolExecutor(4) as people:
        requests = [[sealed(0)], [sealed(1)], [sealed(1, duration_ms=1)], [sealed(2)]]
        answers = started(slow, people, requests)
        slow[1].go_on.set()
        for answer, event in zip(answers, (sealed(0), sealed(1), None, sealed(2)), strict=True):
            if event is None:
                with pytest.raises(Conflicting):
                    answer.result(30)
            else:
                assert answer.result(30) == [Accepted(event.id, duplicate=False)]
    assert sorted(kept_of(slow)) == sorted(sealed(number).id for number in range(3))


def test_requests_that_wait_are_committed_with_one_sync(slow: tuple[Outbox, HeldUp]) -> None:
    outbox, disk = slow
    with ThreadPoolExecutor(20) as people:
        answers = started(slow, people, [[sealed(number)] for number in range(20)])
        before = disk.operations
        disk.go_on.set()
        assert all(not answer.result(30)[0].duplicate for answer in answers)
    together = disk.operations - before
    outbox.accept([sealed(20)])
    alone = disk.operations - before - together
    # The first commit's sync, and one commit for the other nineteen; not nineteen.
    assert together <= 4 * alone


def test_one_request_that_fails_does_not_fail_its_neighbours(
    slow: tuple[Outbox, HeldUp],
) -> None:
    outbox, disk = slow
    with ThreadPoolExecutor(4) as people:
        answers = started(slow, people, [[sealed(0)], [sealed(1)], [broken()], [sealed(2)]])
        disk.go_on.set()
        for answer in (answers[0], answers[1], answers[3]):
            assert answer.result(30)[0].duplicate is False
    assert outbox.accept([sealed(3)]) == [Accepted(sealed(3).id, duplicate=False)]


class GivesUpTooLate:
    """A lock whose waiter runs out of patience in the moment in which it is let go."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.release = self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002
        taken = self._lock.acquire(blocking, timeout)
        if taken and timeout > 0:
            self._lock.release()
            return False
        return taken


def test_one_that_is_to_lead_in_the_moment_in_which_it_gives_up_leads_all_the_same(
    slow: tuple[Outbox, HeldUp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.outbox.allocate_lock", GivesUpTooLate)
    with ThreadPoolExecutor(2) as people:
        first, second = started(slow, people, [[sealed(0)], [sealed(1)]])
        slow[1].go_on.set()
        assert first.result(30) == [Accepted(sealed(0).id, duplicate=False)]
        assert second.result(30) == [Accepted(sealed(1).id, duplicate=False)]
    assert slow[0].accept([sealed(2)]) == [Accepted(sealed(2).id, duplicate=False)]


def broken() -> Sealed:
    """An event whose fact cannot be compared with the one that was accepted."""
    return Sealed(sealed(0).id, b"another", b"no event")


def test_many_threads_with_few_workouts_accept_each_exactly_once(
    outbox: Outbox, file: Path
) -> None:
    together = Barrier(8)

    def post(person: int) -> list[str]:
        together.wait()
        fresh = []
        for turn in range(50):
            answers = outbox.accept([sealed((person + turn * 7) % 60), sealed(100 + turn)])
            fresh += [answer.event_id for answer in answers if not answer.duplicate]
        return fresh

    with ThreadPoolExecutor(8) as people:
        fresh = [event_id for of in people.map(post, range(8)) for event_id in of]
    assert len(fresh) == len(set(fresh)) == 110
    assert sorted(kept(file)) == sorted(fresh)


def test_a_second_outbox_on_the_same_file_is_refused_and_names_the_holder(
    opened: Make, file: Path
) -> None:
    first = opened()
    with pytest.raises(Held, match=r"is written by process \d+; stop it first"):
        opened()
    assert first.accept([sealed(1)]) == [Accepted(sealed(1).id, duplicate=False)]
    with pytest.raises(Held):
        opened()


def test_one_that_could_not_open_its_file_lets_the_next_one_in(
    opened: Make, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.mkdir(parents=True)
    with pytest.raises(Outage, match="cannot be opened"):
        opened()
    file.rmdir()
    assert opened().accept([sealed(1)]) == [Accepted(sealed(1).id, duplicate=False)]


def test_a_restart_keeps_what_was_accepted_and_who_it_is(file: Path) -> None:
    first = Outbox(file, passed=lambda source: 0, bounds=ROOM)
    first.accept([sealed(1), sealed(2)])
    first.close()
    second = Outbox(file, passed=lambda source: 0, bounds=ROOM)
    assert second.source_id == first.source_id
    assert second.accept([sealed(2)]) == [Accepted(sealed(2).id, duplicate=True)]
    second.accept([sealed(3)])
    rows = OutboxReader(file).rows(0, limit=9)
    assert [row.event for row in rows] == [sealed(1), sealed(2), sealed(3)]
    assert [row.number for row in rows] == [1, 2, 3]
    second.close()


def test_two_outboxes_are_two_sources(opened: Make, tmp_path: Path) -> None:
    one, other = opened(path=tmp_path / "one.db"), opened(path=tmp_path / "other.db")
    assert one.source_id != other.source_id


@pytest.mark.usefixtures("fast_pruning")
def test_what_waits_is_bounded_until_the_relay_has_carried_it_on(opened: Make, file: Path) -> None:
    passed = 0
    size = len(sealed(0).body)
    bounds = Bounds(waiting_bytes=10 * size, free_bytes=0)
    outbox = opened(passed=lambda source: passed, bounds=bounds)
    outbox.accept([sealed(number) for number in range(11)])
    with pytest.raises(OutboxFull, match="wait for the relay"):
        outbox.accept([sealed(11), sealed(0)])
    with pytest.raises(OutboxFull):
        outbox.check()
    assert outbox.accept([sealed(0)]) == [Accepted(sealed(0).id, duplicate=True)]
    with pytest.raises(Conflicting):
        outbox.accept([sealed(0, duration_ms=1)])
    assert len(kept(file)) == 11
    passed = 5
    outbox.accept([sealed(0)])
    assert outbox.accept([sealed(11)]) == [Accepted(sealed(11).id, duplicate=False)]
    outbox.check()


@pytest.mark.usefixtures("fast_pruning")
def test_what_the_relay_passed_long_ago_does_not_count_after_a_restart(file: Path) -> None:
    bounds = Bounds(waiting_bytes=10 * len(sealed(0).body), free_bytes=0)
    first = Outbox(file, passed=lambda source: 50, bounds=bounds)
    for number in range(50):
        first.accept([sealed(number)])
    first.close()
    second = Outbox(file, passed=lambda source: 50, bounds=bounds)
    assert second.accept([sealed(50)]) == [Accepted(sealed(50).id, duplicate=False)]
    second.close()


def test_the_reserve_grows_with_what_is_still_to_be_written(
    opened: Make, disk_space: SimpleNamespace
) -> None:
    size = len(sealed(0).body)
    outbox = opened(bounds=Bounds(waiting_bytes=1024 * MIB, free_bytes=MIB))
    disk_space.free = MIB + 2 * 10 * size + 100
    for number in range(10):
        outbox.accept([sealed(number)])
    disk_space.free -= 2 * size
    with pytest.raises(OutboxFull, match="The disk has"):
        outbox.check()


def test_where_nobody_can_tell_how_far_the_relay_is_the_last_answer_holds(
    opened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_room, "PRUNE_EVERY_S", 0.0)
    told: dict[str, int | None] = {"row": 0}
    bounds = Bounds(waiting_bytes=10 * len(sealed(0).body), free_bytes=0)
    outbox = opened(passed=lambda source: told["row"], bounds=bounds)
    for number in range(8):
        outbox.accept([sealed(number)])
        told["row"] = number + 1
    told["row"] = None
    for number in range(8, 17):
        assert outbox.accept([sealed(number)]) == [Accepted(sealed(number).id, duplicate=False)]


def test_a_low_disk_refuses_what_is_new_and_answers_the_rest(
    opened: Make, file: Path, disk_space: SimpleNamespace
) -> None:
    outbox = opened(bounds=Bounds(free_bytes=256 * MIB))
    outbox.accept([sealed(1)])
    disk_space.free = 256 * MIB - 1
    with pytest.raises(OutboxFull, match="The disk has 255 MiB left"):
        outbox.accept([sealed(2)])
    with pytest.raises(OutboxFull, match="The disk has 255 MiB left"):
        outbox.check()
    assert outbox.accept([sealed(1)]) == [Accepted(sealed(1).id, duplicate=True)]
    assert kept(file) == [sealed(1).id]
    disk_space.free = 257 * MIB
    outbox.check()
    assert outbox.accept([sealed(2)]) == [Accepted(sealed(2).id, duplicate=False)]


def test_a_full_disk_is_an_outage_for_those_who_waited_and_nothing_else(
    opened: Make, tmp_path: Path
) -> None:
    disk = Disk(1)
    disk.start(tmp_path / "small")
    outbox = opened(vfs=disk.name, path=disk.folder / "outbox.db")
    outbox.accept([sealed(1)])
    disk.full = True
    with pytest.raises(Outage, match="Is the disk full"):
        outbox.accept([sealed(2)])
    with pytest.raises(Outage):
        outbox.accept([sealed(1), sealed(3)])
    disk.full = False
    source = OutboxReader(disk.folder / "outbox.db", vfs=disk.name)
    assert [event_id for _, event_id in source.ids()] == [sealed(1).id]
    assert outbox.accept([sealed(1), sealed(2)]) == [
        Accepted(sealed(1).id, duplicate=True),
        Accepted(sealed(2).id, duplicate=False),
    ]


class Clock:
    """The time of day, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_790_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.usefixtures("fast_pruning")
def test_after_seven_days_only_what_the_relay_passed_is_forgotten(
    opened: Make, file: Path, clock: Clock
) -> None:
    passed = 0
    outbox = opened(passed=lambda source: passed)
    outbox.accept([sealed(number) for number in range(1, 7)])  # rows 1 to 6
    clock.now_s += 3 * DAY_S
    outbox.accept([sealed(7), sealed(8)])
    passed = 8
    clock.now_s += 4 * DAY_S - 1
    outbox.accept([sealed(8)])
    assert len(kept(file)) == 8
    passed = 4
    clock.now_s += 2
    outbox.accept([sealed(8)])
    assert kept(file) == [sealed(number).id for number in range(4, 9)]
    assert outbox.accept([sealed(4)]) == [Accepted(sealed(4).id, duplicate=True)]
    passed = 8
    outbox.accept([sealed(8)])
    assert kept(file) == [sealed(7).id, sealed(8).id]


@pytest.mark.usefixtures("fast_pruning")
def test_the_row_of_the_bookmark_is_kept_however_old(
    opened: Make, file: Path, clock: Clock
) -> None:
    passed = 0
    outbox = opened(passed=lambda source: passed)
    outbox.accept([sealed(1), sealed(2)])
    passed, clock.now_s = 2, clock.now_s + 400 * DAY_S
    outbox.accept([sealed(2)])
    assert OutboxReader(file).event_id_at(2) == sealed(2).id
    assert kept(file) == [sealed(2).id]


@pytest.mark.usefixtures("fast_pruning")
def test_a_number_of_a_forgotten_row_is_never_given_again(
    opened: Make, file: Path, clock: Clock
) -> None:
    outbox = opened(passed=lambda source: 3)
    outbox.accept([sealed(1), sealed(2), sealed(3)])
    clock.now_s += 8 * DAY_S
    outbox.accept([sealed(3)])
    outbox.accept([sealed(1, duration_ms=5)])
    assert [row.number for row in OutboxReader(file).rows(0, limit=9)] == [3, 4]


@pytest.mark.usefixtures("fast_pruning")
def test_on_a_low_disk_payloads_that_the_relay_passed_go_first(
    opened: Make, file: Path, disk_space: SimpleNamespace
) -> None:
    outbox = opened(passed=lambda source: 2, bounds=Bounds(free_bytes=256 * MIB))
    outbox.accept([sealed(1), sealed(2), sealed(3)])
    disk_space.free = 512 * MIB - 1
    outbox.accept([sealed(4)])
    source = OutboxReader(file)
    assert [row.event for row in source.rows(0, limit=9)] == [sealed(3), sealed(4)]
    assert len(kept(file)) == 4
    assert outbox.accept([sealed(1)]) == [Accepted(sealed(1).id, duplicate=True)]
    with pytest.raises(Conflicting):
        outbox.accept([sealed(1, duration_ms=1)])
    remembered = source.remembered(sealed(1).id)
    assert remembered is not None
    assert (remembered.row, remembered.body) == (1, None)


@pytest.mark.usefixtures("fast_pruning")
def test_with_room_on_the_disk_payloads_stay(
    opened: Make, file: Path, disk_space: SimpleNamespace
) -> None:
    outbox = opened(passed=lambda source: 2, bounds=Bounds(free_bytes=256 * MIB))
    outbox.accept([sealed(1), sealed(2)])
    disk_space.free = 512 * MIB
    outbox.accept([sealed(3)])
    assert len(OutboxReader(file).rows(0, limit=9)) == 3


@pytest.mark.usefixtures("fast_pruning")
@pytest.mark.parametrize(
    "trouble", [Outage("no log yet"), apsw.SQLError("no such table"), RuntimeError("odd")]
)
def test_whatever_hinders_pruning_accepting_goes_on(
    opened: Make, file: Path, trouble: Exception
) -> None:
    def passed(source: str) -> int:
        raise trouble

    outbox = opened(passed=passed)
    for number in range(3):
        assert outbox.accept([sealed(number)]) == [Accepted(sealed(number).id, duplicate=False)]
    assert len(kept(file)) == 3


@pytest.mark.usefixtures("fast_pruning")
def test_what_was_forgotten_does_not_wait_even_when_nobody_knows_how_far_the_relay_is(
    opened: Make, file: Path, clock: Clock
) -> None:
    passed = 50
    bounds = Bounds(waiting_bytes=10 * len(sealed(0).body), free_bytes=0)
    outbox = opened(passed=lambda source: passed, bounds=bounds)
    for number in range(50):
        outbox.accept([sealed(number)])
    clock.now_s += 8 * DAY_S
    outbox.accept([sealed(49)])
    assert kept(file) == [sealed(49).id]
    passed = 0  # the log is not there: whatever the outbox still has may wait for it
    for number in range(50, 58):
        assert outbox.accept([sealed(number)]) == [Accepted(sealed(number).id, duplicate=False)]


def test_what_is_unknown_is_not_remembered(outbox: Outbox, file: Path) -> None:
    assert OutboxReader(file).remembered(sealed(1).id) is None


def test_a_reader_waits_for_the_file_and_for_its_tables(file: Path) -> None:
    with pytest.raises(Outage):
        OutboxReader(file)
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(Outage):
        OutboxReader(file)
