"""What a measurement costs: seconds by the clock, and of the cores, of whom."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import psutil

from tests.bench.figures import Figure

_BROKER, _DATABASE = "beam.smp", "mongod"


class Cost(NamedTuple):
    """Seconds for some events: by the clock, and of the cores: ours, the broker's, MongoDB's.

    Where others want the cores too, the cores' seconds tell more than the clock's; and where the
    cores are the limit, they are what decides.
    """

    events: int
    clock_s: float
    own_s: float
    broker_s: float
    database_s: float

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.clock_s

    @property
    def per_core_s(self) -> float:
        """Events for each second that all processes together were on a core."""
        return self.events / (self.own_s + self.broker_s + self.database_s)

    def __str__(self) -> str:
        each = (self.own_s, self.broker_s, self.database_s)
        own, broker, database = (seconds / self.events * 1e6 for seconds in each)
        return (
            f"{self.per_s:,.0f}/s; of the cores, µs an event: own {own:.0f}, "
            f"broker {broker:.0f}, MongoDB {database:.0f}"
        )


class Meter:
    """Counts from when it is made."""

    def __init__(self) -> None:
        # Not theirs: the broker forks now and then, for a moment and under its own name.
        children = psutil.Process().children()
        self._servers = {
            name: [one for one in children if one.name() == name] for name in (_BROKER, _DATABASE)
        }
        self._before = self._server_s()
        self._own = time.process_time()
        self._clock = time.perf_counter()

    def read(self, count: int, *, clock_s: float | None = None, own_s: float | None = None) -> Cost:
        """Return what `count` events have cost, by default in this process and until now."""
        clock = time.perf_counter() - self._clock if clock_s is None else clock_s
        own = time.process_time() - self._own if own_s is None else own_s
        broker, database = (
            now - before for now, before in zip(self._server_s(), self._before, strict=True)
        )
        return Cost(count, clock, own, broker, database)

    def _server_s(self) -> list[float]:
        return [sum(map(_cpu_s, processes)) for processes in self._servers.values()]


def measured(count: int, act: Callable[[], object]) -> Cost:
    """Do it, and return what it cost."""
    meter = Meter()
    act()
    return meter.read(count)


def figures(
    costs: Sequence[Cost],
    bare: Sequence[Cost],
    *,
    part: str,
    what: str,
    at_least: float | None,
    against: str = "bare pika",
) -> list[Figure]:
    """Return the two lines of a comparison: by the clock, which is judged, and by the cores."""
    by_clock = Figure(
        part=part,
        what=what,
        unit="events/s",
        values=[one.per_s for one in costs],
        against=against,
        bare=[one.per_s for one in bare],
        at_least=at_least,
    )
    by_cores = replace(
        by_clock,
        what="the same, a second of all cores",
        unit="events",
        values=[one.per_core_s for one in costs],
        bare=[one.per_core_s for one in bare],
        at_least=None,
    )
    return [by_clock, by_cores]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
