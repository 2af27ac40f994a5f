"""Time per event when the log and the store are long, against the time when they are new.

Two installations, one grown and one empty, take the same number of events in turn.
"""

from itertools import islice
from pathlib import Path
from typing import NamedTuple

from events.log.sqlite import SqliteEventLog
from tests.bench.figures import Figure, Say
from tests.bench.folding import CaloriesAtWork, Took, append, chunks, timed
from tests.bench.history import history
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_MOST = 1.2
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

    def check(self) -> None:
        """Raise Void unless all were applied."""
        self._calories.check_applied(self.events)


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Grow one installation, then let both take steps in turn."""
    with temporary_folder() as folder:
        grown, new = Installation(folder / "grown"), Installation(folder / "new")
        for count in chunks(scale.grown_events, scale.growth_step):
            grown.take(count)
            if grown.events % _TOLD_EVERY == 0:
                say(f"growth: {grown.events:,} events are logged and folded")
        late, early = [], []
        for _ in range(scale.pairs):
            late.append(_told(grown, scale.growth_step, say))
            early.append(_told(new, scale.growth_step, say))
        grown.check()
        new.check()
        return _figures(late, early, f"the first {new.events:,}", f"the last of {grown.events:,}")


def _told(installation: Installation, count: int, say: Say) -> Taken:
    taken = installation.take(count)
    append_us, fold_us = taken
    say(f"growth: at {installation.events:,}: append {append_us:.1f} µs, fold {fold_us:.1f} µs")
    return taken


def _figures(late: list[Taken], early: list[Taken], first: str, last: str) -> list[Figure]:
    return [
        Figure(
            part="growth",
            what=f"calories folds, {last}",
            unit="µs/event",
            values=[taken.fold_us for taken in late],
            against=first,
            bare=[taken.fold_us for taken in early],
            at_most=AT_MOST,
        ),
        Figure(
            part="growth",
            what=f"the log appends, {last}",
            unit="µs/event",
            values=[taken.append_us for taken in late],
            against=first,
            bare=[taken.append_us for taken in early],
        ),
    ]
