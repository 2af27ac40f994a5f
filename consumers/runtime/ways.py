"""Which store, which control and which subscription the settings choose for consumers."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from consumers.runtime.control import Control
from consumers.runtime.control.sqlite import SqliteControl
from consumers.runtime.file_readers import FileReaders
from consumers.runtime.parts import Carry, Subscribe
from consumers.runtime.registry import find
from consumers.runtime.store import Store
from consumers.runtime.store.sqlite import SqliteStore
from events.bus import Queue, Subscription
from events.bus.embedded import EmbeddedSubscription
from events.lock import FileLock
from events.log import LogReader, Watermarks
from events.patience import Patience
from events.relay import Relay
from events.settings import Settings
from events.sources import Bookmarks, Source
from events.ways import mongo, publisher, shared_log

if TYPE_CHECKING:
    from consumers.runtime.mongo_readers import MongoReaders

logger = structlog.get_logger(__name__)
# What a broker brings at once; more would wait in this process, and be lost with it.
_QUEUE_BATCH = 2_000
_CARRIED_WITHIN_S = 2.0


def readers(settings: Settings) -> "FileReaders | MongoReaders":
    """Return what reads the log and the stores; opens nothing yet."""
    if not settings.store_url:
        return FileReaders(settings)
    from consumers.runtime.mongo_readers import MongoReaders

    return MongoReaders(settings)


def open_store(settings: Settings, name: str) -> Store:
    """Open or make a consumer's store for a worker; a file's lock is held by the caller."""
    if not settings.store_url:
        return SqliteStore(settings.store_file(name))
    from consumers.runtime.store.mongo import MongoStore
    from events.mongo import database_name

    client = mongo(settings.store_url)
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    return MongoStore(client, database_name(client, name), worker)


def fact_sources(settings: Settings) -> Callable[[], list[Source]]:
    """Return what finds the facts that consumers of this host hold in files, for its relay.

    Facts in a database are carried on by the leader of their consumer.
    """
    if settings.store_url:
        return list
    files, told = FileReaders(settings), dict[str, str]()

    def sources() -> list[Source]:
        found: list[Source] = []
        for name in find(settings.plugins):
            try:
                store = files.store(name)
                facts = store.facts() if store else None
                if facts and facts.rows(0, limit=1):
                    found.append(facts)
            except Exception as error:  # noqa: BLE001  # one file in pieces holds up no other one
                if told.get(name) != str(error):  # it is asked every second
                    told[name] = str(error)
                    logger.warning("no facts", action="no_facts", consumer=name, reason=str(error))
        return found

    return sources


def carries(settings: Settings, patience: Patience) -> Carry | None:
    """Return what makes a consumer's leader carry its facts on; None where the relay does."""
    if not settings.store_url:
        return None

    def carry(sources: Callable[[], Sequence[Source]], bookmarks: Bookmarks) -> Relay:
        # The worker waits for it, and folds nothing meanwhile: what is late comes from the log.
        log, out = shared_log(settings), publisher(settings, wait_s=_CARRIED_WITHIN_S)
        return Relay((), log, out, bookmarks, patience=patience, further=sources, unconfirmed_s=0.0)

    return carry


def drop_store(settings: Settings, name: str) -> bool:
    """Take a consumer's store away for good, and say whether there was one; no worker may run."""
    if settings.store_url:
        from consumers.runtime.mongo_readers import drop
        from events.mongo import database_name

        client = mongo(settings.store_url)
        return drop(client, database_name(client, name))
    file = settings.store_file(name)
    there = file.exists()
    with FileLock(file):
        for ending in ("", "-wal", "-shm", ".lock"):
            file.with_name(file.name + ending).unlink(missing_ok=True)
        file.with_suffix(".traceback").unlink(missing_ok=True)
    return there


def open_control(settings: Settings) -> Control:
    """Open the requests of this installation."""
    if not settings.store_url:
        return SqliteControl(settings.control_file)
    from consumers.runtime.control.mongo import MongoControl
    from events.mongo import database_name

    client = mongo(settings.store_url)
    return MongoControl(client, database_name(client))


def queue_of(settings: Settings, name: str, *, batch: int = _QUEUE_BATCH) -> Queue | None:
    """Return a consumer's queue, or None where the log itself is the bus."""
    if not settings.broker_url:
        return None
    from events.bus.rabbitmq import RabbitQueue

    return RabbitQueue(settings.broker_url, name, size=min(batch, _QUEUE_BATCH))


def subscribe(settings: Settings, name: str, log: LogReader, *, batch: int) -> Subscribe:
    """Return how a worker of a consumer subscribes."""
    if settings.broker_url:
        return _to_queue(settings, name, batch)

    def to_log(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Subscription:
        return EmbeddedSubscription(log, bindings, start=start, size=batch, suspects=suspects)

    return to_log


def _to_queue(settings: Settings, name: str, batch: int) -> Subscribe:
    from events.bus.rabbitmq_subscription import RabbitSubscription

    former: set[str] = set()

    def to_queue(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Subscription:
        unbound = former - set(bindings)
        former.update(bindings)
        size = min(batch, _QUEUE_BATCH)
        return RabbitSubscription(
            settings.broker_url, name, bindings, former=tuple(unbound), size=size
        )

    return to_queue
