"""The power goes at 200 random moments: what was accepted is there, and counts exactly once."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from threading import Thread
from typing import Any

import apsw
import pytest

from consumers.runtime.fates import State
from consumers.runtime.guard import Guard
from consumers.runtime.store.sqlite import SqliteStore
from consumers.runtime.sweep import Sweep
from consumers.runtime.worker import Limits, Worker
from events import sqlite
from events.bus.embedded import EmbeddedPublisher
from events.envelope import Event, Sealed, seal
from events.errors import Outage
from events.log import Selection
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader
from events.patience import Patience
from events.relay import Relay
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds
from tests.contract.power_cut import Disk
from tests.factories import workout

MACHINES = 20
CUTS = 10  # of each machine, in the middle of something; and as many while nothing happens
LATEST = 200  # writes and syncs before a cut
ENOUGH = Bounds(free_bytes=0)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ALL = 1_000_000


class Totals:
    """Counts the workouts of each user and adds up their time."""

    name = "totals"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event: Event) -> list[str]:
        return [event.user_id]

    def fold(self, event: Event, documents: dict[str, dict[str, Any]]) -> None:
        for document in documents.values():
            document["workouts"] = document.get("workouts", 0) + 1
            document["ms"] = document.get("ms", 0) + event.data.duration_ms


class Unguarded(Guard):
    """The fold is ours: no deadline needs to be watched."""

    def __init__(self) -> None:
        pass

    def deadline(self, seconds: float) -> Any:
        return nullcontext()


class Machine:
    """Outbox, relay, log and one consumer's worker on one disk, and the people who post to it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.disk, self.random, self._folder = Disk(seed), Random(seed), folder
        self.boots = 0
        self.posted: dict[str, tuple[str, int]] = {}
        self.accepted: set[str] = set()
        self.unanswered: list[Sealed] = []
        self.surprises: list[Exception] = []

    def run(self, what: Callable[[], None], *, cut_at: int | None = None) -> None:
        """Start on what has survived, and do this; then, if not before, the power goes."""
        self.boots += 1
        self.disk.start(self._folder / str(self.boots), cut_at=cut_at)
        with ExitStack() as open_files:
            try:
                self._open(open_files)
                what()
            except (Outage, apsw.IOError, apsw.CantOpenError):
                if not self.disk.off:
                    raise
            finally:
                self.disk.cut()

    def file(self, name: str) -> Path:
        return self.disk.folder / f"{name}.db"

    def _open(self, open_files: ExitStack) -> None:
        vfs, log_file = self.disk.name, self.file("log")
        self.outbox = Outbox(self.file("outbox"), passed=lambda source: 0, bounds=ENOUGH, vfs=vfs)
        open_files.callback(self.outbox.close)
        self.source = OutboxReader(self.file("outbox"), vfs=vfs)
        self.log = SqliteEventLog(log_file, vfs=vfs)
        publisher, patience = EmbeddedPublisher(), Patience()
        self.relay = Relay([self.source], self.log, publisher, self.log, patience=patience)
        self.store = SqliteStore(self.file("store"), vfs=vfs)
        consumer = Totals()
        self.generation = self.store.live() or self.store.begin(
            version=1, code="", bindings=consumer.bindings, indexes={}
        )
        number = self.generation.number
        worker = Worker(consumer, self.store, number, guard=Unguarded(), limits=Limits())
        reader = SqliteLogReader.open(log_file, vfs=vfs)
        self.sweep = Sweep(reader, self.store, worker, self.generation, size=7)

    def new_workouts(self, count: int) -> Iterator[Sealed]:
        for _ in range(count):
            user, duration_ms = self.random.choice(("ada", "bob")), self.random.randrange(1, 10**6)
            fact = workout(workout_id=f"w{len(self.posted)}", user_id=user, duration_ms=duration_ms)
            event = seal(fact, accepted_at=NOON)
            self.posted[event.id] = (user, duration_ms)
            yield event

    def work(self) -> None:
        """Until the power goes: people post, and the relay and the worker carry on meanwhile."""
        while not self.disk.off:
            self._work_a_while()

    def _work_a_while(self) -> None:
        waiting: SimpleQueue[list[Sealed]] = SimpleQueue()
        events = [*self.unanswered, *self.new_workouts(12)]
        while events:
            size = self.random.choice((1, 1, 1, 4))
            waiting.put(events[:size])
            events = events[size:]
        self.unanswered = []
        people = [Thread(target=self._post, args=(waiting,)) for _ in range(3)]
        for person in people:
            person.start()
        try:
            while any(person.is_alive() for person in people) or self.random.random() < 0.8:
                self.random.choice((self.relay.step, self.sweep.step, self._checkpoint))()
        finally:
            self._join(people, waiting)

    def _join(self, people: Sequence[Thread], waiting: "SimpleQueue[list[Sealed]]") -> None:
        for person in people:
            person.join()
        with suppress(Empty):
            while True:
                self.unanswered += waiting.get_nowait()

    def _post(self, waiting: "SimpleQueue[list[Sealed]]") -> None:
        with suppress(Empty):
            while True:
                events = waiting.get_nowait()
                try:
                    answers = self.outbox.accept(events)
                except Exception as error:  # noqa: BLE001 - looked at by whoever started the thread
                    self.unanswered += events
                    if not (self.disk.off and isinstance(error, Outage)):
                        self.surprises.append(error)
                    return
                known = {answer.event_id for answer in answers if answer.duplicate}
                if not self.accepted.intersection(event.id for event in events) <= known:
                    self.surprises.append(AssertionError("an accepted workout was forgotten"))
                self.accepted.update(answer.event_id for answer in answers)

    def _checkpoint(self) -> None:
        # What the writer does by itself only after thousands of pages; a reader may do it too.
        name = self.random.choice(("outbox", "log", "store"))
        connection = apsw.Connection(str(self.file(name)), vfs=self.disk.name)
        with suppress(apsw.BusyError):
            connection.wal_checkpoint()

    def carry_on(self) -> None:
        """Relay and fold until nothing is left."""
        while self.relay.step():
            pass
        while self.sweep.step():
            pass

    def kept(self) -> set[str]:
        """The events that are in the outbox or in the log."""
        rows = self.log.scan(Selection(), limit=ALL)
        return {event_id for _, event_id in self.source.ids()} | {row.event_id for row in rows}


@pytest.fixture(autouse=True)
def _no_real_folder_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    # It is the one sync that does not go through the disk of these tests, and the slowest.
    monkeypatch.setattr(sqlite, "_sync_folder", lambda folder: None)


@pytest.mark.parametrize("seed", range(MACHINES))
def test_what_was_accepted_survives_ten_power_cuts_and_counts_once(
    seed: int, tmp_path: Path
) -> None:
    machine = Machine(seed, tmp_path)
    for _ in range(CUTS):
        cut_at = machine.random.randrange(1, LATEST)
        machine.run(machine.work, cut_at=cut_at)
        assert machine.disk.operations == cut_at
        assert not machine.surprises
        machine.run(lambda: _check(machine))
    assert machine.accepted


def _check(machine: Machine) -> None:
    kept = machine.kept()
    assert machine.accepted <= kept
    machine.carry_on()
    logged = [row.event_id for row in machine.log.scan(Selection(), limit=ALL)]
    assert sorted(logged) == sorted(kept)
    assert _documents(machine) == _expected(machine, logged)
    counts = machine.store.counts(machine.generation.number)
    assert counts[State.APPLIED] == len(logged)


def _documents(machine: Machine) -> dict[str, Any]:
    return dict(machine.store.documents(machine.generation.number).range("", "~"))


def _expected(machine: Machine, logged: Sequence[str]) -> dict[str, Any]:
    workouts: Counter[str] = Counter()
    ms: Counter[str] = Counter()
    for event_id in logged:
        user, duration_ms = machine.posted[event_id]
        workouts[user] += 1
        ms[user] += duration_ms
    return {user: {"workouts": workouts[user], "ms": ms[user]} for user in workouts}


@pytest.mark.parametrize("pragma", ["synchronous=OFF", "synchronous=NORMAL"])
def test_without_a_sync_at_each_commit_accepted_workouts_are_lost(
    pragma: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(path: Path, **options: Any) -> apsw.Connection:
        connection = sqlite.connect(path, **options)
        connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    monkeypatch.setattr("producer.outbox.connect", connect)
    monkeypatch.setattr("events.log.sqlite.connect", connect)
    monkeypatch.setattr("consumers.runtime.store.sqlite.connect", connect)
    lost: set[str] = set()
    for seed in range(MACHINES):
        (tmp_path / str(seed)).mkdir()
        machine = Machine(seed, tmp_path / str(seed))
        machine.run(machine.work, cut_at=machine.random.randrange(1, LATEST))
        lost |= machine.accepted
        with suppress(apsw.Error):  # a file that cannot be read any more has kept nothing
            machine.run(lambda: lost.difference_update(machine.kept()))  # noqa: B023
    assert lost
