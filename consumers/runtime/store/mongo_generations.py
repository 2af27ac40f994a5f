"""The generations in a consumer's MongoDB database: made, swapped and dropped."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

from pymongo import ASCENDING, IndexModel, ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.collection import ReturnDocument

from consumers.runtime.fates import State
from consumers.runtime.store import Phase
from consumers.runtime.store.mongo_documents import index_models
from consumers.runtime.store.mongo_facts import make_facts
from consumers.runtime.store.mongo_rows import BY_DUE, BY_POSITION, STATES, of_generation
from consumers.runtime.store.mongo_transactions import in_transaction
from events.errors import Outage, Overtaken
from events.mongo import Document, MongoDatabase, named_errors

_DISCARDED = {"state": STATES[State.DISCARDED]}
_OPEN = {"partialFilterExpression": {"state": {"$gt": 0}}}
_AT_ONCE = 1_000


class MongoGenerations:
    """Writes the rows of generations, and makes and drops their collections."""

    def __init__(self, database: MongoDatabase, what: str, session: ClientSession) -> None:
        self._db, self._what, self._session = database, what, session

    def begin(
        self,
        *,
        version: int,
        code: str,
        bindings: Sequence[str],
        indexes: Mapping[str, Sequence[str]],
        since_ms: int,
    ) -> int:
        """Make an empty generation beside the live one and return its number.

        Of several who begin where none is live, all get the one that came first.
        """
        with named_errors(self._what):
            live = self._db.generations.find_one({"phase": Phase.LIVE})
            number = self._next_number()
            self._make_collections(number, indexes)
            if live:
                self._copy_discarded(live["_id"], number)
        row = {
            "_id": number,
            "phase": Phase.BUILDING if live else Phase.LIVE,
            "version": version,
            "code": code,
            "bindings": list(bindings),
            "indexes": [[name, list(of)] for name, of in indexes.items()],
            "since": since_ms,
        }
        shown, gone = in_transaction(self._session, self._what, lambda: self._show(row))
        self._drop(gone)
        return shown

    def _next_number(self) -> int:
        """Return one that no generation ever had.

        A worker of one that was dropped must not find another one under its number.
        """
        counter = self._db.counters.find_one_and_update(
            {"_id": "generation"},
            {"$inc": {"value": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int(cast(Document, counter)["value"])

    def _make_collections(self, number: int, indexes: Mapping[str, Sequence[str]]) -> None:
        """Make them before the row is there: without it nobody writes to them."""
        documents = self._db.create_collection(f"documents_{number:d}")
        fates = self._db.create_collection(f"fates_{number:d}")
        by_due = [("state", ASCENDING), ("due", ASCENDING), ("_id", ASCENDING)]
        by_position = [("state", ASCENDING), ("_id", ASCENDING)]
        fates.create_indexes(
            [
                IndexModel(by_due, name=BY_DUE, **_OPEN),
                IndexModel(by_position, name=BY_POSITION, **_OPEN),
            ]
        )
        make_facts(self._db, number)
        if models := index_models(indexes):
            documents.create_indexes(models)

    def _copy_discarded(self, before: int, number: int) -> None:
        into = {"into": f"fates_{number:d}", "whenMatched": "replace"}
        self._db[f"fates_{before:d}"].aggregate(
            [{"$match": _DISCARDED}, {"$merge": into}], hint=BY_DUE
        )

    def _show(self, row: Document) -> tuple[int, list[int]]:
        """Write a generation's row; return which one stands now, and which ones are gone."""
        rows = list(self._db.generations.find(session=self._session))
        if row["phase"] is Phase.LIVE:
            live = [one["_id"] for one in rows if one["phase"] == Phase.LIVE]
            if live:
                return live[0], [row["_id"]]
        gone = [one["_id"] for one in rows if one["phase"] == Phase.BUILDING]
        self._forget(gone)
        self._db.generations.insert_one(row, session=self._session)
        return row["_id"], gone

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._db.generations.delete_one({"_id": number}, session=self._session)

    def abandon(self, generation: int) -> None:
        """Drop a generation that is being built; what is live or kept stays."""
        building = {"_id": generation, "phase": Phase.BUILDING}
        with named_errors(self._what):
            gone = self._db.generations.delete_one(building).deleted_count
        if gone:
            self._drop([generation])

    def swap(self, generation: int, *, expected: int) -> None:
        """Make a built generation live and the live one old; drop the one that was old."""
        in_transaction(self._session, self._what, lambda: self._swap(generation, expected))
        self._drop(self._left_over())

    def _swap(self, generation: int, expected: int) -> None:
        self._db.generations.delete_many({"phase": Phase.OLD}, session=self._session)
        self._move(expected, Phase.LIVE, Phase.OLD)
        self._move(generation, Phase.BUILDING, Phase.LIVE)
        self._take_over_discarded(generation, expected)

    def _move(self, generation: int, before: Phase, after: Phase) -> None:
        one, moved = {"_id": generation, "phase": before}, {"$set": {"phase": after}}
        done = self._db.generations.update_one(one, moved, session=self._session)
        if not done.matched_count:
            raise Overtaken(f"Generation {generation} of {self._what} is not {before} any more.")

    def _take_over_discarded(self, generation: int, before: int) -> None:
        """Discard what was discarded since this generation was begun, and is not applied in it."""
        there = self._keys(generation, _DISCARDED)
        missing = sorted(self._keys(before, _DISCARDED) - there)
        for start in range(0, len(missing), _AT_ONCE):
            some = {"_id": {"$in": missing[start : start + _AT_ONCE]}}
            applied = self._keys(generation, {**some, "state": 0})
            rows = self._db[f"fates_{before:d}"].find(some, session=self._session)
            writes = [
                ReplaceOne({"_id": row["_id"]}, row, upsert=True)
                for row in rows
                if row["_id"] not in applied
            ]
            if writes:
                self._db[f"fates_{generation:d}"].bulk_write(writes, session=self._session)

    def _keys(self, generation: int, which: Document) -> set[int]:
        rows = self._db[f"fates_{generation:d}"].find(which, {"_id": 1}, session=self._session)
        return {row["_id"] for row in rows}

    def _left_over(self) -> list[int]:
        """Return the numbers below all generations that still have a collection.

        One above may be just being made. A commit that was in flight when its generation was
        dropped may have made one again.
        """
        with named_errors(self._what):
            rows = self._db.generations.find({}, {"_id": 1})
            lowest = min((row["_id"] for row in rows), default=0)
            names = self._db.list_collection_names()
        numbers = {int(name.split("_")[1]) for name in names if name.startswith("fates_")}
        numbers |= {int(name.split("_")[1]) for name in names if name.startswith("documents_")}
        return sorted(number for number in numbers if number < lowest)

    def _drop(self, numbers: Sequence[int]) -> None:
        """Drop what generations left whose rows are gone; the next swap drops what is left now."""
        for number in numbers:
            with suppress(Outage), named_errors(self._what):
                self._db.watermarks.delete_many(of_generation(number))
                self._db.counts.delete_many(of_generation(number))
                self._db.drop_collection(f"documents_{number:d}")
                self._db.drop_collection(f"fates_{number:d}")
                self._db.drop_collection(f"facts_{number:d}")
