"""One consumer with a real log, store and control file, driven in the tests' own process."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from consumers.runtime.control import Control
from consumers.runtime.control.sqlite import SqliteControl
from consumers.runtime.fates import Fate, Ladder, State
from consumers.runtime.guard import Guard
from consumers.runtime.parts import Parts
from consumers.runtime.registry import Loaded
from consumers.runtime.runner import Runner
from consumers.runtime.store import Generation
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from consumers.runtime.worker import Limits, Worker
from events.bus import Delivery
from events.bus.embedded import EmbeddedSubscription
from events.envelope import Event, seal
from events.log import LogReader, Position, Selection, Watermarks
from events.log.sqlite import SqliteEventLog
from events.patience import Patience
from events.workouts import WorkoutCompleted
from tests.factories import workout
from tests.integration.doubles import StillGuard, TouchyStore, UntilPatience

ACCEPTED_AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
USERS = ("ada", "bob", "cyd")
Misdeed = Callable[[Event, dict[str, Any]], object]
T = TypeVar("T")


class Tally:
    """Counts workouts and their time per user; then `misdeed` does its worst."""

    name = "tally"
    bindings: tuple[str, ...] = ("workout.completed.#",)

    def __init__(self, misdeed: Misdeed | None = None, *, version: int = 1) -> None:
        self.misdeed, self.version = misdeed, version
        self.folded: list[str] = []

    def keys(self, event: Event) -> list[str]:
        return [event.user_id]

    def fold(self, event: Event, documents: dict[str, Any]) -> None:
        self.folded.append(event.data.workout_id)
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1
            document["ms"] = document.get("ms", 0) + event.data.duration_ms
        if self.misdeed is not None:
            self.misdeed(event, documents)


def facts(count: int, *, first: int = 0) -> list[WorkoutCompleted]:
    """Workouts w-0, w-1, … of three users in turn, each of its own length."""
    return [
        workout(workout_id=f"w-{n}", user_id=USERS[n % len(USERS)], duration_ms=60_000 + n)
        for n in range(first, first + count)
    ]


def tallied(workouts: Sequence[WorkoutCompleted]) -> dict[str, dict[str, int]]:
    """What Tally's documents must be, computed from the facts alone."""
    count = Counter(fact.user_id for fact in workouts)
    ms: Counter[str] = Counter()
    for fact in workouts:
        ms[fact.user_id] += fact.duration_ms
    return {user: {"count": count[user], "ms": ms[user]} for user in count}


def without(workouts: Sequence[WorkoutCompleted], *bad: str) -> list[WorkoutCompleted]:
    """All but those with these ids."""
    return [fact for fact in workouts if fact.workout_id not in bad]


def until(condition: Callable[[], T], *, what: str, within_s: float = 30.0) -> T:
    """Return the first true value of a condition; fails, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}; at last: {value!r}")
        time.sleep(0.01)
    return value


def append(log: SqliteEventLog, workouts: Sequence[WorkoutCompleted]) -> list[Position]:
    """Bring workouts into a log, as the relay does; return their positions."""
    sealed = [seal(fact, accepted_at=ACCEPTED_AT) for fact in workouts]
    return [one.position for one in log.append(sealed, source="door")]


def documents(store: SqliteStoreReader, generation: Generation | None = None) -> dict[str, Any]:
    """All documents of a generation, by default the live one."""
    into = generation or store.live()
    return dict(store.documents(into.number).range("", "\U0010ffff")) if into else {}


def fates(store: SqliteStoreReader, log: LogReader) -> dict[str, Fate]:
    """The fate of every logged event that has one in the live generation, by workout id."""
    live = store.live()
    rows = log.scan(Selection(), limit=1_000_000)
    found = store.fates(live.number, [row.position for row in rows]) if live else {}
    return {
        json.loads(row.body)["data"]["workout_id"]: found[row.position]
        for row in rows
        if row.position in found
    }


class World:
    """One consumer and its files; its code, its ladder and its store can be replaced."""

    def __init__(
        self, folder: Path, consumer: Any, *, batch: int = 500, vfs: str | None = None
    ) -> None:
        self.folder, self.consumer, self.batch = folder, consumer, batch
        self.log = SqliteEventLog(folder / "log.db", vfs=vfs)
        self.store = TouchyStore(folder / "consumers" / "tally.db", vfs=vfs)
        self.ladder = Ladder((0.0, 0.0))
        self.guard: Guard = StillGuard()
        self.limits = Limits()

    @cached_property
    def control(self) -> Control:
        """What is asked of the consumer."""
        return SqliteControl(self.folder / "control.db")

    def post(self, workouts: Sequence[WorkoutCompleted]) -> list[Position]:
        """Bring workouts into the log; return their positions."""
        return append(self.log, workouts)

    def deliveries(self, *, redelivered: bool = False) -> list[Delivery]:
        """All that the log has, as a queue would bring it."""
        rows = self.log.scan(Selection(), limit=1_000_000)
        return [Delivery(row.position, row.routing_key, row.body, redelivered) for row in rows]

    def loaded(self) -> Loaded:
        """The consumer as the registry gives it; its version stands for its source."""
        return Loaded(
            name=self.consumer.name,
            consumer=self.consumer,
            version=self.consumer.version,
            code=f"source of version {self.consumer.version}",
            bindings=tuple(self.consumer.bindings),
            indexes=getattr(self.consumer, "indexes", {}),
            reads={},
        )

    def fresh(self) -> None:
        """Let readers see an empty generation."""
        before, loaded = self.store.live(), self.loaded()
        made = self.store.begin(
            version=loaded.version, code=loaded.code, bindings=loaded.bindings, indexes={}
        )
        if before:
            self.store.swap(made.number, expected=before.number)

    def worker(self, generation: Generation | None = None) -> Worker:
        """A worker, by default of the live generation, which is begun where there is none."""
        if self.store.live() is None:
            self.fresh()
        into, limits = generation or self.live, replace(self.limits, ladder=self.ladder)
        return Worker(self.consumer, self.store, into.number, guard=self.guard, limits=limits)

    def subscribe(
        self, bindings: tuple[str, ...], start: Watermarks, suspects: int
    ) -> EmbeddedSubscription:
        """A cursor over the log."""
        return EmbeddedSubscription(
            self.log, bindings, start=start, size=self.batch, suspects=suspects
        )

    def parts(self, patience: Patience) -> Parts:
        """What the composition root puts together."""
        return Parts(
            loaded=self.loaded(),
            store=self.store,
            log=self.log,
            control=self.control,
            subscribe=self.subscribe,
            guard=self.guard,
            limits=replace(self.limits, ladder=self.ladder),
            batch=self.batch,
            patience=patience,
        )

    def runner(self, patience: Patience) -> Runner:
        """A runner of a process of its own."""
        self.store.as_in_a_new_process()
        return Runner(self.parts(patience))

    def run(self, condition: Callable[[], object] = lambda: True) -> None:
        """Run until there is nothing to do and the condition holds; then end cleanly."""
        self.runner(UntilPatience(condition)).run()

    @property
    def live(self) -> Generation:
        """The generation that readers see."""
        live = self.store.live()
        assert live is not None
        return live

    def documents(self, generation: Generation | None = None) -> dict[str, Any]:
        """All documents of a generation, by default the live one."""
        return documents(self.store, generation)

    def fates(self) -> dict[str, Fate]:
        """The fate of every event that has one, by workout id."""
        return fates(self.store, self.log)

    def counts(self) -> dict[State, int]:
        """How many events have which fate."""
        return {state: n for state, n in self.store.counts(self.live.number).items() if n}

    def close(self) -> None:
        """Let every file go."""
        self.log.close()
        self.store.close()
