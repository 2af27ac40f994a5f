"""Processes of one consumer that empty its queue, and what they took together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.envelope import Sealed
from events.errors import Outage
from events.process import PARENT
from tests.acceptance.platform import ROOT, until
from tests.bench.figures import Void
from tests.bench.real.cost import Cost, Meter
from tests.bench.real.installation import CONSUMER, Installation
from tests.bench.real.queues import Queues
from tests.bench.real.working import Report

WARM = 500
_WITHIN_S = 300.0
_END_WITHIN_S = 20.0


class Emptied(NamedTuple):
    """What it cost to empty a queue, and how many events the sweep had before the queue."""

    cost: Cost
    healed: int

    def __str__(self) -> str:
        return f"{self.cost}" + (f"; {self.healed:,} by the sweep" if self.healed else "")


class WorkerProcess:
    """One worker; it begins when it is told to."""

    def __init__(
        self, installation: Installation, number: int, start: Path, profiles: Path | None = None
    ) -> None:
        self._report = installation.folder / f"report-{start.name}-{number}.json"
        self._journal = installation.folder / f"worker-{number}.txt"
        asked = [CONSUMER, self._report, start, *([profiles] if profiles else [])]
        with self._journal.open("ab") as journal:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.real.working", *map(str, asked)],
                cwd=ROOT,
                env={**os.environ, **installation.settings, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )

    def report(self) -> Report | None:
        """Return what it has written last; raises Void where it has ended."""
        if self._process.poll() is not None:
            said = self._journal.read_text()[-2000:]
            raise Void(f"A worker ended with {self._process.returncode}: {said}")
        if not self._report.exists():
            return None
        return msgspec.json.decode(self._report.read_bytes(), type=Report)

    def end(self) -> None:
        """End it as its supervisor does; raises Void where it does not end cleanly."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise Void(f"A worker ended with {self._process.returncode}, as it was asked to end.")


@contextmanager
def _working(
    installation: Installation, count: int, *, phase: str, profiles: Path | None = None
) -> Iterator[list[WorkerProcess]]:
    """Workers that have begun, all at once."""
    start = installation.folder / phase
    with ExitStack() as ends:
        workers = [WorkerProcess(installation, one, start, profiles) for one in range(count)]
        for worker in workers:
            ends.callback(worker.end)
        until(lambda: all(one.report() for one in workers), what="the workers could begin")
        start.touch()
        yield workers


def emptied(
    installation: Installation,
    events: Sequence[Sealed],
    *,
    workers: int = 1,
    profiles: Path | None = None,
) -> Emptied:
    """Fill the queue, have it emptied, and check that each event was applied once.

    A worker was there before: one that is new takes all that there is from the log.
    """
    Queues(installation.broker_url, CONSUMER)
    installation.accept(events[:WARM])
    installation.carry()
    with _working(installation, 1, phase="before") as before:
        until(
            lambda: _has_looked(installation) and _acked(before) >= WARM,
            what="the worker is no newcomer any more, and the queue is empty",
        )
    installation.accept(events[WARM:])
    installation.carry()
    left = len(events) - WARM
    with _working(installation, workers, phase="measured", profiles=profiles) as processes:
        meter = Meter()
        until(lambda: _acked(processes) >= left, what="the queue is empty", within_s=_WITHIN_S)
        reports = [report for one in processes if (report := one.report()) and report.acked]
        cost = _cost(meter, left, reports)
    return Emptied(cost, installation.check_applied())


def _has_looked(installation: Installation) -> bool:
    try:
        store = installation.store()
        live = store.live()
    except Outage:
        return False
    return live is not None and bool(store.watermarks(live.number))


def _acked(workers: Sequence[WorkerProcess]) -> int:
    reports = [worker.report() for worker in workers]
    return sum(report.acked for report in reports if report)


def _cost(meter: Meter, count: int, reports: Sequence[Report]) -> Cost:
    clock_s = max(one.ended_at for one in reports) - min(one.began_at for one in reports)
    return meter.read(count, clock_s=clock_s, own_s=sum(one.cpu_s for one in reports))
