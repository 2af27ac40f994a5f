"""The workers of a consumer in its MongoDB database: who is there, who leads, who has died."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import structlog
from pymongo.client_session import ClientSession
from pymongo.collection import ReturnDocument
from pymongo.errors import OperationFailure

from consumers.runtime.store import Lead
from consumers.runtime.store.mongo_rows import GONE_AFTER_MS
from events.mongo import Client, Document, MongoDatabase, named_errors

logger = structlog.get_logger(__name__)

LEASE_MS = 10_000
_LEAD = {"_id": "lead"}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_DEAD = "ZX"


class MongoWorkers:
    """One worker among the others; all times are the server's."""

    def __init__(
        self,
        client: Client,
        database: MongoDatabase,
        what: str,
        worker: str,
        session: ClientSession,
    ) -> None:
        self._client, self._db, self._what = client, database, what
        self._worker = worker
        self._myself: Document = {
            "session": session.session_id["id"],
            "host": _host(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
        }

    def lead(self) -> Lead:
        """Say that this worker is there, bury those who are not, and take or keep the lead."""
        with named_errors(self._what):
            told = {"$set": {**self._myself, "seen": "$$NOW"}}
            self._db.workers.update_one({"_id": self._worker}, [told], upsert=True)
            for worker in self._others():
                if worker["late"] or self._died(worker):
                    self._bury(worker)
            return self._lease()

    def _others(self) -> list[Document]:
        late = {"$lt": ["$seen", {"$subtract": ["$$NOW", GONE_AFTER_MS]}]}
        others = {"$match": {"_id": {"$ne": self._worker}}}
        return list(self._db.workers.aggregate([others, {"$set": {"late": late}}]))

    def _died(self, worker: Document) -> bool:
        """Say whether a process of this host is not there any more, or is another one by now."""
        here = worker["host"] == self._myself["host"]
        return bool(here) and worker["started"] != _started(worker["pid"])

    def _bury(self, worker: Document) -> None:
        """End what a worker left, so that its lead and its documents are free at once."""
        self._end_session(worker)
        self._db.lead.update_one(
            {**_LEAD, "owner": worker["_id"]}, {"$set": {"expires": _LONG_AGO}}
        )
        self._db.workers.delete_one({"_id": worker["_id"], "seen": worker["seen"]})
        logger.warning("worker is gone", action="bury_worker", worker=worker["_id"])

    def _end_session(self, worker: Document) -> None:
        """End its open transaction, which would hold its documents for as long as a minute."""
        try:
            self._client.admin.command("killSessions", [{"id": worker["session"]}])
        except OperationFailure as refused:
            # The server ends it also, only later.
            logger.warning(
                "session not ended", action="end_session", worker=worker["_id"], reason=str(refused)
            )

    def _lease(self) -> Lead:
        mine = {"$eq": ["$owner", self._worker]}
        free = {"$lte": [{"$ifNull": ["$expires", _LONG_AGO]}, "$$NOW"]}
        taken = {
            "owner": self._worker,
            "former": {"$ifNull": ["$owner", ""]},
            "expires": {"$add": ["$$NOW", LEASE_MS]},
        }
        lease = self._db.lead.find_one_and_update(
            _LEAD,
            [{"$set": {name: _either(mine, free, new, name) for name, new in taken.items()}}],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return self._meaning(cast(Document, lease))

    def _meaning(self, lease: Document) -> Lead:
        if lease["owner"] != self._worker:
            return Lead.NONE
        if lease["former"] == self._worker:
            return Lead.HELD
        if not lease["former"]:
            return Lead.TAKEN
        former = self._db.workers.find_one({"_id": lease["former"]})
        if former:  # it is stuck: what it has begun must not come after what this one does
            self._end_session(former)
        return Lead.INHERITED

    def leave(self) -> None:
        """Say that this worker ends, and cleanly."""
        with named_errors(self._what):
            free = {"$set": {"owner": "", "expires": _LONG_AGO}}
            self._db.lead.update_one({**_LEAD, "owner": self._worker}, free)
            self._db.workers.delete_one({"_id": self._worker})


def _either(mine: Document, free: Document, new: Any, name: str) -> Document:
    return {"$cond": [{"$or": [mine, free]}, new, f"${name}"]}


def _host() -> str:
    """Return what tells the processes that this one can see from all others.

    Containers may share a host's name, and have process numbers of their own.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"


def _started(pid: int) -> int | None:
    """Return when a process started, by the kernel's clock, or None where there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = told.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in _DEAD else int(rest[18])
