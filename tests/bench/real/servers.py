"""The servers to measure on: a private RabbitMQ and a private MongoDB, and new places on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.bench.figures import Void
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ


class Servers:
    """Both of them, and addresses on them that nobody has used."""

    def __init__(self, folder: Path) -> None:
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self.mongod = Mongod(folder / "mongod")
        self._numbers = count(1)

    def start(self) -> None:
        """Start both; raises Void where one is not installed."""
        try:
            self.mongod.start()
            self.rabbitmq.start()
        except LookupError as missing:
            raise Void(str(missing)) from missing

    def new_store_url(self) -> str:
        """Return the address of a new installation's databases."""
        return self.mongod.url.replace("/?", f"/bench{next(self._numbers)}?")

    def end(self) -> None:
        """Leave nothing of them running."""
        self.rabbitmq.end()
        self.mongod.kill()


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Both servers, until the block ends."""
    made = Servers(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()
