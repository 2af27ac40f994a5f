"""Loading: an exported history, checked line by line, on its way into this installation's log."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from events.envelope import Sealed, digest_of, read_envelope, same_fact
from events.errors import Held, NewerVersion, Outage, PacelineError, Undecodable
from events.exported_line import each_line, sealed
from events.lock import FileLock
from events.log import LogReader, Selection
from events.patience import Patience
from events.progress import Report
from events.settings import Settings
from events.sqlite_spool import Spool, Spooled, SpoolReader
from events.ways import bookmark

TOLD_AT_MOST = 1_000
RELAY_WITHIN_S = 10.0
_AT_ONCE = 500


class Fault(NamedTuple):
    """A line that was left out, by its number from 1."""

    line: int
    reason: str


@dataclass(slots=True)
class Loaded:
    """What became of the lines; `new` are those whose ids the log had not when they were read.

    `newer` of them are of a type or version that this code does not know: they are kept as they
    are. Of faults and ids the first thousand are told.
    """

    lines: int = 0
    new: int = 0
    duplicate: int = 0
    conflict: int = 0
    refused: int = 0
    invalid: int = 0
    newer: int = 0
    faults: list[Fault] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether each line is in the log."""
        return not (self.invalid or self.conflict or self.refused)


class Loading:
    """One load: lines into a spool, which the relay of this host carries into the log."""

    def __init__(self, settings: Settings, spool: Spool) -> None:
        """Load into a spool that is empty."""
        self._settings, self._spool = settings, spool
        self.result = Loaded()
        self._bytes = 0

    def read(self, stream: BinaryIO, log: LogReader | None, *, size: int, report: Report) -> None:
        """Check each line, and spool those that are events; `log` is None where there is none yet.

        `size` is how many bytes there are, 0 where nobody can tell. Raises Outage where the disk
        would not hold what accepting needs.
        """
        read, events = 0, []
        for line in each_line(stream):
            read += len(line) + 1
            self.result.lines += 1
            if line.strip() and (event := self._event(line)):
                events.append(event)
            if len(events) == _AT_ONCE:
                self._keep(events, log)
                events = []
                report(read, max(size, read))
        self._keep(events, log)

    def _event(self, line: bytes) -> Sealed | None:
        try:
            event, known = sealed(line)
        except Undecodable as error:
            self.result.invalid += 1
            _tell(self.result.faults, Fault(self.result.lines, str(error)))
            return None
        self.result.newer += not known
        return event

    def _keep(self, events: Sequence[Sealed], log: LogReader | None) -> None:
        self._check_disk(sum(len(event.body) for event in events))
        ids = sorted({event.id for event in events})
        there = log.scan(Selection(ids=ids), limit=len(ids)) if log and ids else []
        self._spool.add(events, known={row.event_id for row in there})

    def _check_disk(self, more: int) -> None:
        self._bytes += more
        free = shutil.disk_usage(self._settings.data_dir).free
        # What is spooled is still to be written twice: into the log, and into consumers' states.
        if free < 2 * self._bytes + 2 * (self._settings.disk_reserve_mib << 20):
            raise Outage(
                f"The disk has {free >> 20} MiB left, and accepting needs them. What was read so "
                "far is loaded; make room and run the same command again."
            )

    def wait(self, *, report: Report) -> None:
        """Return when the relay has carried everything on.

        Raises PacelineError where it stands still and none runs on this host.
        """
        patience = Patience(least_s=0.01, most_s=0.2)
        last, at, moved_at = self._spool.last(), -1, time.monotonic()
        while (passed := passed_in(self._settings, self._spool)) < last:
            report(passed, last)
            if passed != at:
                at, moved_at = passed, time.monotonic()
            elif time.monotonic() > moved_at + RELAY_WITHIN_S and not _relay_runs(self._settings):
                raise PacelineError(
                    f"No relay runs on this host. {last - passed} events are kept, and carried on "
                    "when one does (`paceline run`); run the same command again then, to see what "
                    "became of them."
                )
            patience.wait()
        report(last, max(last, 1))

    def compare(self, log: LogReader, *, report: Report) -> Loaded:
        """Look for each event in the log, and return what became of the lines."""
        after, last = 0, self._spool.last()
        while rows := self._spool.spooled(after, limit=_AT_ONCE):
            ids = sorted({one.event.id for one in rows})
            there = {row.event_id: row.body for row in log.scan(Selection(ids=ids), limit=len(ids))}
            for one in rows:
                self._judge(one, there.get(one.event.id))
            after = rows[-1].row
            report(after, last)
        return self.result

    def _judge(self, one: Spooled, stored: bytes | None) -> None:
        if stored is None:
            self.result.refused += 1
            _tell(self.result.refusals, one.event.id)
        elif not _same(one.event, stored):
            self.result.conflict += 1
            _tell(self.result.conflicts, one.event.id)
        elif one.known:
            self.result.duplicate += 1
        else:
            self.result.new += 1


def _tell(told: list[Any], one: object) -> None:
    if len(told) < TOLD_AT_MOST:
        told.append(one)


def _same(event: Sealed, stored: bytes) -> bool:
    there = read_envelope(stored)
    if digest_of(there.type, there.id, there.data) == event.digest:
        return True
    with suppress(NewerVersion, Undecodable):
        return same_fact(event.body, stored)
    return False


def passed_in(settings: Settings, spool: SpoolReader) -> int:
    """Return up to which row of a spool the relay of this host is."""
    with suppress(Outage):  # no relay has ever run here
        return spool.passed(bookmark(settings, spool.source_id))
    return 0


def _relay_runs(settings: Settings) -> bool:
    try:
        FileLock(settings.bookmark_file).release()
    except Held:
        return True
    return False
