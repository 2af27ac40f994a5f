"""The log and the stores of one installation on MongoDB, for reading."""

import threading

from consumers.runtime.store.mongo_reader import MongoStoreReader
from events.log.mongo_reader import MongoLogReader
from events.mongo import Client, database_name, named_errors
from events.settings import Settings
from events.ways import mongo


def drop(client: Client, database: str) -> bool:
    """Take a database away for good, and say whether there was one. Raises Outage."""
    with named_errors(f"database {database}"):
        there = database in client.list_database_names()
        client.drop_database(database)
    return there


class MongoReaders:
    """One client for all threads, connected at the first read; Outage as long as that fails."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = threading.local()

    def _client(self) -> Client:
        return mongo(self._settings.store_url)

    def log(self) -> MongoLogReader:
        """Return the event log; what no relay has made yet is empty."""
        if not hasattr(self._held, "log"):
            client = self._client()
            self._held.log = MongoLogReader(client, database_name(client))
        log: MongoLogReader = self._held.log
        return log

    def store(self, name: str) -> MongoStoreReader:
        """Return a consumer's store; what no worker has made yet is empty."""
        stores: dict[str, MongoStoreReader] = self._held.__dict__.setdefault("stores", {})
        if name not in stores:
            client = self._client()
            stores[name] = MongoStoreReader(client, database_name(client, name))
        return stores[name]

    def reopen(self) -> None:
        """Nothing is to be opened again: the client finds its servers by itself."""
