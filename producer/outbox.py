"""The outbox: what was accepted, on this host's disk, one sync for many requests."""

import time
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from events.envelope import Sealed, id_bytes, id_text, same_fact
from events.errors import Outage, PacelineError, Refused
from events.lock import FileLock
from events.sqlite import connect, fetch, fetch_one, make, named_errors, places, writing
from producer.outbox_room import DEFAULT_BOUNDS, Bounds, OutboxFull, Room

_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (source_id TEXT NOT NULL, dropped INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, accepted_at INTEGER NOT NULL,
    total INTEGER NOT NULL, digest BLOB NOT NULL, body BLOB);
INSERT INTO identity SELECT lower(hex(randomblob(16))), 0 WHERE NOT EXISTS (SELECT 1 FROM identity);
"""
ANSWER_WITHIN_S = 10.0
GROUP = 2_000


class Accepted(NamedTuple):
    """What is safe on disk; `duplicate` where it was before."""

    event_id: str
    duplicate: bool


class Conflicting(PacelineError):
    """An accepted workout has this id and tells something else; the first stays."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__("Another workout was accepted under this id; the first one stays.")
        self.places = places


class _Request:
    """What one request thread brought, and where it waits: for the sync, or to lead."""

    def __init__(self, events: Sequence[Sealed]) -> None:
        self.events = events
        self.answer: list[Accepted] | Exception = []
        self.leads = False
        self.woken = allocate_lock()
        self.woken.acquire()


class Outbox:
    """The accepting side: one request's thread commits what all have brought since the last sync.

    Whoever comes while nobody commits leads: it commits for all that wait, wakes them, and the
    first of those who came meanwhile leads next. A writer thread of its own would cost every
    request one more change of threads, and a third of the requests a second.
    """

    def __init__(
        self,
        path: Path,
        *,
        passed: Callable[[str], int | None],
        bounds: Bounds = DEFAULT_BOUNDS,
        vfs: str | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """Open or make the file; raises Held where another process accepts into it.

        `passed` tells, for a source id, up to which row the relay has carried it on; None where
        that cannot be told.
        """
        self._lock = FileLock(path, wait_s=wait_s)
        self._path = path
        try:
            self._db = connect(path, vfs=vfs, cache_kib=16_000)
            make(self._db, _SCHEMA, self._what)
        except BaseException:
            self._lock.release()
            raise
        self.source_id = str(fetch_one(self._db, "SELECT source_id FROM identity"))
        self._turn = allocate_lock()
        self._waiting: list[_Request] = []
        self._led = False
        self._room = Room(self._db, path, bounds=bounds, passed=lambda: passed(self.source_id))

    @property
    def _what(self) -> str:
        return f"outbox {self._path}"

    def accept(self, events: Sequence[Sealed]) -> list[Accepted]:
        """Return when all of them are synced to disk, all or none.

        Raises Conflicting with the places of those that tell something else under a known id,
        OutboxFull, or Outage; then none of them was accepted now.
        """
        request = _Request(events)
        with self._turn:
            self._waiting.append(request)
            request.leads = not self._led
            self._led = True
        if not request.leads:
            self._wait(request)
        if request.leads:
            self._lead()
        if isinstance(request.answer, Exception):
            raise request.answer
        return request.answer

    def check(self) -> None:
        """Raise OutboxFull where nothing new would be accepted."""
        if full := self._room.fullness():
            raise full

    def close(self) -> None:
        """Let the file go; nobody may be accepting."""
        self._db.close()
        self._lock.release()

    def _wait(self, request: _Request) -> None:
        if request.woken.acquire(timeout=ANSWER_WITHIN_S):
            return
        with self._turn:
            if request.leads:
                request.woken.acquire(blocking=False)
                return
            if request in self._waiting:
                self._waiting.remove(request)
        raise Outage(f"The disk of {self._path} did not answer in {ANSWER_WITHIN_S:.0f} s.")

    def _lead(self) -> None:
        with self._turn:
            group = self._take_group()
        try:
            self._serve(group)
            for request in group:
                request.woken.release()
            self._room.prune_when_due()
        finally:
            self._hand_over()

    def _take_group(self) -> list[_Request]:
        size = count = 0
        while count < len(self._waiting) and size < GROUP:
            size += len(self._waiting[count].events)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    def _hand_over(self) -> None:
        with self._turn:
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].leads = True
                self._waiting[0].woken.release()

    def _serve(self, group: Sequence[_Request]) -> None:
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001  # every waiting request is told
            failure = error if isinstance(error, PacelineError) else Outage(repr(error))
            for request in group:
                request.answer = failure

    def _commit(self, group: Sequence[_Request]) -> None:
        full = self._room.fullness()
        events = [event for request in group for event in request.events]
        if full is None and self._all_are_new(events):
            for request in group:
                request.answer = [Accepted(event.id, False) for event in request.events]
            return
        with writing(self._db, self._what):
            known = self._known(events)
            fresh: dict[str, Sealed] = {}
            for request in group:
                try:
                    request.answer = self._answer(request.events, known, fresh, full)
                except PacelineError as error:  # this one cannot be compared; its neighbours can
                    request.answer = error
            self._insert(list(fresh.values()))

    def _all_are_new(self, events: Sequence[Sealed]) -> bool:
        """Insert them all, in a transaction of one statement; or none, where one id is known.

        Nearly every group is all new, and each statement more makes all of them wait: apsw lets the
        interpreter go at each step, and gets it back behind every other request's thread.
        """
        try:
            with named_errors(self._what):
                self._insert(events)
        except Refused:
            return False
        return True

    def _answer(
        self,
        events: Sequence[Sealed],
        known: dict[str, tuple[bytes, bytes | None]],
        fresh: dict[str, Sealed],
        full: OutboxFull | None,
    ) -> list[Accepted] | Exception:
        conflicts = [
            place
            for place, event in enumerate(events)
            if event.id in known and not _same(event, *known[event.id])
        ]
        if conflicts:
            return Conflicting(conflicts)
        answers = [Accepted(event.id, event.id in known) for event in events]
        new = [event for event in events if event.id not in known]
        if new and full:
            return full
        fresh.update((event.id, event) for event in new)
        known.update((event.id, (event.digest, event.body)) for event in new)
        return answers

    def _known(self, events: Sequence[Sealed]) -> dict[str, tuple[bytes, bytes | None]]:
        ids = [id_bytes(event.id) for event in events]
        sql = f"SELECT id, digest, body FROM outbox WHERE id IN ({places(len(ids))})"
        return {id_text(key): (digest, body) for key, digest, body in fetch(self._db, sql, ids)}

    def _insert(self, events: Sequence[Sealed]) -> None:
        total, now = self._room.total, int(time.time() * 1000)
        values: list[object] = []
        for event in events:
            total += len(event.body)
            values += (id_bytes(event.id), now, total, event.digest, event.body)
        if values:
            rows = ",".join(["(?,?,?,?,?)"] * len(events))
            columns = "id, accepted_at, total, digest, body"
            self._db.execute(f"INSERT INTO outbox ({columns}) VALUES {rows}", values)
            self._room.total = total


def _same(event: Sealed, digest: bytes, body: bytes | None) -> bool:
    return event.digest == digest or (body is not None and same_fact(event.body, body))
