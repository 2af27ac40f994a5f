"""The broker or the store goes away under load: the app sees nothing, and all is made good."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.conftest import new_store, started
from tests.acceptance.crowd import crowd
from tests.acceptance.outage import ride_through
from tests.acceptance.platform import Platform
from tests.acceptance.proof import accepted, assert_kept, ended_by_itself
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

# The one who waits for a frozen server gives up after 10 s.
AWAY_S = {"broker killed": 5.0, "broker frozen": 12.0, "store killed": 5.0, "store frozen": 12.0}
CROWD = crowd(seed=20261125, count=20_000, users=20)


class Servers(NamedTuple):
    """What stands behind the door, to be broken."""

    rabbitmq: RabbitMQ
    mongod: Mongod


Act = Callable[[Servers], None]
OUTAGES: dict[str, tuple[Act, Act]] = {
    "broker killed": (
        lambda servers: servers.rabbitmq.kill(),
        lambda servers: servers.rabbitmq.start(),
    ),
    "broker frozen": (
        lambda servers: servers.rabbitmq.freeze(frozen=True),
        lambda servers: servers.rabbitmq.freeze(frozen=False),
    ),
    "store killed": (
        lambda servers: servers.mongod.kill(),
        lambda servers: servers.mongod.start(),
    ),
    "store frozen": (
        lambda servers: servers.mongod.freeze(frozen=True),
        lambda servers: servers.mongod.freeze(frozen=False),
    ),
}


@pytest.fixture
def servers(rabbitmq_to_break: RabbitMQ, mongod_to_break: Mongod) -> Servers:
    return Servers(rabbitmq_to_break, mongod_to_break)


@pytest.fixture
def platform(tmp_path: Path, servers: Servers) -> Iterator[Platform]:
    broker_url, store_url = servers.rabbitmq.new_vhost(), new_store(servers.mongod)
    platform = started(tmp_path / "data", broker_url=broker_url, store_url=store_url)
    try:
        yield platform
        assert platform.stop() == 0
    finally:
        platform.close()


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_under_load_is_not_seen_by_the_app_and_made_good_afterwards(
    platform: Platform, servers: Servers, outage: str
) -> None:
    leave, come_back = OUTAGES[outage]
    ridden = ride_through(
        platform,
        CROWD,
        leave=lambda: leave(servers),
        come_back=lambda: come_back(servers),
        away_s=AWAY_S[outage],
    )
    print(f"\n{outage}: {ridden}")
    assert all(len(part) > 200 for part in ridden.latencies().values())
    workouts, ids = accepted(ridden.posts)
    assert_kept(platform, workouts, ids)
    assert not ended_by_itself(platform)
