"""The event log in MongoDB, written by any number of relays and read by everyone."""

from collections.abc import Collection as Sized
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from pymongo import IndexModel, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from events.envelope import Envelope, Sealed, id_bytes, read_envelope, same_fact
from events.errors import NewerVersion, Outage, Refused, Undecodable
from events.log import Appended, Outcome, Position
from events.log.mongo_reader import (
    BY_ACCEPTANCE,
    BY_KEY,
    BY_PLACE,
    BY_USER,
    MongoLogReader,
    in_ms,
    position,
)
from events.log.mongo_relays import OwnRelay, settle_former
from events.mongo import DUPLICATE_KEY, Client, Document, kind_of, named_errors

logger = structlog.get_logger(__name__)
# MongoDB takes documents of up to 16 MiB; what else a row has is far below the difference.
_LARGEST = 16_000_000
_EVENTS = [
    IndexModel([("place", 1)], name=BY_PLACE, unique=True),
    IndexModel([("user", 1), ("place", 1)], name=BY_USER),
    IndexModel([("key", 1), ("place", 1)], name=BY_KEY),
    IndexModel([("accepted", 1), ("place", 1)], name=BY_ACCEPTANCE),
]


class MongoEventLog(MongoLogReader):
    """The log for one relay of many; for one thread.

    Each relay numbers its own rows, so relays wait for nobody. A number whose event proves to be
    there already is never given again: numbers have gaps.
    """

    def __init__(self, client: Client, database: str) -> None:
        """Open or make the log in a database; the client stays with who made it."""
        super().__init__(client, database)
        with named_errors(self._what):
            self._start()

    def _start(self) -> None:
        """Make what is missing, and be a relay that has just started."""
        self._db.events.create_indexes(_EVENTS)
        self._db.relays.create_index("relay", unique=True)
        self._db.conflicts.create_index("_id.id")
        self._own = OwnRelay(self._db)
        self._kept_keys: set[str] = set()
        self._look_first = False

    def append(self, events: Sequence[Sealed], *, source: str) -> list[Appended]:
        """Store what is new, known to be kept by a majority, and answer in order.

        Where the server itself refuses single rows, others of the call may be stored: their next
        append answers that they are duplicates. After an Outage nothing more is settled until all
        events of that call were appended again.
        """
        envelopes = [read_envelope(event.body) for event in events]
        if not events:
            return []
        with self._session() as session:
            rows = self._rows_of(events, envelopes)
            if not self._own.attend(source, session):
                logger.warning("the log was replaced: a new relay id", action="log_replaced")
                self._start()
                self._own.attend(source, session)
            self._learn(envelopes, session)
            fresh, known = self._store(rows, session)
            answers = self._answers(events, envelopes, fresh, known)
            self._keep_conflicts(events, answers, source, session)
            self._own.settle(session)
        return answers

    def settle_former(self, source: str) -> None:
        """Settle what former relays of a source have left; all it had was appended again since.

        One that served several sources is settled once that was said of the last of them.
        """
        with self._session() as session:
            settle_former(self._db, self._own.small, source, session)

    def _rows_of(
        self, events: Sequence[Sealed], envelopes: Sequence[Envelope]
    ) -> dict[bytes, Document]:
        """A row for each id, of the first event that has it."""
        rows: dict[bytes, Document] = {}
        for event, envelope in zip(events, envelopes, strict=True):
            key, user = envelope.routingkey, envelope.subject
            if len(event.body) + len(key.encode()) + len(user.encode()) > _LARGEST:
                raise Refused(f"{self._what}: event {event.id} is too large.")
            rows.setdefault(
                id_bytes(event.id),
                {
                    "_id": id_bytes(event.id),
                    "key": key,
                    "user": user,
                    "accepted": in_ms(envelope.acceptedat),
                    "digest": event.digest,
                    "body": event.body,
                },
            )
        return rows

    def _learn(self, envelopes: Sequence[Envelope], session: ClientSession) -> None:
        """Keep new routing keys before the first rows that have them."""
        kinds = {one.routingkey: one.type for one in envelopes}
        new = [(key, {"kind": kinds[key]}) for key in kinds.keys() - self._kept_keys]
        _put(self._db["keys"], new, session)
        self._kept_keys |= kinds.keys()

    def _store(
        self, rows: Mapping[bytes, Document], session: ClientSession
    ) -> tuple[dict[bytes, Position], dict[bytes, Document]]:
        """Insert what is not there; return where that stands, and what was there."""
        # Where much is repeated, asking is several times faster than being refused.
        known = self._there(rows, session) if self._look_first else {}
        fresh = self._insert([rows[key] for key in rows if key not in known], session)
        known |= self._there(rows.keys() - fresh.keys() - known.keys(), session)
        self._look_first = bool(known)
        return fresh, known

    def _insert(self, rows: Sequence[Document], session: ClientSession) -> dict[bytes, Position]:
        """Insert rows; return the positions of those whose ids were free."""
        self._own.stamp(rows)
        error = self._refusal(rows, session) if rows else None
        failed = {of["index"]: of["code"] for of in error.details["writeErrors"]} if error else {}
        fresh = {row["_id"]: position(row) for at, row in enumerate(rows) if at not in failed}
        self._own.taken(fresh)
        if error and kind_of(error) is Refused:
            self._own.refused(
                rows[at]["_id"] for at, code in failed.items() if code != DUPLICATE_KEY
            )
            raise error
        return fresh

    def _refusal(self, rows: Sequence[Document], session: ClientSession) -> BulkWriteError | None:
        try:
            self._db.events.insert_many(rows, ordered=False, session=session)
        except BulkWriteError as error:
            # A duplicate key tells something only where the rest of the reply is known to be kept.
            if kind_of(error) not in (None, Refused):
                raise
            return error
        return None

    def _there(self, ids: Sized[bytes], session: ClientSession) -> dict[bytes, Document]:
        """Return what a majority has of some ids."""
        if not ids:
            return {}
        found = self._db.events.find({"_id": {"$in": list(ids)}}, session=session)
        rows = {row["_id"]: row for row in found}
        self._own.taken({key: position(row) for key, row in rows.items()})
        return rows

    def _answers(
        self,
        events: Sequence[Sealed],
        envelopes: Sequence[Envelope],
        fresh: Mapping[bytes, Position],
        known: Mapping[bytes, Document],
    ) -> list[Appended]:
        stored = {key: (row["digest"], _stored(row)) for key, row in known.items()}
        answers = []
        for event, envelope in zip(events, envelopes, strict=True):
            event_id = id_bytes(event.id)
            if event_id in stored:
                answers.append(_again(event, *stored[event_id]))
            elif event_id in fresh:
                key = envelope.routingkey
                answers.append(Appended(Outcome.NEW, fresh[event_id], key, event.body))
                stored[event_id] = (event.digest, answers[-1])
            else:
                raise Outage(f"{self._what}: event {event.id} was there and is not any more.")
        return answers

    def _keep_conflicts(
        self,
        events: Sequence[Sealed],
        answers: Sequence[Appended],
        source: str,
        session: ClientSession,
    ) -> None:
        conflicts = [
            ({"id": id_bytes(event.id), "digest": event.digest}, event.body)
            for event, answer in zip(events, answers, strict=True)
            if answer.outcome is Outcome.CONFLICT
        ]
        rows = [(key, {"source": source, "body": body}) for key, body in conflicts]
        _put(self._db.conflicts, rows, session)


def _put(
    collection: Collection[Document], rows: Sequence[tuple[Any, Document]], session: ClientSession
) -> None:
    """Keep rows that may be there already; whoever came first stands."""
    puts = [UpdateOne({"_id": key}, {"$setOnInsert": row}, upsert=True) for key, row in rows]
    try:
        if puts:
            collection.bulk_write(puts, ordered=False, session=session)
    except BulkWriteError as error:
        if kind_of(error) is not None:  # None: another one put the same at the same time
            raise


def _stored(row: Document) -> Appended:
    return Appended(Outcome.DUPLICATE, position(row), row["key"], row["body"])


def _again(event: Sealed, digest: bytes, stored: Appended) -> Appended:
    same = event.digest == digest or _same(event.body, stored.body)
    return stored._replace(outcome=Outcome.DUPLICATE if same else Outcome.CONFLICT)


def _same(body: bytes, stored: bytes) -> bool:
    try:
        return same_fact(body, stored)
    except (NewerVersion, Undecodable):
        return False  # nobody can tell here, so both are kept: a conflict is seen and not applied
