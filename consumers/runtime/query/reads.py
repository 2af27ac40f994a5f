"""The reads of consumers under /v1, also of one that was dropped in or changed a minute ago."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from flask import Response

from consumers import Documents
from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import Missing, NotServed, parameters
from consumers.runtime.query.code import Code
from consumers.runtime.query.reading import Reading
from consumers.runtime.query.templates import Table
from consumers.runtime.query.waiting import PARAMETERS
from consumers.runtime.registry import Loaded
from consumers.runtime.store import Generation
from events.errors import Outage, PacelineError
from events.schema_fields import shown

logger = structlog.get_logger(__name__)
# An address that nobody has may be asked for often; one that somebody just got is not missed long.
_MISSED_WITHIN_S = 0.1


class ReadQuery(dict[str, str]):
    """The parameters of a read, from path and query string, and the time as an argument."""

    def __init__(self, values: dict[str, str], *, now: datetime) -> None:
        super().__init__(values)
        self.now = now


class _Replaced(PacelineError):
    """The live documents are of another version than the code that would read them."""


class Routes:
    """The table of all reads, looked over again when `rescan_s` have passed."""

    def __init__(self, installation: Installation, *, rescan_s: float = 1.0) -> None:
        self._installation, self._rescan_s = installation, rescan_s
        self._code = Code(installation)
        self._loaded: dict[str, Loaded] = {}
        self._table: Table | None = None
        self._looked = 0.0
        self._lock = threading.Lock()

    def table(self, *, within_s: float | None = None) -> Table:
        """Return the table, looked over within the time; else by one thread, the others take it."""
        oldest_s = self._rescan_s if within_s is None else within_s
        due = time.monotonic() - self._looked >= oldest_s
        if self._table is not None and not due:
            return self._table
        if self._lock.acquire(blocking=within_s is not None or self._table is None):
            try:
                self._look_over()
            finally:
                self._lock.release()
        return self._table or Table(())

    def _look_over(self) -> None:
        self._looked = time.monotonic()
        found = self._installation.found()
        loaded = {name: one for name in found if (one := self._serving(name)) is not None}
        if self._table is None or loaded != self._loaded:
            self._loaded, self._table = loaded, Table(loaded.values())

    def _serving(self, name: str) -> Loaded | None:
        try:
            return self._code.serving(self._installation.found()[name])
        except (Outage, OSError, KeyError) as error:
            reason = f"{type(error).__name__}: {error}"
            logger.warning("code left", action="code_left", consumer=name, reason=reason)
            return self._loaded.get(name)

    def without(self) -> list[str]:
        """Return the consumers whose reads are not known, because nobody has run their code yet."""
        return [name for name in self._installation.names() if name not in self._loaded]


def answer_read(
    path: str, routes: Routes, reading: Reading, *, clock: Callable[[], datetime]
) -> Response:
    """Answer a read by its path below /v1; raises Missing, InvalidQuery or NotServed."""
    try:
        return _answered(path, routes, routes.table(), reading, clock())
    except _Replaced:
        table = routes.table(within_s=0.0)
    except Missing:
        if not routes.without():
            raise
        table = routes.table(within_s=_MISSED_WITHIN_S)
    try:
        return _answered(path, routes, table, reading, clock())
    except _Replaced as replaced:
        raise NotServed("unavailable", str(replaced)) from replaced


def _answered(path: str, routes: Routes, table: Table, reading: Reading, now: datetime) -> Response:
    match = table.match(path)
    if match is None:
        raise Missing(_nothing(path, routes))
    (loaded, template, read), values = match
    given = parameters(*template.options, *PARAMETERS)
    own = {name: value for name, value in given.items() if name in template.options}
    query = ReadQuery(own | values, now=now)

    def look(documents: Documents, live: Generation) -> Any:
        if live.version != loaded.version:
            raise _Replaced(f"{loaded.name} is being rebuilt by version {loaded.version}.")
        return read(documents, query)

    return reading.answer(loaded.name, given, look)


def _nothing(path: str, routes: Routes) -> str:
    text = f"There is nothing at {shown('/v1' + path)}."
    if without := routes.without():
        text += f" Not started yet, and so not asked: {', '.join(without)}."
    return text
