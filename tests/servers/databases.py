"""Databases of a test's own on the mongod of all tests, dropped after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from events.mongo import Client, connect
from tests.servers.mongod import Mongod


class Databases:
    """Gives names that nobody has used."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._given: list[str] = []

    def new_name(self) -> str:
        """A database that is not there yet."""
        self._given.append(f"test-{uuid4().hex}")
        return self._given[-1]

    def drop(self) -> None:
        """Take away all that there are."""
        while self._given:
            self.client.drop_database(self._given.pop())


@contextmanager
def databases(server: Mongod) -> Iterator[Databases]:
    """Databases with a client, until the block ends."""
    with connect(server.url) as client:
        made = Databases(client)
        try:
            yield made
        finally:
            made.drop()
