"""The facts of one generation in a consumer's MongoDB database, as a source of the relay."""

from collections.abc import Sequence
from typing import cast

from pymongo.client_session import ClientSession
from pymongo.collection import ReturnDocument

from events.envelope import Sealed, id_bytes, id_text
from events.mongo import Document, MongoDatabase, named_errors
from events.sources import Row

_BY_ROW = "by_row"


def make_facts(database: MongoDatabase, generation: int) -> None:
    """Make the collection of a generation's facts, if it is not there."""
    database[f"facts_{generation:d}"].create_index([("row", 1)], name=_BY_ROW, unique=True)


def insert_facts(
    database: MongoDatabase, generation: int, facts: Sequence[Sealed], session: ClientSession
) -> None:
    """Write facts in a transaction of the caller's; of one id the first stands.

    The counter is raised in the same transaction, so that rows become visible in their order.
    """
    collection = database[f"facts_{generation:d}"]
    first = {id_bytes(fact.id): fact for fact in reversed(facts)}
    there = collection.find({"_id": {"$in": list(first)}}, {"_id": 1}, session=session)
    new = first.keys() - {row["_id"] for row in there}
    if not new:
        return
    counter = database.counters.find_one_and_update(
        {"_id": f"facts_{generation:d}"},
        {"$inc": {"value": len(new)}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    before = int(cast(Document, counter)["value"]) - len(new)
    ordered = [key for key in dict.fromkeys(id_bytes(fact.id) for fact in facts) if key in new]
    rows = [
        {"_id": key, "row": number, "digest": first[key].digest, "body": first[key].body}
        for number, key in enumerate(ordered, before + 1)
    ]
    collection.insert_many(rows, ordered=False, session=session)


class MongoFacts:
    """Facts in the order in which they became visible."""

    def __init__(self, database: MongoDatabase, what: str, generation: int, source_id: str) -> None:
        self._facts, self._what = database[f"facts_{generation:d}"], what
        self.source_id = source_id

    def rows(self, after: int, *, limit: int) -> list[Row]:
        """Return the next rows."""
        with named_errors(self._what):
            found = list(self._facts.find({"row": {"$gt": after}}, sort=[("row", 1)], limit=limit))
        return [
            Row(row["row"], Sealed(id_text(row["_id"]), row["digest"], row["body"]))
            for row in found
        ]

    def event_id_at(self, row: int) -> str | None:
        """Return the event's id of a row, or None where there is no such row."""
        with named_errors(self._what):
            found = self._facts.find_one({"row": row}, {"_id": 1})
        return id_text(found["_id"]) if found else None
