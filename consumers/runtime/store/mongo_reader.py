"""A consumer's MongoDB database for those who only read it: query, audit and the commands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import local

from pymongo.client_session import ClientSession

from consumers.runtime.fates import Fate, State
from consumers.runtime.store import Generation, Phase
from consumers.runtime.store.mongo_documents import MongoDocuments
from consumers.runtime.store.mongo_facts import MongoFacts
from consumers.runtime.store.mongo_rows import (
    BY_DUE,
    BY_POSITION,
    GONE_AFTER_MS,
    NUMBER_BITS,
    SOURCE,
    STATES,
    fate_of_row,
    generation_of,
    of_generation,
    top_of,
)
from events.log import Position
from events.mongo import Client, Document, named_errors

_RATE_OF_MS = 10_000
_BY_NUMBER = {number: state for state, number in STATES.items()}


class MongoStoreReader:
    """Reads of a store, for any number of threads; the client stays its owner's to close."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._what = client, f"store {name}"
        self._db = client[name]
        self._small: dict[str, int] = {}
        self._relays: dict[int, str] = {}
        self._moments = local()

    def generations(self) -> list[Generation]:
        """Return all generations, by number."""
        with named_errors(self._what):
            rows = list(self._db.generations.find(session=self._session()).sort("_id"))
            counts = self._applied() if rows else {}
        return [generation_of(row, counts.get(row["_id"], {})) for row in rows]

    def live(self) -> Generation | None:
        """Return the generation that readers see."""
        return next((one for one in self.generations() if one.phase is Phase.LIVE), None)

    def _applied(self) -> dict[int, Document]:
        """Sum up what the workers count, each in a row of its own."""
        recent = {"$gt": ["$committed", {"$subtract": ["$$NOW", _RATE_OF_MS]}]}
        summed = {
            "_id": "$_id.generation",
            "applied": {"$sum": "$applied"},
            "rate": {"$sum": {"$cond": [recent, "$rate", 0]}},
            "committed_ms": {"$max": {"$toLong": "$committed"}},
        }
        rows = self._db.counts.aggregate([{"$group": summed}], session=self._session())
        return {row["_id"]: row for row in rows}

    def watermarks(self, generation: int) -> dict[str, int]:
        """Return how far each relay's rows were looked at."""
        with named_errors(self._what):
            rows = self._db.watermarks.find(of_generation(generation), session=self._session())
            return {row["_id"]["relay"]: int(row["number"]) for row in rows}

    def highest(self, generation: int) -> dict[str, int]:
        """Return the highest number of each relay that has a row or was looked at."""
        with self._one_moment(), named_errors(self._what):
            rows = self._db.relays.aggregate(top_of(generation), session=self._session())
            top = {row["_id"]: int(row["top"]) for row in rows}
            for relay, number in self.watermarks(generation).items():
                top[relay] = max(top.get(relay, 0), number)
        return {relay: number for relay, number in top.items() if number}

    def fates(self, generation: int, positions: Sequence[Position]) -> dict[Position, Fate]:
        """Return the fates of those positions that have a row."""
        with named_errors(self._what):
            bases = {relay: self._base(relay) for relay in {one.relay for one in positions}}
            keys = {bases[position.relay] + position.number: position for position in positions}
            # All in one answer: a batch is asked for before each commit.
            rows = self._db[f"fates_{generation:d}"].find(
                {"_id": {"$in": list(keys)}},
                {"detail": 1},
                batch_size=len(keys) + 1,
                session=self._session(),
            )
            return {keys[row["_id"]]: fate_of_row(row) for row in rows} if keys else {}

    def open_fates(
        self,
        generation: int,
        state: State,
        *,
        due_ms: int | None = None,
        after: Position | None = None,
        limit: int = 1_000_000,
    ) -> list[tuple[Position, Fate]]:
        """Return the rows of a state other than applied, earliest due first; or only the due.

        With `after` they come by position, past that one.
        """
        if state is State.APPLIED or limit < 1:
            return []
        wanted: Document = {"state": STATES[state]}
        index, order = (BY_DUE, ["due", "_id"]) if after is None else (BY_POSITION, ["_id"])
        if due_ms is not None:
            wanted["due"] = {"$lte": due_ms}
        with named_errors(self._what):
            if after is not None:
                wanted["_id"] = {"$gt": self._base(after.relay) + after.number}
            rows = self._db[f"fates_{generation:d}"].find(
                wanted, {"detail": 1}, hint=index, limit=limit, sort=order, session=self._session()
            )
            return [(self._position(row["_id"]), fate_of_row(row)) for row in rows]

    def rows(
        self, generation: int, relay: str, after: int, through: int | None
    ) -> dict[int, State]:
        """Return number and state of every row of a relay with after < number <= through."""
        through = (1 << NUMBER_BITS) - 1 if through is None else through
        with named_errors(self._what):
            base = self._base(relay)
            rows = self._db[f"fates_{generation:d}"].find(
                {"_id": {"$gt": base + after, "$lte": base + through}},
                {"state": 1},
                session=self._session(),
            )
            return {row["_id"] - base: _BY_NUMBER[row["state"]] for row in rows}

    def counts(self, generation: int) -> dict[State, int]:
        """Return how many rows of each state there are."""
        by_state: list[Document] = [
            {"$match": {"state": {"$gt": 0}}},
            {"$group": {"_id": "$state", "count": {"$sum": 1}}},
        ]
        with self._one_moment(), named_errors(self._what):
            rows = self._db[f"fates_{generation:d}"].aggregate(
                by_state, hint=BY_DUE, session=self._session()
            )
            counts = {_BY_NUMBER[row["_id"]]: int(row["count"]) for row in rows}
            counts[State.APPLIED] = int(self._applied().get(generation, {}).get("applied", 0))
        return {state: counts.get(state, 0) for state in State}

    def documents(self, generation: int) -> MongoDocuments:
        """Return what a read sees."""
        found = next((one for one in self.generations() if one.number == generation), None)
        return MongoDocuments(
            self._db,
            self._what,
            generation,
            indexes=found.indexes if found else {},
            session=self._session,
        )

    def facts(self) -> MongoFacts | None:
        """Return the facts of what readers see; None where nothing is live, or never reacted."""
        live, source = self.live(), self.mark(SOURCE)
        if live is None or source is None:
            return None
        return MongoFacts(self._db, self._what, live.number, f"{source}-{live.number}")

    def mark(self, name: str) -> str | None:
        """Return a small fact about this consumer."""
        with named_errors(self._what):
            row = self._db.marks.find_one({"_id": name}, session=self._session())
        return None if row is None else str(row["value"])

    def running(self) -> bool:
        """Say whether a worker was seen within the last 15 s."""
        seen = {"$expr": {"$gt": ["$seen", {"$subtract": ["$$NOW", GONE_AFTER_MS]}]}}
        with named_errors(self._what):
            return self._db.workers.find_one(seen, session=self._session()) is not None

    def _base(self, relay: str) -> int:
        if relay not in self._small:
            self._learn_relays()
        # A relay that this store has never heard of has no rows: 0 is nobody's number.
        return self._small.get(relay, 0) << NUMBER_BITS

    def _position(self, key: int) -> Position:
        small = key >> NUMBER_BITS
        if small not in self._relays:
            self._learn_relays()
        return Position(self._relays[small], key & ((1 << NUMBER_BITS) - 1))

    def _learn_relays(self) -> None:
        rows = list(self._db.relays.find())
        self._relays = {row["small"]: row["_id"] for row in rows}
        self._small = {row["_id"]: row["small"] for row in rows}

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all reads of this thread in the block see the same moment of the store."""
        with self._client.start_session(snapshot=True) as session:
            self._moments.session = session
            try:
                yield
            finally:
                self._moments.session = None

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """Make one for what asks twice, where the caller has not."""
        if self._session() is not None:
            yield
            return
        with self.moment():
            yield

    def _session(self) -> ClientSession | None:
        return getattr(self._moments, "session", None)

    def close(self) -> None:
        """Let it go."""
