"""`paceline consume` with its subscription watched, for its times.

`python -m tests.bench.real.working CONSUMER REPORT START [PROFILES]`: it makes the file REPORT when
it could begin, begins when there is a file START, and writes its times when its queue is empty.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import msgspec

import cli
from consumers.runtime.parts import Subscribe
from consumers.runtime.ways import subscribe
from events.bus import Batch, Subscription
from events.journal import keep_journal
from events.log import LogReader, Watermarks
from events.process import die_with_supervisor
from events.settings import Settings, read_settings
from tests.bench.real.profiling import profiled

_LOOK_S = 0.002


@dataclass(slots=True)
class Report:
    """Times of one worker by the clock of all processes: since it began, until its last ack."""

    acked: int = 0
    began_at: float = 0.0
    ended_at: float = 0.0
    cpu_s: float = 0.0

    def write(self, path: Path) -> None:
        """Put it in place whole."""
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(asdict(self)))
        new.replace(path)


class Watched:
    """A subscription that is asked what it brought; it does what it did."""

    def __init__(self, subscription: Subscription, path: Path) -> None:
        self._subscription, self._path = subscription, path
        self._report, self._written = Report(began_at=time.monotonic()), 0
        self._cpu_s = time.process_time()

    @property
    def problem(self) -> str | None:
        """Why it brings nothing."""
        return self._subscription.problem

    @problem.setter
    def problem(self, problem: str | None) -> None:
        self._subscription.problem = problem

    def batches(self) -> Iterator[Batch]:
        """Yield batches, and write the report at an empty one."""
        for batch in self._subscription.batches():
            if not batch.deliveries and self._report.acked > self._written:
                self._written = self._report.acked
                self._report.write(self._path)
            yield batch

    def ack(self, batch: Batch) -> None:
        """Ack, and note when."""
        self._subscription.ack(batch)
        self._report.acked += len(batch.deliveries)
        self._report.ended_at = time.monotonic()
        self._report.cpu_s = time.process_time() - self._cpu_s

    def close(self) -> None:
        """Let it go."""
        self._subscription.close()


def main(consumer: str, report: str, start: str, profiles: str | None = None) -> None:
    """Be a worker until stopped."""
    die_with_supervisor()
    keep_journal(consumer)

    def watched(settings: Settings, name: str, log: LogReader, *, batch: int) -> Subscribe:
        inner = subscribe(settings, name, log, batch=batch)

        def begin(bindings: tuple[str, ...], at: Watermarks, suspects: int) -> Subscription:
            _wait_for(Path(start), Path(report))
            return Watched(inner(bindings, at, suspects), Path(report))

        return begin

    with (
        patch("consumers.runtime.assembling.subscribe", watched),
        profiled(Path(profiles) if profiles else None),
    ):
        cli.run_consumer(read_settings(), consumer)


def _wait_for(start: Path, report: Path) -> None:
    Report().write(report)
    while not start.exists():
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
