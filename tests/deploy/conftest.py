"""Real servers with the configuration of deploy/, and what prepare.py made for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import _missing
from tests.deploy.place import prepare
from tests.deploy.servers import Broker, Database


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What prepare.py writes, with one consumer more than there are."""
    return prepare(tmp_path_factory.mktemp("prepared") / "secrets", "--consumer", "recovery")


@pytest.fixture(scope="session")
def broker(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """RabbitMQ with deploy/rabbitmq: TLS, the definitions, every user."""
    server = Broker(tmp_path_factory.mktemp("broker"), prepared)
    try:
        server.start()
        yield server
    except LookupError as missing:
        _missing(str(missing))
    finally:
        server.end()


@pytest.fixture(scope="session")
def database(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """MongoDB with deploy/mongodb: TLS, a replica set of one, every user."""
    server = Database(tmp_path_factory.mktemp("database"), prepared)
    try:
        server.start()
        yield server
    except LookupError as missing:
        _missing(str(missing))
    finally:
        server.end()
