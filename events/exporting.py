"""Exporting: a part of the log as lines of CloudEvents JSON, byte for byte as they are logged."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from events.errors import PacelineError
from events.log import LogReader, Selection
from events.log.walk import Walk
from events.progress import Report

_AT_ONCE = 500


def export(log: LogReader, selection: Selection, out: BinaryIO, *, report: Report) -> int:
    """Write what was logged when this began, in the order of the log; return how many events."""
    walk, done = Walk(log, selection), 0
    total = walk.total()
    while (rows := walk.page(_AT_ONCE)) is not None:
        out.write(b"".join(row.body + b"\n" for row in rows))
        done += len(rows)
        report(done, max(total, done))
    out.flush()
    return done


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that is there with all that the block wrote, synced; or as it was, if the block ends.

    Raises PacelineError that names the file where it cannot be written.
    """
    if not path.name:
        raise PacelineError(f"{str(path)!r} cannot be written: it is no file.")
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PacelineError(f"{path} cannot be written: {error.strerror}.") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
