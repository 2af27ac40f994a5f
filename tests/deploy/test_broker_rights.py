"""What each user of the broker may do, and what the broker refuses: no more than its work needs."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ProbableAuthenticationError,
    UnroutableError,
)

from events.bus.rabbitmq import QUEUE_ARGUMENTS
from events.bus.rabbitmq_nodes import parameters
from events.bus.rabbitmq_publisher import RabbitPublisher
from events.bus.rabbitmq_subscription import RabbitSubscription
from events.envelope import seal
from events.log import Appended, Outcome, Position
from events.topology import EXCHANGE, queue_name
from tests.deploy.place import CONSUMERS, prepare
from tests.deploy.servers import Broker
from tests.factories import workout
from tests.integration.world import ACCEPTED_AT, until

EVERY_CONSUMER = (*CONSUMERS, "recovery")
REFUSED = 403
KEY = "workout.completed.running"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
Act = Callable[[BlockingChannel], object]


@contextmanager
def channel_of(broker: Broker, user: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(parameters(broker.url_for(user), name=user)) as connection:
        yield connection.channel()


def refused(broker: Broker, user: str, act: Act) -> bool:
    """Whether the broker says that a user may not; anything else that goes wrong is an error."""
    with channel_of(broker, user) as channel:
        # A refused message closes the channel at some later moment; with confirms it is awaited.
        channel.confirm_delivery()
        try:
            act(channel)
        except ChannelClosedByBroker as error:
            if error.reply_code != REFUSED:
                raise
            return True
        return False


def begin(broker: Broker, consumer: str) -> None:
    """What a worker does at its start, with its own rights."""
    with channel_of(broker, consumer) as channel:
        channel.exchange_declare(EXCHANGE, passive=True)
        channel.queue_declare(queue_name(consumer), durable=True, arguments=QUEUE_ARGUMENTS)
        channel.queue_bind(queue_name(consumer), EXCHANGE, "workout.completed.#")
        channel.queue_bind(queue_name(consumer), EXCHANGE, "workout.abandoned.#")
        channel.queue_unbind(queue_name(consumer), EXCHANGE, "workout.abandoned.#")
        channel.queue_purge(queue_name(consumer))


def send(broker: Broker, body: bytes) -> None:
    """What the relay does, confirmed and mandatory: it raises where no queue takes it."""
    with channel_of(broker, "relay") as channel:
        channel.exchange_declare(EXCHANGE, passive=True)
        channel.confirm_delivery()
        channel.basic_publish(EXCHANGE, KEY, body, PERSISTENT, mandatory=True)


def taken(broker: Broker, consumer: str) -> bytes:
    with channel_of(broker, consumer) as channel:
        channel.basic_qos(prefetch_count=10)
        for method, _properties, body in channel.consume(queue_name(consumer), auto_ack=False):
            channel.basic_ack(method.delivery_tag, multiple=True)
            return body
    raise AssertionError("it brings nothing")


def waiting(broker: Broker, user: str, consumer: str) -> int:
    with channel_of(broker, user) as channel:
        return int(channel.queue_declare(queue_name(consumer), passive=True).method.message_count)


def publish(exchange: str, key: str) -> Act:
    return lambda channel: channel.basic_publish(exchange, key, b"forged", PERSISTENT)


@pytest.mark.parametrize("consumer", EVERY_CONSUMER)
def test_a_consumer_makes_its_queue_and_takes_what_the_relay_sends(
    broker: Broker, consumer: str
) -> None:
    begin(broker, consumer)
    send(broker, f"for {consumer}".encode())
    assert taken(broker, consumer) == f"for {consumer}".encode()


@pytest.mark.parametrize("consumer", ["calories", "achievements"])
def test_these_rights_are_enough_for_the_relay_and_a_worker(broker: Broker, consumer: str) -> None:
    begin(broker, consumer)
    subscription = RabbitSubscription(broker.url_for(consumer), consumer, ("workout.completed.#",))
    publisher = RabbitPublisher(broker.url_for("relay"))
    with closing(subscription), closing(publisher):
        assert subscription.wait_until_ready(30)
        body = seal(workout(), accepted_at=ACCEPTED_AT).body
        at = Position("a relay", 1)
        sending = publisher.publish([Appended(Outcome.NEW, at, KEY, body)])
        assert sending.confirmed() == [at]
        batch = next(batch for batch in subscription.batches() if batch.deliveries)
        assert batch.deliveries[0].body == body
        subscription.ack(batch)
        assert subscription.problem is None
        until(lambda: in_hand(broker, consumer) == 0, what="everything is acked")


def in_hand(broker: Broker, consumer: str) -> int:
    """How many messages of a queue there are, also those that a worker has."""
    listed = broker.ctl(
        "list_queues", "--vhost", "paceline", "name", "messages", "--no-table-headers"
    )
    return int(dict(line.split() for line in listed.splitlines())[queue_name(consumer)])


def test_the_exchange_is_there_before_anybody_has_declared_it(broker: Broker) -> None:
    with channel_of(broker, "relay") as channel:
        channel.confirm_delivery()
        with pytest.raises(UnroutableError):
            channel.basic_publish(EXCHANGE, "workout.nobody", b"", PERSISTENT, mandatory=True)


RELAY_MAY_NOT: dict[str, Act] = {
    "read a queue": lambda channel: channel.basic_get(queue_name("calories")),
    "consume": lambda channel: channel.basic_consume(queue_name("calories"), print),
    "declare the exchange": lambda channel: channel.exchange_declare(
        EXCHANGE, "topic", durable=True
    ),
    "declare another exchange": lambda channel: channel.exchange_declare("other", "topic"),
    "delete the exchange": lambda channel: channel.exchange_delete(EXCHANGE),
    "declare a queue": lambda channel: channel.queue_declare("other", durable=True),
    "delete a queue": lambda channel: channel.queue_delete(queue_name("calories")),
    "bind": lambda channel: channel.queue_bind(queue_name("calories"), EXCHANGE, "workout.#"),
    "send to one queue": publish("", "paceline.calories"),
    "tell what consumers tell": publish(EXCHANGE, "achievement.unlocked"),
}


@pytest.mark.parametrize("what", RELAY_MAY_NOT)
def test_the_relay_may_publish_and_not(broker: Broker, what: str) -> None:
    begin(broker, "calories")
    assert refused(broker, "relay", RELAY_MAY_NOT[what])
    assert waiting(broker, "scaler", "calories") == 0


CALORIES_MAY_NOT: dict[str, Act] = {
    "read another's queue": lambda channel: channel.basic_get(queue_name("leaderboard")),
    "declare another's queue": lambda channel: channel.queue_declare(
        queue_name("leaderboard"), durable=True, arguments=QUEUE_ARGUMENTS
    ),
    "delete another's queue": lambda channel: channel.queue_delete(queue_name("leaderboard")),
    "purge another's queue": lambda channel: channel.queue_purge(queue_name("leaderboard")),
    "unbind another's queue": lambda channel: channel.queue_unbind(
        queue_name("leaderboard"), EXCHANGE, "workout.completed.#"
    ),
    "have a queue with a longer name": lambda channel: channel.queue_declare("paceline.calories2"),
    "bind to what is not of workouts": lambda channel: channel.queue_bind(
        queue_name("calories"), EXCHANGE, "#"
    ),
    "delete the exchange": lambda channel: channel.exchange_delete(EXCHANGE),
    "publish a workout": publish(EXCHANGE, KEY),
    "publish an achievement": publish(EXCHANGE, "achievement.unlocked"),
    "send to a queue": publish("", "paceline.leaderboard"),
}


@pytest.mark.parametrize("what", CALORIES_MAY_NOT)
def test_a_consumer_may_not(broker: Broker, what: str) -> None:
    begin(broker, "calories")
    begin(broker, "leaderboard")
    assert refused(broker, "calories", CALORIES_MAY_NOT[what])
    assert waiting(broker, "scaler", "leaderboard") == 0


def test_achievements_publishes_achievements_and_no_workout(broker: Broker) -> None:
    assert not refused(broker, "achievements", publish(EXCHANGE, "achievement.unlocked"))
    assert refused(broker, "achievements", publish(EXCHANGE, KEY))


def test_the_scaler_sees_how_long_a_queue_is_and_nothing_in_it(broker: Broker) -> None:
    begin(broker, "calories")
    send(broker, b"one")
    assert waiting(broker, "scaler", "calories") == 1
    assert refused(broker, "scaler", lambda channel: channel.basic_get(queue_name("calories")))
    assert refused(broker, "scaler", lambda channel: channel.queue_purge(queue_name("calories")))
    assert refused(broker, "scaler", publish(EXCHANGE, KEY))
    assert taken(broker, "calories") == b"one"


def test_the_operator_sends_to_one_queue_and_removes_it(broker: Broker) -> None:
    begin(broker, "recovery")
    assert not refused(broker, "operator", publish("", "paceline.recovery"))
    assert waiting(broker, "operator", "recovery") == 1
    assert refused(broker, "operator", lambda channel: channel.basic_get(queue_name("recovery")))
    assert refused(broker, "operator", publish(EXCHANGE, KEY))
    assert refused(broker, "operator", lambda channel: channel.exchange_delete(EXCHANGE))
    assert not refused(broker, "operator", lambda ch: ch.queue_delete(queue_name("recovery")))


def test_a_wrong_password_and_a_default_user_do_not_enter(broker: Broker) -> None:
    right = broker.url_for("relay")
    who = right.partition("://")[2].partition("@")[0]
    for wrong in ("relay:", "relay:wrong", "guest:guest"):
        with pytest.raises(ProbableAuthenticationError):
            pika.BlockingConnection(parameters(right.replace(who, wrong), name="stranger"))


def test_a_broker_of_another_authority_is_not_spoken_to(broker: Broker, tmp_path: Path) -> None:
    others = prepare(tmp_path / "secrets")
    url, _, _query = broker.url_for("relay").partition("?")
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in"):
        pika.BlockingConnection(parameters(f"{url}?cafile={others}/ca.crt", name="relay"))


def test_what_the_certificate_does_not_name_is_not_spoken_to(broker: Broker) -> None:
    (settings,) = parameters(broker.url_for("relay"), name="relay")
    assert settings.ssl_options is not None
    settings.ssl_options.server_hostname = "elsewhere.example"
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'elsewhere"):
        pika.BlockingConnection(settings)


def test_without_tls_nobody_is_served(broker: Broker) -> None:
    plain = broker.url_for("relay").replace("amqps://", "amqp://").partition("?")[0]
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(parameters(plain, name="relay"))
