"""What holds for every test: no settings from outside, no clock that judges, real servers."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

# How long an example takes says how busy the machine is, nothing about the code.
settings.register_profile("paceline", deadline=None, print_blob=True)
settings.load_profile("paceline")

# A shell that runs this in the background ignores Ctrl-C, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PACELINE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """One real mongod for all tests; each makes databases with names of its own."""
    server = Mongod(tmp_path_factory.mktemp("mongod"))
    try:
        server.start()
    except LookupError as missing:
        _missing(str(missing))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One real RabbitMQ for all tests; each has a vhost of its own, see `new_vhost`."""
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    except LookupError as missing:
        _missing(str(missing))
    finally:
        server.end()


def _missing(why: str) -> None:
    """Skip where a developer lacks a server; in CI that is a failure."""
    if "CI" in os.environ:
        pytest.fail(why)
    pytest.skip(why)
