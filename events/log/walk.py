"""A walk over a part of the log, page by page, as it was when the walk began."""

from collections.abc import Sequence
from dataclasses import replace

from events.log import Logged, LogReader, Selection

# More ids than these a database would rather not look up at once.
IDS_AT_ONCE = 500


class Walk:
    """The rows of a selection that were settled when this was made, or logged under its ids.

    It goes by places, or by ids where they are selected, so it can be taken up again at `after`.
    What is logged meanwhile is not of it, so it ends, however fast the log grows.
    """

    def __init__(self, log: LogReader, selection: Selection, *, after: int = 0) -> None:
        """Begin, or go on past what a walk of the same selection had in `after`."""
        self._log, self._selection, self.after = log, selection, after
        self._marks = log.settled()
        self._newest = next(reversed(self._marks), None)
        self._ended = False

    def total(self) -> int:
        """Count the rows of the whole walk, and those that were logged since it was made."""
        return counted(self._log, self._selection)

    def page(self, limit: int) -> list[Logged] | None:
        """Return the next rows, at most `limit`, and possibly none; None at the end."""
        if self._selection.ids is not None:
            return self._of_ids(self._selection.ids, limit)
        if self._ended:
            return None
        rows = self._log.scan(replace(self._selection, after=self.after), limit=limit)
        if not rows:
            return None
        self.after = rows[-1].place
        # Where it comes in all the time there would always be another page.
        newest = rows[-1].position.relay == self._newest
        self._ended = len(rows) < limit or (newest and not self._was_there(rows[-1]))
        return [row for row in rows if self._was_there(row)]

    def _was_there(self, row: Logged) -> bool:
        return row.position.number <= self._marks.get(row.position.relay, 0)

    def _of_ids(self, ids: Sequence[str], limit: int) -> list[Logged] | None:
        part = ids[self.after : self.after + min(limit, IDS_AT_ONCE)]
        if not part:
            return None
        self.after += len(part)
        return self._log.scan(replace(self._selection, ids=part), limit=len(part))


def counted(log: LogReader, selection: Selection) -> int:
    """Count the rows of a selection, whatever the number of its ids."""
    return sum(log.count(part) for part in parts(selection))


def parts(selection: Selection) -> list[Selection]:
    """Return selections that are this one together, none of more ids than are looked up at once."""
    ids = selection.ids
    if ids is None:
        return [selection]
    starts = range(0, len(ids), IDS_AT_ONCE)
    return [replace(selection, ids=ids[start : start + IDS_AT_ONCE]) for start in starts]
