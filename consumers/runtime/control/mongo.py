"""The requests in the one MongoDB database that all processes of an installation write."""

import json
import time
from typing import Any, cast

from pymongo import ASCENDING
from pymongo.collection import ReturnDocument
from pymongo.errors import DuplicateKeyError

from consumers.runtime.control import Request, RequestState
from events.errors import Outage
from events.mongo import Client, Document, named_errors

_SAME = [("consumer", ASCENDING), ("verb", ASCENDING), ("arguments", ASCENDING)]
_OPEN = {"open": True}
_TRIES = 100
_HIGHEST = (1 << 63) - 1


class MongoControl:
    """The requests of one installation; the client stays its owner's to close."""

    def __init__(self, client: Client, name: str) -> None:
        """Make the collection where it is not yet; many processes may."""
        self._what = f"control database {name}"
        self._requests = client[name].requests
        self._counters = client[name].counters
        with named_errors(self._what):
            # There is one of the same kind while it is open, whoever asks at the same time.
            self._requests.create_index(_SAME, unique=True, partialFilterExpression=_OPEN)

    def ask(self, consumer: str, verb: str, arguments: dict[str, Any]) -> Request:
        """Write a request; one that is the same and still open is joined instead."""
        text = json.dumps(arguments, sort_keys=True)
        asked = {"consumer": consumer, "verb": verb, "arguments": text, **_OPEN}
        with named_errors(self._what):
            for _ in range(_TRIES):
                same = self._requests.find_one(asked) or self._insert(asked)
                if same is not None:
                    return _request(same)
        raise Outage(f"{self._what}: others ask for the same all the time.")

    def _insert(self, asked: Document) -> Document | None:
        row = {
            "_id": self._next_id(),
            **asked,
            "state": RequestState.WAITING,
            "done": 0,
            "total": 0,
            "memory": "{}",
            "answer": "{}",
            "asked_at": time.time(),
        }
        try:
            self._requests.insert_one(row)
        except DuplicateKeyError:
            return None
        return row

    def _next_id(self) -> int:
        counter = self._counters.find_one_and_update(
            {"_id": "request"},
            {"$inc": {"value": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int(cast(Document, counter)["value"])

    def get(self, request_id: int) -> Request:
        """Return a request; raises LookupError where there is none."""
        row = None
        if abs(request_id) <= _HIGHEST:
            with named_errors(self._what):
                row = self._requests.find_one({"_id": request_id})
        if row is None:
            raise LookupError(f"There is no operation {request_id}.")
        return _request(row)

    def listed(self, *, limit: int = 100) -> list[Request]:
        """Return the newest requests, newest first."""
        with named_errors(self._what):
            return [_request(row) for row in self._requests.find().sort("_id", -1).limit(limit)]

    def open(self, consumer: str) -> list[Request]:
        """Return what a consumer's leader has to do, oldest first."""
        with named_errors(self._what):
            rows = self._requests.find({"consumer": consumer, **_OPEN}).sort("_id")
            return [_request(row) for row in rows]

    def report(
        self, request_id: int, *, done: int, total: int, memory: dict[str, Any] | None = None
    ) -> bool:
        """Write progress; return False where the request was cancelled meanwhile."""
        kept = json.dumps(memory or {})
        told = {"state": RequestState.RUNNING, "done": done, "total": total, "memory": kept}
        return self._change(request_id, told)

    def finish(self, request_id: int, *, answer: dict[str, Any], failed: bool = False) -> None:
        """Write how it ended, unless it was cancelled before; what ended well is all done."""
        state = RequestState.FAILED if failed else RequestState.DONE
        # In an update that computes, a text that begins with a dollar would be a field's name.
        told: Document = {"answer": {"$literal": json.dumps(answer)}}
        self._end(request_id, told if failed else told | {"done": "$total"}, state)

    def cancel(self, request_id: int) -> bool:
        """End a request that is still open; its owner stops at its next step."""
        return self._end(request_id, {}, RequestState.CANCELLED)

    def _end(self, request_id: int, told: Document, state: RequestState) -> bool:
        ended = {**told, "state": state, "open": False, "ended_at": time.time()}
        return self._change(request_id, [{"$set": ended}])

    def _change(self, request_id: int, told: Document | list[Document]) -> bool:
        change = told if isinstance(told, list) else {"$set": told}
        with named_errors(self._what):
            done = self._requests.update_one({"_id": request_id, **_OPEN}, change)
        return bool(done.matched_count)

    def close(self) -> None:
        """Let it go."""


def _request(row: Document) -> Request:
    return Request(
        id=row["_id"],
        consumer=row["consumer"],
        verb=row["verb"],
        arguments=json.loads(row["arguments"]),
        state=RequestState(row["state"]),
        done=row["done"],
        total=row["total"],
        memory=json.loads(row["memory"]),
        answer=json.loads(row["answer"]),
        asked_at=row["asked_at"],
    )
