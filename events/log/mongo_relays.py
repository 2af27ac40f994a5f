"""A relay's own row in the log: who it is, that it works, and how far its rows are settled."""

from collections.abc import Iterable, Mapping
from uuid import uuid4

import structlog
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError, PyMongoError

from events.log import Position
from events.log.mongo_reader import NUMBER_BITS, place, position
from events.mongo import Document, MongoDatabase

logger = structlog.get_logger(__name__)
_STAMP = {"relay": 1, "place": 1}


class OwnRelay:
    """What one relay knows of its own rows; nothing, until it first attends.

    An id is in doubt from before its row is sent until it is known to be taken or refused: a row
    that is still under way may land as long as its id is free. So nothing is settled meanwhile.
    """

    def __init__(self, database: MongoDatabase) -> None:
        """Know nothing and write nothing yet."""
        self._db = database
        # That a relay works may be lost with the server that knows it: it is written each time.
        self._soon = database.relays.with_options(write_concern=WriteConcern(w=1, j=True))
        self._relay, self._small = b"", 0
        self._sources: set[str] = set()
        self._in_doubt: set[bytes] = set()
        self._number = self._stored = self._settled = 0

    @property
    def small(self) -> int:
        """The number of this relay among all; 0 before it attends."""
        return self._small

    def stamp(self, rows: Iterable[Document]) -> None:
        """Give each row the next number; from here on its id is in doubt."""
        for row in rows:
            self._number += 1
            row |= {"relay": self._relay, "place": place(self._small, self._number)}
            self._in_doubt.add(row["_id"])

    def taken(self, stored: Mapping[bytes, Position]) -> None:
        """Know that these ids are taken, by rows of whatever relay."""
        self._in_doubt.difference_update(stored)
        relay = self._relay.hex()
        ours = [at.number for at in stored.values() if at.relay == relay]
        self._stored = max([self._stored, *ours])

    def refused(self, ids: Iterable[bytes]) -> None:
        """Know that the server stores no rows of these ids."""
        self._in_doubt.difference_update(ids)

    def attend(self, source: str, session: ClientSession) -> bool:
        """Write that this relay works, and for which source, before its first row of that one.

        Returns False, and writes nothing, where the log is a copy that lacks what we wrote.
        """
        if not self._small:
            self._register(source, session)
        elif not self._touch(source, session):
            return False
        self._sources.add(source)
        return True

    def _touch(self, source: str, session: ClientSession) -> bool:
        relays = self._soon if source in self._sources else self._db.relays
        change = {"$addToSet": {"sources": source}, "$currentDate": {"touched": True}}
        as_we_left_it = {**self._own(), "settled": {"$gte": self._settled}}
        return bool(relays.update_one(as_we_left_it, change, session=session).matched_count)

    def _own(self) -> Document:
        return {"_id": self._small, "relay": self._relay.hex()}

    def _register(self, source: str, session: ClientSession) -> None:
        relay = uuid4()
        while not self._small:
            small = _last_small(self._db, session) + 1
            first = {"settled": 0, "sources": [source]}
            try:
                self._db.relays.update_one(
                    {"_id": small, "relay": relay.hex},
                    {"$setOnInsert": first, "$currentDate": {"touched": True}},
                    upsert=True,
                    session=session,
                )
            except DuplicateKeyError:
                continue  # another relay came at the same time
            self._relay, self._small = relay.bytes, small

    def settle(self, session: ClientSession) -> None:
        """Write how far our rows are settled; where that fails, the next append does it."""
        if self._in_doubt or self._stored == self._settled:
            return
        change = {"$max": {"settled": self._stored}}
        try:
            found = self._db.relays.update_one(self._own(), change, session=session)
        except PyMongoError as error:
            logger.warning("settled later", action="settled_later", reason=str(error))
            return
        if found.matched_count:
            self._settled = self._stored


def settle_former(database: MongoDatabase, mine: int, source: str, session: ClientSession) -> None:
    """Take a source from all relays but ours; settle those that served no other one."""
    former = {"_id": {"$ne": mine}, "sources": source}
    while relay := database.relays.find_one(former, session=session):
        change: Document = {"$pull": {"sources": source}}
        if relay["sources"] == [source]:
            change["$max"] = {"settled": _last_number(database, relay["_id"], session)}
        as_it_was = {"_id": relay["_id"], "sources": relay["sources"]}
        database.relays.update_one(as_it_was, change, session=session)


def _last_number(database: MongoDatabase, small: int, session: ClientSession) -> int:
    its = {"place": {"$gt": place(small, 0), "$lt": place(small + 1, 0)}}
    row = database.events.find_one(its, _STAMP, sort=[("place", -1)], session=session)
    return position(row).number if row else 0


def _last_small(database: MongoDatabase, session: ClientSession) -> int:
    # Also by the rows: those of a log of which only a part was restored keep their places.
    row = database.events.find_one({}, _STAMP, sort=[("place", -1)], session=session)
    relay = database.relays.find_one({}, sort=[("_id", -1)], session=session)
    return max(row["place"] >> NUMBER_BITS if row else 0, relay["_id"] if relay else 0)
