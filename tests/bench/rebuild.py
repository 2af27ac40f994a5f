"""Rebuilding calories in its worker's own process, as `paceline rebuild` has it done.

Against a bare loop over the same bytes, and the memory and time of a long log against a short one.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import apsw
import psutil

from consumers.calories import Calories
from consumers.runtime.control import Request, RequestState
from consumers.runtime.control.sqlite import SqliteControl
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.envelope import from_bytes
from events.errors import Outage
from events.log.sqlite import SqliteEventLog
from tests.acceptance.platform import Platform, until
from tests.bench.figures import Figure, Say, Void
from tests.bench.fold import A_COMMIT
from tests.bench.folding import Took, append, timed
from tests.bench.history import history
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_LEAST, AT_MOST = 0.4, 1.15
_AT_ONCE, _WITHIN_S, _LOOK_S = 1_000, 600.0, 0.005
Documents = dict[str, dict[str, Any]]


class Rebuilt(NamedTuple):
    """What one rebuild took, of how many events, and the most memory its process ever had."""

    events: int
    took: Took
    peak_mib: float

    def each_us(self, seconds: float) -> float:
        """Microseconds for each event."""
        return seconds / self.events * 1e6

    def __str__(self) -> str:
        clock_us, cpu_us = map(self.each_us, self.took)
        return (
            f"{self.events:,} events, {1e6 / clock_us:,.0f}/s; {clock_us:.1f} µs each, "
            f"{cpu_us:.1f} of the core's; {self.peak_mib:.0f} MiB"
        )


class Installation:
    """A log with a history, and the state that a worker of calories made of it."""

    def __init__(self, folder: Path, events: int) -> None:
        self._platform = Platform(folder, parent_pid=os.getpid())
        self._folder, self._events = folder, events
        with closing(SqliteEventLog(folder / "log.db")) as log:
            past = history(seed=1)
            for _ in range(0, events, _AT_ONCE):
                append(log, list(islice(past, _AT_ONCE)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._platform.close()

    def begin(self) -> None:
        """Let a worker arrive; it ends then, because its successor is to run like all others."""
        self._platform.launch("consume", "calories")
        until(self._has_all, what="all is folded", within_s=_WITHIN_S)
        self._platform.stop()

    def _has_all(self) -> bool:
        if self._platform.supervisor.poll() == 0:
            self._platform.launch("consume", "calories")
        self._check_alive()
        return self._applied() == self._events

    def _check_alive(self) -> None:
        code = self._platform.supervisor.poll()
        if code is not None:
            raise Void(f"The worker ended with {code}: {self._platform.journal()[-2000:]}")

    def _store(self) -> SqliteStoreReader:
        return SqliteStoreReader.open(self._folder / "consumers" / "calories.db")

    def _applied(self) -> int:
        try:
            with closing(self._store()) as store:
                live = store.live()
        except Outage:
            return 0
        return live.applied if live else 0

    def rebuild(self) -> Rebuilt:
        """Have it rebuilt by a worker that is new, and idle until then."""
        self._platform.launch("consume", "calories")
        until(self._runs, what="the worker runs")
        worker = psutil.Process(self._platform.supervisor.pid)
        with closing(SqliteControl(self._folder / "control.db")) as control:
            asked = control.ask("calories", "rebuild", {})
            self._until(control, asked, RequestState.RUNNING)
            before_s = _cpu_s(worker)
            clock_s = timed(lambda: self._until(control, asked, RequestState.DONE)).clock_s
        took = Took(clock_s, _cpu_s(worker) - before_s)
        found = Rebuilt(self._events, took, _peak_mib(worker.pid))
        self._platform.stop()
        if self._applied() != self._events:
            raise Void(f"{self._applied()} of {self._events} events were applied.")
        return found

    def _runs(self) -> bool:
        self._check_alive()
        with closing(self._store()) as store:
            return store.running()

    def _until(self, control: SqliteControl, asked: Request, state: RequestState) -> None:
        """Return when it is in this state, or has ended; that must have been well."""

        def is_there() -> bool:
            self._check_alive()
            now = control.get(asked.id)
            if now.ended and now.state is not RequestState.DONE:
                raise Void(f"The rebuild is {now.state}: {now.answer}")
            return now.ended or now.state is state

        until(is_there, what=f"the rebuild is {state}", within_s=_WITHIN_S, every_s=_LOOK_S)

    def documents(self) -> Documents:
        """Return what is live."""
        with closing(self._store()) as store:
            live = store.live()
            return dict(store.documents(live.number).range("", "\U0010ffff")) if live else {}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Rebuild and loop in turn; then rebuild a long log and a short one in turn."""
    try:
        return [*_against_loop(scale, say), *_many_against_few(scale, say)]
    except AssertionError as error:
        raise Void(f"It did not come as far as to be measured: {error}") from error


def _against_loop(scale: Scale, say: Say) -> list[Figure]:
    count, documents = scale.rebuilt_events, Documents()
    rebuilt, looped = [], []
    bodies = [event.body for event in islice(history(seed=1), count)]
    with temporary_folder() as folder, Installation(folder / "calories", count) as installation:
        installation.begin()
        for number in range(scale.pairs):
            rebuilt.append(installation.rebuild())
            documents = {}
            looped.append(_loop(folder / f"inbox-{number}.db", bodies, documents))
            say(f"rebuild: {rebuilt[-1]}; bare loop {count / looped[-1].clock_s:,.0f}/s")
        if installation.documents() != documents:
            raise Void("The rebuilt documents are not those of the bare loop.")

    def figure(what: str, of: Callable[[Took], float], at_least: float | None = None) -> Figure:
        return Figure(
            part="rebuild",
            what=what,
            unit="events/s",
            values=[count / of(one.took) for one in rebuilt],
            against="bare loop",
            bare=[count / of(one) for one in looped],
            at_least=at_least,
        )

    return [
        figure("calories is rebuilt", lambda took: took.clock_s, AT_LEAST),
        figure("the same, by the core's time", lambda took: took.cpu_s),
    ]


def _loop(path: Path, bodies: Sequence[bytes], documents: Documents) -> Took:
    """Decode, fold into what is in memory, insert the id into a synced file."""
    with closing(apsw.Connection(str(path))) as db:
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute("PRAGMA synchronous=FULL").fetchall()
        db.execute("CREATE TABLE inbox (id TEXT PRIMARY KEY)")
        took = timed(lambda: _decode_fold_insert(db, bodies, documents))
        kept = db.execute("SELECT count(*) FROM inbox").get
    if kept != len(bodies):
        raise Void(f"The bare loop kept {kept} of {len(bodies)} ids.")
    return took


def _decode_fold_insert(db: apsw.Connection, bodies: Sequence[bytes], documents: Documents) -> None:
    calories = Calories()
    for first in range(0, len(bodies), A_COMMIT):
        events = [from_bytes(body) for body in bodies[first : first + A_COMMIT]]
        db.execute("BEGIN IMMEDIATE")
        for event in events:
            keys = calories.keys(event)
            calories.fold(event, {key: documents.setdefault(key, {}) for key in keys})
        db.executemany("INSERT INTO inbox VALUES (?)", [(event.id,) for event in events])
        db.execute("COMMIT")


def _many_against_few(scale: Scale, say: Say) -> list[Figure]:
    many, few = list[Rebuilt](), list[Rebuilt]()
    with (
        temporary_folder() as folder,
        Installation(folder / "few", scale.rebuilt_few) as small,
        Installation(folder / "many", scale.rebuilt_many) as large,
    ):
        small.begin()
        large.begin()
        for _ in range((scale.pairs + 1) // 2):
            for installation, found in ((small, few), (large, many)):
                found.append(installation.rebuild())
                say(f"rebuild: {found[-1]}")

    def figure(
        what: str, unit: str, of: Callable[[Rebuilt], float], at_most: float | None = None
    ) -> Figure:
        return Figure(
            part="rebuild",
            what=what,
            unit=unit,
            values=[of(one) for one in many],
            against=f"at {scale.rebuilt_few:,}",
            bare=[of(one) for one in few],
            at_most=at_most,
        )

    at = f"at {scale.rebuilt_many:,}"
    return [
        figure(f"the worker's peak memory, {at}", "MiB", lambda one: one.peak_mib, AT_MOST),
        figure(
            f"it rebuilds, {at}", "µs/event", lambda one: one.each_us(one.took.clock_s), AT_MOST
        ),
        figure("the same, of the core's time", "µs/event", lambda one: one.each_us(one.took.cpu_s)),
    ]
