"""What every acceptance test needs: the platform, started, and gone without a rest afterwards."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from tests.acceptance.platform import Platform
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

Way = Callable[[], dict[str, object]]


class Start(Protocol):
    """Starts a platform with these settings, and plug-ins: name -> source."""

    def __call__(self, *, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
        """Return it when it is ready."""


def new_store(mongod: Mongod) -> str:
    """The address of databases that nobody has used."""
    return mongod.url.replace("/?", f"/t{uuid4().hex[:12]}?")


def started(folder: Path, *, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
    """A platform that is ready, and has these plug-ins from its start."""
    platform = Platform(folder, **settings)
    for name, source in (plugins or {}).items():
        (platform.plugins / f"{name}.py").write_text(source)
    try:
        platform.start()
    except BaseException:
        platform.close()
        raise
    return platform


@pytest.fixture(scope="module", params=["embedded", "distributed"])
def way(request: pytest.FixtureRequest) -> Way:
    """The settings of a new installation of each way to run it."""
    if request.param == "embedded":
        return dict
    rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
    mongod: Mongod = request.getfixturevalue("mongod")

    def servers() -> dict[str, object]:
        return {"broker_url": rabbitmq.new_vhost(), "store_url": new_store(mongod)}

    return servers


@pytest.fixture
def start(tmp_path: Path, way: Way) -> Iterator[Start]:
    platforms: list[Platform] = []

    def start_one(*, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
        folder, given = tmp_path / f"p{len(platforms)}", way() | settings
        platforms.append(started(folder, plugins=plugins, **given))
        return platforms[-1]

    yield start_one
    for platform in platforms:
        try:
            if platform.supervisor.poll() is None:
                assert platform.stop() == 0
            platform.assert_nothing_left()
        finally:
            platform.close()


@pytest.fixture(scope="session")
def _rabbitmq_to_break(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq-to-break"))
    yield server
    server.end()


@pytest.fixture
def rabbitmq_to_break(_rabbitmq_to_break: RabbitMQ, rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """A RabbitMQ that nobody else uses, whatever a test has done to the one that it had."""
    server = _rabbitmq_to_break
    if not server.running:
        server.start()
    yield server
    server.freeze(frozen=False)


@pytest.fixture
def mongod_to_break(tmp_path: Path, mongod: Mongod) -> Iterator[Mongod]:
    """A MongoDB that nobody else uses."""
    server = Mongod(tmp_path / "mongod")
    server.start()
    yield server
    server.freeze(frozen=False)
    server.kill()
