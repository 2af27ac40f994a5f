"""An app reads its own write: a read that waits until an event has a fate for its consumer."""

import re
import time
from threading import BoundedSemaphore
from uuid import UUID

from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import InvalidQuery
from consumers.runtime.query.fates import PENDING, UNKNOWN, fate_of
from events.log import Logged
from events.patience import Patience
from events.schema_fields import shown

LONGEST_S = 5
PARAMETERS = ("after", "wait")


class Waiting:
    """A bounded number of reads waits; past it the answer comes at once."""

    def __init__(self, installation: Installation, *, seats: int = 6) -> None:
        self._installation = installation
        self._seats = BoundedSemaphore(seats)

    def fate(self, consumer: str, given: dict[str, str]) -> str | None:
        """Return the fate of the event that `after` names, once it has one or `wait` is over.

        It is `pending` as long as it has none, and `unknown` while it is not in the log; None where
        nothing was asked. Raises InvalidQuery.
        """
        after, wait_s = _asked(given)
        if after is None:
            return None
        if wait_s and self._seats.acquire(blocking=False):
            try:
                return self._awaited(consumer, after, time.monotonic() + wait_s)
            finally:
                self._seats.release()
        return self._now(consumer, self._logged(after))

    def _awaited(self, consumer: str, event_id: str, deadline: float) -> str:
        patience = Patience(least_s=0.005, most_s=0.025)
        while True:
            fate = self._now(consumer, self._logged(event_id))
            if fate not in (PENDING, UNKNOWN) or time.monotonic() >= deadline:
                return fate
            patience.wait()

    def _logged(self, event_id: str) -> Logged | None:
        log = self._installation.log()
        return log.get(event_id) if log else None

    def _now(self, consumer: str, logged: Logged | None) -> str:
        if logged is None:
            return UNKNOWN
        return str(fate_of(self._installation.store(consumer), logged)["fate"])


def is_event_id(text: str) -> bool:
    """Say whether a text is an id as events have it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _asked(given: dict[str, str]) -> tuple[str | None, float]:
    after, wait = given.get("after"), given.get("wait")
    if after is None:
        if wait is not None:
            raise InvalidQuery("wait needs after, the id of the event to wait for.")
        return None, 0.0
    if not is_event_id(after):
        raise InvalidQuery(f"after is {shown(after)}; it must be the id of an event.")
    seconds = "0" if wait is None else wait
    if not re.fullmatch(r"[0-9](\.[0-9]{1,3})?", seconds) or float(seconds) > LONGEST_S:
        raise InvalidQuery(f"wait is {shown(seconds)}; it must be from 0 to {LONGEST_S} seconds.")
    return after, float(seconds)
