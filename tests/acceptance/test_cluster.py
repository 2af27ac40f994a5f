"""A broker of three nodes loses one of them under load, whichever matters most."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pika
import pytest

from events.bus.rabbitmq import QUEUE_ARGUMENTS
from events.topology import queue_name
from tests.acceptance.conftest import new_store, started
from tests.acceptance.crowd import crowd
from tests.acceptance.load import Load
from tests.acceptance.platform import BUILT_IN, Platform
from tests.acceptance.proof import accepted, assert_kept, ended_by_itself, until_applied
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import Cluster, RabbitMQ

PER_S, AROUND_S, AWAY_S = 100.0, 4.0, 8.0
CROWD = crowd(seed=20261130, count=20_000, users=10)


class Place(NamedTuple):
    """A platform that is connected to one node, while another one leads all of its queues."""

    platform: Platform
    connected: RabbitMQ
    leader: RabbitMQ


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


@pytest.fixture
def place(tmp_path: Path, cluster: Cluster, mongod: Mongod) -> Iterator[Place]:
    connected, leader, _ = cluster.nodes
    vhost = cluster.new_vhost()
    # A queue is led by the node where it was made.
    with pika.BlockingConnection(pika.URLParameters(leader.url_of(vhost))) as connection:
        for name in BUILT_IN:
            connection.channel().queue_declare(
                queue_name(name), durable=True, arguments=QUEUE_ARGUMENTS
            )
    platform = started(
        tmp_path / "data", broker_url=cluster.url_of(vhost), store_url=new_store(mongod)
    )
    try:
        assert cluster.leader(queue_name("calories"), vhost=vhost) is leader
        yield Place(platform, connected, leader)
        assert platform.stop() == 0
    finally:
        platform.close()


def test_the_node_that_leads_the_queues_may_die(place: Place) -> None:
    with Load(place.platform, CROWD, per_s=PER_S) as load:
        load.go_on(AROUND_S)
        place.leader.kill()
        load.go_on(AWAY_S)
        # Two of three are a majority: everything goes on while it is away.
        until_applied(place.platform, len(load.posts), at_least=True)
        place.leader.start()
        load.go_on(AROUND_S)
    assert_nothing_lost(place.platform, load)


def test_the_node_that_it_is_connected_to_may_die(place: Place) -> None:
    with Load(place.platform, CROWD, per_s=PER_S) as load:
        load.go_on(AROUND_S)
        place.connected.kill()
        load.go_on(AWAY_S)
        # The URL names the others.
        until_applied(place.platform, len(load.posts), at_least=True)
        place.connected.start()
        load.go_on(AROUND_S)
    assert_nothing_lost(place.platform, load)


def assert_nothing_lost(platform: Platform, load: Load) -> None:
    until_applied(platform, len(load.posts))
    workouts, ids = accepted(load.posts)
    assert_kept(platform, workouts, ids)
    assert not ended_by_itself(platform)
