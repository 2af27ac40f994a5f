"""Which store, which control and which subscription the settings choose for consumers."""

import os
import socket
from typing import TYPE_CHECKING
from uuid import uuid4

from consumers.runtime.control import Control
from consumers.runtime.control.sqlite import SqliteControl
from consumers.runtime.file_readers import FileReaders
from consumers.runtime.parts import Subscribe
from consumers.runtime.store import Store
from consumers.runtime.store.sqlite import SqliteStore
from events.bus import Queue, Subscription
from events.bus.embedded import EmbeddedSubscription
from events.lock import FileLock
from events.log import LogReader, Watermarks
from events.settings import Settings
from events.ways import mongo

if TYPE_CHECKING:
    from consumers.runtime.mongo_readers import MongoReaders

# What a broker brings at once; more would wait in this process, and be lost with it.
_QUEUE_BATCH = 2_000


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


def queue_of(settings: Settings, name: str) -> Queue | None:
    """Return a consumer's queue, or None where the log itself is the bus."""
    if not settings.broker_url:
        return None
    from events.bus.rabbitmq import RabbitQueue

    return RabbitQueue(settings.broker_url, name, size=min(settings.batch, _QUEUE_BATCH))


def subscribe(settings: Settings, name: str, log: LogReader) -> Subscribe:
    """Return how a worker of a consumer subscribes."""
    if settings.broker_url:
        return _to_queue(settings, name)

    def to_log(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Subscription:
        return EmbeddedSubscription(
            log, bindings, start=start, size=settings.batch, suspects=suspects
        )

    return to_log


def _to_queue(settings: Settings, name: str) -> Subscribe:
    from events.bus.rabbitmq_subscription import RabbitSubscription

    former: set[str] = set()

    def to_queue(bindings: tuple[str, ...], start: Watermarks, suspects: int) -> Subscription:
        unbound = former - set(bindings)
        former.update(bindings)
        size = min(settings.batch, _QUEUE_BATCH)
        return RabbitSubscription(
            settings.broker_url, name, bindings, former=tuple(unbound), size=size
        )

    return to_queue
