"""A consumer's store in a MongoDB database, written by any number of workers."""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from uuid import uuid4

from pymongo.errors import CollectionInvalid, DuplicateKeyError, PyMongoError

from consumers.runtime.store import Commit, Generation, Lead, Phase, Stored
from consumers.runtime.store.limits import LARGEST, TooLarge
from consumers.runtime.store.mongo_commit import CommitWriter
from consumers.runtime.store.mongo_facts import make_facts
from consumers.runtime.store.mongo_generations import MongoGenerations
from consumers.runtime.store.mongo_reader import MongoStoreReader
from consumers.runtime.store.mongo_rows import SOURCE
from consumers.runtime.store.mongo_transactions import transaction
from consumers.runtime.store.mongo_workers import MongoWorkers
from events.errors import Outage, Overtaken, Refused
from events.mongo import Client, codes_of, named_errors

_COLLECTIONS = ("marks", "relays", "generations", "counts", "watermarks", "counters")
_SHARDS = 64
_KEYS_AT_ONCE = 10_000
_MOST_BYTES = 16 << 20
_LARGE_BYTES = 4 << 20
_LONG_S = 3.0
_MARKS_FOR_S = 0.5
_TRIES = 100
_ENDED = {251, 290}  # NoSuchTransaction, TransactionExceededLifetimeLimitSeconds


class MongoStore(MongoStoreReader):
    """The writing side of one worker, for one thread.

    All its transactions are of one session, so that another worker can end the one that this one
    leaves open when it dies.
    """

    shared = True

    def __init__(self, client: Client, name: str, worker: str) -> None:
        """Make the collections where they are not yet; `worker` is told apart from all others."""
        super().__init__(client, name)
        self._make()
        self._own = client.start_session(causal_consistency=False)
        self._generations = MongoGenerations(self._db, self._what, self._own)
        self._workers = MongoWorkers(client, self._db, self._what, worker, self._own)
        self._shard = random.randrange(_SHARDS)  # noqa: S311
        self._marks: dict[str, str] = {}
        self._marks_read = float("-inf")

    def _make(self) -> None:
        with named_errors(self._what):
            for name in {*_COLLECTIONS} - {*self._db.list_collection_names()}:
                with suppress(CollectionInvalid):  # another one makes them at the same time
                    self._db.create_collection(name, check_exists=False)
            # Before "old" in the alphabet: there is one that is live, and one that is built.
            one_of_each = {"phase": {"$lt": Phase.OLD}}
            self._db.generations.create_index(
                "phase", unique=True, partialFilterExpression=one_of_each
            )
            self._db.relays.create_index("small", unique=True)
            source = {"$setOnInsert": {"value": uuid4().hex}}
            with suppress(DuplicateKeyError):  # another one makes it at the same time
                self._db.marks.update_one({"_id": SOURCE}, source, upsert=True)
            for row in self._db.generations.find({}, {"_id": 1}):
                make_facts(self._db, row["_id"])  # of a database that is older than facts

    def begin(
        self,
        *,
        version: int,
        code: str,
        bindings: Sequence[str],
        indexes: Mapping[str, Sequence[str]],
        since_ms: int = 0,
    ) -> Generation:
        """Make an empty generation beside the live one, in place of one that was being built.

        Of several workers who begin where none is live, all get the one that came first.
        """
        number = self._generations.begin(
            version=version, code=code, bindings=bindings, indexes=indexes, since_ms=since_ms
        )
        made = next((one for one in self.generations() if one.number == number), None)
        if made is None:
            raise Overtaken(f"Another generation of {self._what} was begun at the same time.")
        return made

    def abandon(self, generation: int) -> None:
        """Drop a generation that is being built; what is live or kept stays."""
        self._generations.abandon(generation)

    def swap(self, generation: int, *, expected: int) -> None:
        """Make a built generation live and the live one old; drop the one that was old."""
        self._generations.swap(generation, expected=expected)

    def load(self, generation: int, keys: Sequence[str]) -> dict[str, Stored]:
        """Return the documents that exist, with their revisions."""
        found: dict[str, Stored] = {}
        with named_errors(self._what):
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                rows = self._db[f"documents_{generation:d}"].find(
                    {"_id": {"$in": some}}, {"revision": 1, "body": 1}, batch_size=len(some) + 1
                )
                found |= {row["_id"]: Stored(row["revision"], row["body"]) for row in rows}
        return found

    def commit(self, generation: int, commit: Commit) -> None:
        """Write everything or nothing, synced."""
        size = _checked_size(commit)
        self._number(commit)
        began = time.monotonic()
        try:
            with transaction(self._own, self._what):
                CommitWriter(
                    self._db, self._what, self._own, generation=generation, small=self._small
                ).write(commit, shard=self._shard)
        except Overtaken as overtaken:
            # Another worker may count in the same row: any row is as good.
            self._shard = random.randrange(_SHARDS)  # noqa: S311
            if size > _LARGE_BYTES and _several(commit):
                # A server whose cache is full says it in the same words as one with a conflict.
                raise Refused(
                    f"{self._what} may not have room for this: {overtaken}"
                ) from overtaken
            raise
        except Outage as outage:
            if _ended_by_server(outage) and time.monotonic() - began > _LONG_S and _several(commit):
                raise Refused(f"{self._what} did not finish this in time: {outage}") from outage
            raise

    def _number(self, commit: Commit) -> None:
        """Give each relay a small number, outside of the transaction, which might not last."""
        relays = {position.relay for position in commit.applied}
        relays |= {change.position.relay for change in commit.changes}
        with named_errors(self._what):
            for relay in relays - self._small.keys():
                self._number_relay(relay)

    def _number_relay(self, relay: str) -> None:
        for _ in range(_TRIES):
            self._learn_relays()
            if relay in self._small:
                return
            with suppress(DuplicateKeyError):
                row = {"_id": relay, "small": max(self._relays, default=0) + 1}
                self._db.relays.insert_one(row)
        raise Outage(f"{self._what} gives no number to relay {relay}.")

    def mark(self, name: str) -> str | None:
        """Return a small fact about this consumer, as it was at most half a second ago."""
        if self._session() is not None:
            return super().mark(name)
        if time.monotonic() - self._marks_read > _MARKS_FOR_S:
            with named_errors(self._what):
                self._marks = {row["_id"]: row["value"] for row in self._db.marks.find()}
            self._marks_read = time.monotonic()
        return self._marks.get(name)

    def set_mark(self, name: str, value: str | None) -> None:
        """Write a small fact about this consumer, or take it away."""
        self._marks_read = float("-inf")
        with named_errors(self._what):
            if value is None:
                self._db.marks.delete_one({"_id": name})
            else:
                self._db.marks.replace_one({"_id": name}, {"value": value}, upsert=True)

    def lead(self) -> Lead:
        """Take or keep the lead, and say that this process runs; to be called every few seconds.

        Also ends what workers that are not there any more have left open.
        """
        return self._workers.lead()

    def leave(self) -> None:
        """Say that this process ends, and cleanly."""
        self._workers.leave()

    def close(self) -> None:
        """Let it go."""
        self._own.end_session()


def _checked_size(commit: Commit) -> int:
    for key, _, body in commit.documents:
        if len(body) > LARGEST:
            raise TooLarge(key, len(body))
    size = sum(len(body) for _, _, body in commit.documents)
    if size > _MOST_BYTES:
        raise Refused(f"The documents of a commit have {size} bytes; at most {_MOST_BYTES}.")
    return size


def _several(commit: Commit) -> bool:
    """Whether it can be halved: what is refused for one event alone is that event's failure."""
    return len(commit.applied) + len(commit.changes) > 1


def _ended_by_server(outage: Outage) -> bool:
    cause = outage.__cause__
    return isinstance(cause, PyMongoError) and bool(codes_of(cause) & _ENDED)
