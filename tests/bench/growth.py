"""Time per event at 500,000 events in the log, against the time at 50,000.

Two installations take the same number of events in turn, in steps whose middle are those counts.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from events.log.sqlite import SqliteEventLog
from tests.bench.figures import Figure, Say
from tests.bench.folding import CaloriesAtWork, Took, append, timed
from tests.bench.history import history
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_MOST = 1.2
_AT_ONCE = 1_000
_TOLD_EVERY = 50_000


class Taken(NamedTuple):
    """What one step of one installation took."""

    append: Took
    fold: Took


class Installation:
    """A log, and calories beside it; takes event after event of one endless history."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._log = SqliteEventLog(folder / "log.db")
        self._calories = CaloriesAtWork(folder / "log.db", folder / "calories.db")
        self._history = history(seed=1)
        self.events = 0

    def take(self, count: int) -> Taken:
        """Append the next events, then fold them; only these are in memory."""
        events = list(islice(self._history, count))
        appended = timed(lambda: append(self._log, events))
        folded = timed(self._calories.fold)
        self.events += count
        return Taken(appended, folded)

    def close(self) -> None:
        """Let the files go; raises Void unless all events were applied."""
        self._calories.check_applied(self.events)
        self._calories.close()
        self._log.close()


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Grow one installation, then let both take steps in turn."""
    with temporary_folder() as folder:
        grown, new = Installation(folder / "grown"), Installation(folder / "new")
        _grow(new, scale.small_events, say)
        _grow(grown, scale.grown_events, say)
        late, early = [], []
        for _ in range(scale.pairs):
            late.append(_told(grown, scale.growth_step, say))
            early.append(_told(new, scale.growth_step, say))
        grown.close()
        new.close()
        return _figures(late, early, scale.growth_step)


def _grow(installation: Installation, events: int, say: Say) -> None:
    while installation.events < events:
        installation.take(_AT_ONCE)
        if installation.events % _TOLD_EVERY == 0:
            say(f"growth: {installation.events:,} events are logged and folded")


def _told(installation: Installation, count: int, say: Say) -> Taken:
    taken = installation.take(count)
    append_us, fold_us = (took.clock_s / count * 1e6 for took in taken)
    say(f"growth: to {installation.events:,}: append {append_us:.1f} µs, fold {fold_us:.1f} µs")
    return taken


def _figures(late: Sequence[Taken], early: Sequence[Taken], count: int) -> list[Figure]:
    def figure(what: str, of: Callable[[Taken], float], at_most: float | None = None) -> Figure:
        return Figure(
            part="growth",
            what=what,
            unit="µs/event",
            values=[of(taken) / count * 1e6 for taken in late],
            against="at 50,000",
            bare=[of(taken) / count * 1e6 for taken in early],
            at_most=at_most,
        )

    return [
        figure("calories folds, at 500,000", lambda taken: taken.fold.clock_s, AT_MOST),
        figure("the same, of the core's time", lambda taken: taken.fold.cpu_s),
        figure("the log appends, at 500,000", lambda taken: taken.append.clock_s),
        figure("the same, of the core's time", lambda taken: taken.append.cpu_s),
    ]
