"""What one commit writes in its transaction, each part compared with what it was computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import msgspec
from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from consumers.runtime.fates import Fate, State
from consumers.runtime.store import Change, Commit, Written
from consumers.runtime.store.mongo_documents import Indexes, entries
from consumers.runtime.store.mongo_facts import insert_facts
from consumers.runtime.store.mongo_rows import NUMBER_BITS, STATES
from events.errors import Gone, Overtaken
from events.log import Position, Watermarks
from events.mongo import Document, MongoDatabase

_encode = msgspec.json.Encoder().encode


class CommitWriter:
    """Writes commits to one generation; to be used inside of a transaction of the session."""

    def __init__(
        self,
        database: MongoDatabase,
        what: str,
        session: ClientSession,
        *,
        generation: int,
        small: Mapping[str, int],
    ) -> None:
        self._db, self._what, self._session = database, what, session
        self._generation, self._small = generation, small

    def write(self, commit: Commit, *, shard: int) -> None:
        """Write all parts; raises Gone and Overtaken."""
        self._count(commit, shard)
        indexes = self._indexes(commit)
        self._write_documents(commit.documents, indexes)
        self._write_fates(commit.applied, commit.changes)
        if commit.facts:
            insert_facts(self._db, self._generation, commit.facts, self._session)
        self._move_watermarks(commit.through)

    def _indexes(self, commit: Commit) -> Indexes:
        """Look at the generation's row; one that all workers wrote would hold them all up."""
        one = {"_id": self._generation}
        if any(change.after.state is State.DISCARDED for change in commit.changes):
            # But a swap takes over what is discarded, so one of the two must see the other.
            seen = {"$inc": {"discards": 1}}
            row = self._db.generations.find_one_and_update(one, seen, session=self._session)
        else:
            row = self._db.generations.find_one(one, {"indexes": 1}, session=self._session)
        if row is None:
            raise Gone(f"Generation {self._generation} of {self._what} is gone.")
        return {name: tuple(of) for name, of in row["indexes"]}

    def _count(self, commit: Commit, shard: int) -> None:
        applied = len(commit.applied)
        for _, before, after in commit.changes:
            applied += after.state is State.APPLIED
            applied -= before is not None and before.state is State.APPLIED
        self._db.counts.update_one(
            {"_id": {"generation": self._generation, "shard": shard}},
            {
                "$inc": {"applied": applied},
                "$set": {"rate": commit.rate},
                "$currentDate": {"committed": True},
            },
            upsert=True,
            session=self._session,
        )

    def _write_documents(self, documents: Sequence[Written], indexes: Indexes) -> None:
        inserts: list[Document] = []
        replaced: list[ReplaceOne[Document]] = []
        for key, revision, body in documents:
            row = {"_id": key, "revision": revision + 1, "body": body}
            if found := entries(indexes, body):
                row["index"] = found
            if revision:
                replaced.append(ReplaceOne({"_id": key, "revision": revision}, row))
            else:
                inserts.append(row)
        self._write(self._db[f"documents_{self._generation:d}"], inserts, replaced)

    def _write_fates(self, applied: Sequence[Position], changes: Sequence[Change]) -> None:
        small, bits = self._small, NUMBER_BITS
        inserts: list[Document] = [
            {"_id": (small[relay] << bits) + number, "state": 0} for relay, number in applied
        ]
        replaced: list[ReplaceOne[Document]] = []
        for (relay, number), before, after in changes:
            key = {"_id": (small[relay] << bits) + number}
            if before is None:
                inserts.append(key | _columns(after))
            else:
                same = {"due": None, "detail": None} | _columns(before)
                replaced.append(ReplaceOne(key | same, _columns(after)))
        self._write(self._db[f"fates_{self._generation:d}"], inserts, replaced)

    def _write(
        self,
        into: Collection[Document],
        inserts: Sequence[Document],
        replaced: Sequence[ReplaceOne[Document]],
    ) -> None:
        if inserts:
            into.insert_many(inserts, ordered=False, session=self._session)
        if replaced:
            done = into.bulk_write(replaced, ordered=False, session=self._session)
            if done.matched_count != len(replaced):
                raise Overtaken(f"{self._what} was changed by another writer.")

    def _move_watermarks(self, through: Watermarks) -> None:
        moves = [
            UpdateOne(
                {"_id": {"generation": self._generation, "relay": relay}},
                {"$max": {"number": number}},
                upsert=True,
            )
            for relay, number in through.items()
        ]
        if moves:
            self._db.watermarks.bulk_write(moves, ordered=False, session=self._session)


def _columns(fate: Fate) -> Document:
    if fate.state is State.APPLIED:
        return {"state": STATES[fate.state]}
    # Without defaults, so that a field that comes later leaves the old rows as they are written.
    told = {
        of.name: value for of in fields(fate) if (value := getattr(fate, of.name)) != of.default
    }
    row: Document = {"state": STATES[fate.state], "detail": _encode(told).decode()}
    return row if fate.due_ms is None else {**row, "due": fate.due_ms}
