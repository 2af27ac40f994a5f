"""A log as it was some seconds ago: what is younger is left to the queue."""

import time

from events.log import Conflict, Logged, LogReader, Selection

_LOOK_EVERY_S = 1.0


class Aged:
    """A reader whose rows are settled only once they are `age_s` old.

    The age is by this process's own clock and not by what is written in events: a clock elsewhere
    may be wrong, and a row may wait long before it is logged.
    """

    def __init__(self, log: LogReader, *, age_s: float, first_at_once: bool = False) -> None:
        """Look at `log`; with `first_at_once`, all that stands there now is old enough."""
        self._log, self._age_s = log, age_s
        self._old: dict[str, int] = {}
        self._looks: list[tuple[float, dict[str, int]]] = []
        self._first_at_once = first_at_once

    def settled(self) -> dict[str, int]:
        """Return how far each relay's rows were settled then."""
        now = time.monotonic()
        if self._first_at_once:
            self._old, self._first_at_once = self._log.settled(), False
        if not self._looks or now - self._looks[-1][0] >= _LOOK_EVERY_S:
            self._looks.append((now, self._log.settled()))
        while self._looks and now - self._looks[0][0] >= self._age_s:
            self._old = self._looks.pop(0)[1]
        return self._old

    def get(self, event_id: str) -> Logged | None:
        """Return the event of an id, or None."""
        return self._log.get(event_id)

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        """Return up to `limit` rows past `selection.after`, in the order of their places."""
        return self._log.scan(selection, limit=limit)

    def count(self, selection: Selection) -> int:
        """Count the rows that `scan` would return without its limit."""
        return self._log.count(selection)

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        """Return rows past what their relay has settled."""
        return self._log.unsettled(limit=limit, lately=lately)

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        """Return the conflicting events, of one id or all."""
        return self._log.conflicts(event_id)
