"""Somebody breaks the exchange or a queue under load: the sweep brings what no queue brought."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from events.topology import EXCHANGE, queue_name
from tests.acceptance.conftest import new_store, started
from tests.acceptance.crowd import crowd
from tests.acceptance.load import Load
from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.acceptance.proof import accepted, assert_kept, healed, until_applied
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

PER_S, BATCH = 100.0, 25
HEALED_WITHIN_S = 30.0
ENOUGH = 50  # events that a queue misses: some are lost for certain, whenever it is looked at
VICTIM = "calories"


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.new_vhost()


@pytest.fixture
def platform(tmp_path: Path, broker_url: str, mongod: Mongod) -> Iterator[Platform]:
    # Small batches are fetched ahead in small numbers, so that a queue has something to lose.
    platform = started(tmp_path, batch=BATCH, broker_url=broker_url, store_url=new_store(mongod))
    try:
        yield platform
        assert platform.stop() == 0
    finally:
        platform.close()


@pytest.fixture
def channel(broker_url: str) -> Iterator[BlockingChannel]:
    """What somebody breaks things with."""
    never_silent = pika.URLParameters(f"{broker_url}?heartbeat=0")
    with pika.BlockingConnection(never_silent) as connection:
        yield connection.channel()


@pytest.fixture
def load(platform: Platform) -> Load:
    return Load(platform, crowd(seed=20261126, count=10_000, users=10), per_s=PER_S)


def assert_healed(platform: Platform, load: Load, *, lost: set[str]) -> None:
    """All is good within the deadline, and the audit says whom the queues have failed."""
    until_applied(platform, len(load.posts), within_s=HEALED_WITHIN_S)
    workouts, ids = accepted(load.posts)
    assert_kept(platform, workouts, ids)
    assert {name for name, count in healed(platform).items() if count} >= lost


@contextmanager
def stopped(platform: Platform, name: str) -> Iterator[None]:
    """A consumer's worker hangs, so that it takes nothing from its queue."""
    worker = platform.processes()[name]
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)


def test_without_any_fault_nothing_is_healed(platform: Platform, load: Load) -> None:
    with load:
        load.go_on(8)
    assert_healed(platform, load, lost=set())
    assert healed(platform) == {}


def test_an_exchange_that_is_made_again_without_one_binding_loses_nothing(
    platform: Platform, channel: BlockingChannel, load: Load
) -> None:
    with load:
        load.go_on(2)
        channel.exchange_delete(EXCHANGE)
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        for name in BUILT_IN:
            if name != VICTIM:
                channel.queue_bind(queue_name(name), EXCHANGE, "workout.completed.#")
        keep_unbound(channel, load)
        load.go_on(2)
    assert_healed(platform, load, lost={VICTIM})


def keep_unbound(channel: BlockingChannel, load: Load) -> None:
    """Its worker binds it again every few seconds; until enough has passed by, take that back."""
    enough, deadline = len(load.posts) + ENOUGH, monotonic() + 30
    while len(load.posts) < enough:
        assert monotonic() < deadline
        channel.queue_unbind(queue_name(VICTIM), EXCHANGE, "workout.completed.#")
        channel.connection.sleep(0.02)


def test_a_queue_that_is_deleted_is_made_again_and_loses_nothing(
    platform: Platform, channel: BlockingChannel, load: Load
) -> None:
    with load:
        load.go_on(2)
        with stopped(platform, VICTIM):
            channel.queue_delete(queue_name(VICTIM))
            load.go_on(ENOUGH / PER_S)
        load.go_on(2)
    assert_healed(platform, load, lost={VICTIM})


def test_a_queue_that_is_purged_loses_nothing(
    platform: Platform, channel: BlockingChannel, load: Load
) -> None:
    with load:
        load.go_on(2)
        with stopped(platform, VICTIM):
            until(lambda: waiting(channel) >= ENOUGH, what="events wait in the queue")
            assert channel.queue_purge(queue_name(VICTIM)).method.message_count >= ENOUGH
        load.go_on(2)
    assert_healed(platform, load, lost={VICTIM})


def waiting(channel: BlockingChannel) -> int:
    """How many messages nobody has fetched yet."""
    return int(channel.queue_declare(queue_name(VICTIM), passive=True).method.message_count)


def test_it_heals_by_itself_that_all_queues_are_gone(
    platform: Platform, channel: BlockingChannel, load: Load
) -> None:
    """And the exchange with them, as after a broker that has lost its disk."""
    with load:
        load.go_on(2)
        channel.exchange_delete(EXCHANGE)
        for name in BUILT_IN:
            channel.queue_delete(queue_name(name))
        load.go_on(2)
    assert_healed(platform, load, lost=set())
