"""The event log in MongoDB for those who only read it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from time import monotonic

import pymongo
from bson import Timestamp
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern

from events.envelope import id_bytes, id_text, is_id
from events.log import Conflict, Logged, Position, Selection
from events.mongo import Client, Document, named_errors
from events.topology import wanted

NUMBER_BITS = 40
BY_PLACE, BY_USER, BY_KEY, BY_ACCEPTANCE = "by_place", "by_user", "by_key", "by_acceptance"
_ROW = {"relay": 1, "place": 1, "key": 1, "body": 1}
_DAY_MS = 86_400_000
_PRIMARY_WITHIN_MS = 5_000
# How long it surely still is the one: others need 10 s without it before they elect another. Asking
# takes an idle server up to 100 ms, so a sweep of a long log does not ask for each of its parts.
_PRIMARY_FOR_S = 1.0
_COUNTED_WITHIN_S = 60


class MongoLogReader:
    """The log for those who only read it; safe to use from several threads.

    What one call saw, all later calls see too, also after another server became the primary.
    """

    def __init__(self, client: Client, database: str) -> None:
        """Read the log in a database; the client stays with who made it."""
        self._client, self._db = client, client[database]
        self._what = f"event log {database}"
        self._seen: tuple[Document | None, Timestamp | None] = (None, None)
        self._lock = Lock()
        self._met = -_PRIMARY_FOR_S

    def get(self, event_id: str) -> Logged | None:
        """Return the event of an id, or None."""
        if not is_id(event_id):
            return None
        rows = self.scan(Selection(ids=(event_id,)), limit=1)
        return rows[0] if rows else None

    def scan(self, selection: Selection, *, limit: int) -> list[Logged]:
        """Return up to `limit` rows past `selection.after`, in the order of their places."""
        with self._session() as session:
            where = self._where(selection, session)
            if where is None:
                return []
            return self._rows(where, limit, session, hint=_index(selection))

    def _rows(
        self, where: Document, limit: int, session: ClientSession, *, hint: str | None
    ) -> list[Logged]:
        found = self._db.events.find(
            where, _ROW, sort=[("place", 1)], limit=limit, batch_size=limit, hint=hint,
            session=session,
        )  # fmt: skip
        return [
            Logged(position(row), id_text(row["_id"]), row["key"], row["body"], row["place"])
            for row in found
        ]

    def count(self, selection: Selection) -> int:
        """Count the rows that `scan` would return without its limit."""
        with self._session() as session, pymongo.timeout(_COUNTED_WITHIN_S):
            where = self._where(selection, session)
            if where is None:
                return 0
            index: Document = {"hint": hint} if (hint := _index(selection)) else {}
            return self._db.events.count_documents(where, session=session, **index)

    def settled(self) -> dict[str, int]:
        """Return how far each relay's rows are settled, oldest relay first.

        Only the one true primary answers: to one that was replaced and does not know it yet, the
        log would look like an old copy of itself. Raises Outage where there is none.
        """
        with self._session(anew=True) as session:
            self._meet_the_primary(session)
            rows = self._db.relays.find({"settled": {"$gt": 0}}, sort=[("_id", 1)], session=session)
            return {row["relay"]: row["settled"] for row in rows}

    def _meet_the_primary(self, session: ClientSession) -> None:
        now = monotonic()
        if now > self._met + _PRIMARY_FOR_S:
            relays = self._db.relays.with_options(read_concern=ReadConcern("linearizable"))
            relays.find_one({"_id": 1}, {"_id": 1}, session=session, max_time_ms=_PRIMARY_WITHIN_MS)
            self._met = now

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        """Return rows past what their relay has settled; `lately` of those that worked in a day."""
        worked = {"$expr": {"$gt": ["$touched", {"$subtract": ["$$NOW", _DAY_MS]}]}}
        with self._session() as session:
            relays = list(self._db.relays.find(worked if lately else {}, session=session))
            past = [
                {"place": {"$gt": place(of["_id"], of["settled"]), "$lt": place(of["_id"] + 1, 0)}}
                for of in relays
            ]
            return self._rows({"$or": past}, limit, session, hint=BY_PLACE) if past else []

    def conflicts(self, event_id: str | None = None) -> list[Conflict]:
        """Return the conflicting events, of one id or all."""
        where = {"_id.id": id_bytes(event_id)} if event_id else {}
        with self._session() as session:
            return [
                Conflict(id_text(row["_id"]["id"]), row["source"], row["body"])
                for row in self._db.conflicts.find(where, session=session)
            ]

    @contextmanager
    def _session(self, *, anew: bool = False) -> Iterator[ClientSession]:
        """A session that sees all that earlier ones of this reader saw; anew, it starts by none."""
        with named_errors(self._what), self._client.start_session() as session:
            cluster, operation = self._seen
            if not anew and cluster is not None and operation is not None:
                session.advance_cluster_time(cluster)
                session.advance_operation_time(operation)
            yield session
            self._saw(session)

    def _saw(self, session: ClientSession) -> None:
        cluster, operation = session.cluster_time, session.operation_time
        with self._lock:
            if operation and (self._seen[1] is None or operation > self._seen[1]):
                self._seen = (dict(cluster) if cluster else None, operation)

    def _where(self, selection: Selection, session: ClientSession) -> Document | None:
        """The filter of a selection, or None where it can match nothing."""
        places = self._places(selection, session)
        where: Document = {} if places is None else {"place": places}
        if selection.bindings is not None or selection.kind is not None:
            where["key"] = {"$in": self._keys(selection, session)}
        if selection.user_id is not None:
            where["user"] = selection.user_id
        if selection.ids is not None:
            where["_id"] = {"$in": [id_bytes(event_id) for event_id in selection.ids]}
        accepted = {"$gte": selection.accepted_from, "$lt": selection.accepted_to}
        if times := {sign: in_ms(at) for sign, at in accepted.items() if at is not None}:
            where["accepted"] = times
        return None if places is None else where

    def _places(self, selection: Selection, session: ClientSession) -> Document | None:
        """The range of places; of a relay, its numbers are the lower part of its places."""
        after, through = selection.after, selection.through
        if selection.relay is not None:
            # Asked each time: in a log that was restored the relay may be another or none.
            relay = self._db.relays.find_one({"relay": selection.relay}, session=session)
            if relay is None:
                return None
            last = (1 << NUMBER_BITS) - 1 if through is None else through
            after, through = place(relay["_id"], after), place(relay["_id"], last)
        return {"$gt": after} if through is None else {"$gt": after, "$lte": through}

    def _keys(self, selection: Selection, session: ClientSession) -> list[str]:
        return [
            row["_id"]
            for row in self._db["keys"].find(session=session)
            if (selection.kind is None or row["kind"] == selection.kind)
            and (selection.bindings is None or wanted(selection.bindings, row["_id"]))
        ]

    def close(self) -> None:
        """Hold nothing more; the client stays with who made it."""


def _index(selection: Selection) -> str | None:
    """The index whose work is bounded by what is found, not by how long the log is."""
    if selection.ids is not None:
        return None
    if selection.user_id is not None:
        return BY_USER
    if selection.accepted_from is not None or selection.accepted_to is not None:
        return BY_ACCEPTANCE
    if selection.bindings is not None or selection.kind is not None:
        return BY_KEY
    return BY_PLACE


def place(small: int, number: int) -> int:
    """Return where a relay's row stands in the order of the whole log."""
    return small << NUMBER_BITS | number


def position(row: Document) -> Position:
    """Return the position of a stored row."""
    return Position(row["relay"].hex(), row["place"] & ((1 << NUMBER_BITS) - 1))


def in_ms(moment: datetime) -> int:
    """Return an aware time as ms since 1970."""
    return int(moment.astimezone(UTC).timestamp() * 1000)
