"""What RabbitMQ does to a bus when it is killed, frozen, full, or changed by somebody else."""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.adapters.blocking_connection import BlockingChannel
from structlog.testing import capture_logs

from events.bus import UNREADABLE, Batch, Delivery, Publisher
from events.bus.rabbitmq import (
    QUEUE_ARGUMENTS,
    RabbitQueue,
    delete_queue,
    queue_length,
)
from events.bus.rabbitmq_publisher import RabbitPublisher
from events.bus.rabbitmq_sending import CONFIRMED, REFUSED, RabbitSending
from events.bus.rabbitmq_subscription import RabbitSubscription
from events.envelope import seal
from events.errors import Outage
from events.log import Appended, Outcome, Position
from events.topology import EXCHANGE, queue_name
from tests.contract.test_event_log import EVERY_EXAMPLE
from tests.factories import workout
from tests.integration.world import until
from tests.servers.ports import free_port
from tests.servers.rabbitmq import Cluster, RabbitMQ

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = "workout.completed.running"
FOUR = ("calories", "achievements", "leaderboard", "monthly-report")
ALL = ("#",)
MENDED_WITHIN_S = 10.0


def event(number: int) -> Appended:
    """An event as the log answers it."""
    body = seal(workout(workout_id=f"w{number}"), accepted_at=NOON).body
    return Appended(Outcome.NEW, Position("a relay", number), KEY, body)


def events(count: int, *, after: int = 0) -> list[Appended]:
    return [event(after + number + 1) for number in range(count)]


def positions(of: Sequence[Appended] | Sequence[Delivery]) -> list[Position]:
    return [one.position for one in of]


def send(publisher: Publisher, unsent: Sequence[Appended]) -> None:
    """Publish until all are confirmed, through every outage, as the relay does."""
    deadline = time.monotonic() + 60
    while unsent:
        assert time.monotonic() < deadline, f"{len(unsent)} are not confirmed"
        try:
            confirmed = set(publisher.publish(unsent).confirmed())
        except Outage:
            continue
        unsent = [one for one in unsent if one.position not in confirmed]


class Reader:
    """A subscription, read in the test's own thread."""

    def __init__(self, subscription: RabbitSubscription) -> None:
        self.subscription = subscription
        self._batches = subscription.batches()

    def next(self) -> Batch:
        return next(self._batches)

    def held(self) -> Batch:
        """The next batch that brings anything, not acked."""
        deadline = time.monotonic() + 30
        while not (batch := self.next()).deliveries:
            assert time.monotonic() < deadline, "no batch came"
        return batch

    def take(self, wanted: Sequence[Position], *, within_s: float = 60) -> list[Delivery]:
        """Ack all that comes until the wanted ones are there."""
        missing, taken = set(wanted), list[Delivery]()
        deadline = time.monotonic() + within_s
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} of {len(wanted)} did not come"
            batch = self.next()
            self.subscription.ack(batch)
            taken += batch.deliveries
            missing -= set(positions(batch.deliveries))
        return taken


class Place:
    """One vhost, with whatever a test opens on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.vhost = url.rpartition("/")[2]
        self._open: list[RabbitSubscription | RabbitPublisher] = []

    def reader(self, consumer: str, bindings: Sequence[str] = ALL, **options: Any) -> Reader:
        made = RabbitSubscription(self.url, consumer, bindings, **options)
        self._open.append(made)
        assert made.wait_until_ready(20), made.problem
        return Reader(made)

    def subscription(self, consumer: str, **options: Any) -> RabbitSubscription:
        self._open.append(made := RabbitSubscription(self.url, consumer, ALL, **options))
        made.wait_until_ready(0)  # it begins when somebody takes, or waits for it
        return made

    def publisher(self, **options: Any) -> RabbitPublisher:
        self._open.append(made := RabbitPublisher(self.url, **options))
        return made

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """What an operator or a stranger does; what is published is in its queue then."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel

    def close(self) -> None:
        for one in self._open:
            one.close()


@pytest.fixture
def new_place(rabbitmq: RabbitMQ) -> Iterator[Callable[[], Place]]:
    places: list[Place] = []

    def make() -> Place:
        places.append(Place(rabbitmq.new_vhost()))
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


def cut(rabbitmq: RabbitMQ, place: Place) -> None:
    """Have the broker close every connection to a place."""
    rabbitmq.ctl("close_all_connections", "--vhost", place.vhost, "cut")


# The broker goes away.


def test_a_broker_that_is_killed_in_mid_publish_loses_nothing_in_any_queue(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    readers = [place.reader(name) for name in FOUR]
    until(lambda: rabbitmq.remembers(place.vhost, map(queue_name, FOUR)), what="it has the names")
    publisher, sent = place.publisher(confirm_s=3), events(6_000)
    batches = deque(sent[start : start + 500] for start in range(0, len(sent), 500))
    send(publisher, batches.popleft())
    with ThreadPoolExecutor() as threads:
        on_their_way = [publisher.publish(batches.popleft()) for _ in range(publisher.window)]
        rabbitmq.kill()
        back = threads.submit(rabbitmq.start)
        unconfirmed = [
            [one for one in sending.events if one.position not in set(sending.confirmed())]
            for sending in on_their_way
        ]
        assert any(unconfirmed), "all was confirmed before the kill"
        batches.extend(unconfirmed)
        for batch in batches:
            send(publisher, batch)
        back.result()
    for reader in readers:
        reader.take(positions(sent))


@pytest.mark.usefixtures("rabbitmq")  # there is a server on this machine
def test_the_leader_of_a_queue_is_killed_and_the_cluster_goes_on(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        vhost = cluster.new_vhost()
        # Connections stay with a node that lives: a queue's leader is where it was declared.
        first = Place(cluster.nodes[0].url_of(vhost))
        first.reader("calories").subscription.close()
        leader = cluster.leader(queue_name("calories"), vhost=vhost)
        other = next(node for node in cluster.nodes if node is not leader)
        place = Place(other.url_of(vhost))
        with closing(place):
            reader, publisher, sent = place.reader("calories"), place.publisher(), events(2_000)
            send(publisher, sent[:500])
            on_its_way = publisher.publish(sent[500:1_000])
            leader.kill()
            confirmed = set(on_its_way.confirmed())
            send(publisher, [one for one in sent[500:1_000] if one.position not in confirmed])
            send(publisher, sent[1_000:])
            reader.take(positions(sent))
            after = cluster.leader(queue_name("calories"), vhost=vhost)
            assert after.running
            assert after is not leader
    finally:
        cluster.end()


@pytest.mark.usefixtures("rabbitmq")  # there is a server on this machine
def test_where_no_broker_is_publishing_says_so_and_goes_on_when_it_comes(tmp_path: Path) -> None:
    server = RabbitMQ(tmp_path)
    publisher = RabbitPublisher(server.url)
    subscription = RabbitSubscription(server.url, "calories", ALL)
    try:
        with pytest.raises(Outage, match=f"127.0.0.1:{server.port}.*Connection refused"):
            publisher.publish(events(1))
        assert next(subscription.batches()) == Batch([])
        assert subscription.problem is None
        server.start()
        assert subscription.wait_until_ready(20)
        send(publisher, events(1))
        Reader(subscription).take(positions(events(1)))
    finally:
        publisher.close()
        subscription.close()
        server.end()


def test_a_frozen_broker_is_left_at_the_deadline_and_all_is_confirmed_when_it_goes_on(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    reader, publisher, sent = place.reader("calories"), place.publisher(confirm_s=1), events(100)
    send(publisher, sent[:50])
    rabbitmq.freeze(frozen=True)
    try:
        since = time.monotonic()
        assert publisher.publish(sent[50:]).confirmed() == []
        assert 0.9 < time.monotonic() - since < 3
        with pytest.raises(Outage, match=r"no confirm within 1 s|Timeout"):
            publisher.publish(sent[50:])
    finally:
        rabbitmq.freeze(frozen=False)
    send(publisher, sent[50:])
    reader.take(positions(sent))


def test_closing_does_not_wait_for_a_frozen_broker(rabbitmq: RabbitMQ, place: Place) -> None:
    publisher, subscription = place.publisher(), place.subscription("calories")
    send(publisher, events(1))
    assert subscription.wait_until_ready(20)
    rabbitmq.freeze(frozen=True)
    try:
        since = time.monotonic()
        publisher.close()
        subscription.close()
        assert time.monotonic() - since < 12
    finally:
        rabbitmq.freeze(frozen=False)


def test_a_memory_alarm_blocks_publishing_and_not_consuming(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    reader, publisher, sent = place.reader("calories"), place.publisher(confirm_s=1), events(20)
    send(publisher, sent[:10])
    with capture_logs() as lines:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.000001")
        try:
            refused = until(lambda: refusal(publisher, sent[10:]), what="publishing is blocked")
            assert "blocks publishers (low on memory)" in str(refused)
            reader.take(positions(sent[:10]))
        finally:
            rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        send(publisher, sent[10:])
        reader.take(positions(sent[10:]))
    assert not [line for line in lines if line["action"] == "broker_lost"]


def refusal(publisher: Publisher, what: Sequence[Appended]) -> Outage | None:
    """Why nothing can be published, or None where it can."""
    try:
        publisher.publish(what).confirmed()
    except Outage as outage:
        return outage
    return None


def test_a_closed_connection_is_made_again_by_both_ends(rabbitmq: RabbitMQ, place: Place) -> None:
    reader, publisher = place.reader("calories"), place.publisher()
    send(publisher, events(1))
    reader.take(positions(events(1)))
    cut(rabbitmq, place)
    send(publisher, events(5, after=1))
    reader.take(positions(events(5, after=1)))


# Somebody changes the topology.


def test_a_consumer_that_lost_its_binding_with_the_exchange_is_bound_again(place: Place) -> None:
    one, other = place.reader("calories"), place.reader("leaderboard")
    publisher = place.publisher()
    send(publisher, events(1))
    for reader in (one, other):
        reader.take(positions(events(1)))
    with place.channel() as channel:
        channel.exchange_delete(EXCHANGE)
        channel.exchange_declare(EXCHANGE, "topic", durable=True)
        channel.queue_bind(queue_name("leaderboard"), EXCHANGE, "#")
    deadline = time.monotonic() + MENDED_WITHIN_S
    number = 1
    while not (batch := one.next()).deliveries:
        assert time.monotonic() < deadline, "calories was not bound again"
        number += 1
        send(publisher, [event(number)])
    one.subscription.ack(batch)
    other.take(positions(events(number - 1, after=1)))


def test_an_exchange_that_is_deleted_under_the_publisher_is_declared_again(place: Place) -> None:
    reader, publisher = place.reader("calories", check_s=0.5), place.publisher()
    send(publisher, events(1))
    with place.channel() as channel:
        channel.exchange_delete(EXCHANGE)
    sent = events(3, after=1)
    send(publisher, sent)
    deadline = time.monotonic() + MENDED_WITHIN_S
    while not set(positions(sent)) <= set(positions(reader.next().deliveries)):
        assert time.monotonic() < deadline, "nothing came after the exchange was deleted"
        send(publisher, sent)


def test_a_queue_that_is_deleted_is_declared_and_bound_and_consumed_again(place: Place) -> None:
    reader, publisher = place.reader("calories"), place.publisher()
    send(publisher, events(1))
    reader.take(positions(events(1)))
    assert delete_queue(place.url, "calories")
    deadline = time.monotonic() + MENDED_WITHIN_S
    number = 1
    while not reader.next().deliveries:
        assert time.monotonic() < deadline, "the queue was not made again"
        number += 1
        send(publisher, [event(number)])


def test_a_queue_with_other_arguments_is_told_and_not_touched_and_disturbs_nobody(
    place: Place,
) -> None:
    with place.channel() as channel:
        other = QUEUE_ARGUMENTS | {"x-delivery-limit": 5}
        channel.queue_declare(queue_name("calories"), durable=True, arguments=other)
        channel.basic_publish("", queue_name("calories"), b"what was there before")
    subscription = place.subscription("calories", check_s=0.5)
    problem = until(lambda: subscription.problem, what="the problem is told") or ""
    assert queue_name("calories") in problem
    assert "x-delivery-limit" in problem
    assert "Delete the queue" in problem
    neighbour, publisher = place.reader("leaderboard"), place.publisher()
    send(publisher, events(1))
    neighbour.take(positions(events(1)))
    assert not next(subscription.batches()).deliveries
    assert queue_length(place.url, "calories") == 1
    assert delete_queue(place.url, "calories")
    assert subscription.wait_until_ready(MENDED_WITHIN_S)
    assert subscription.problem is None
    send(publisher, events(1, after=1))
    Reader(subscription).take(positions(events(1, after=1)))


def test_a_queue_without_a_leader_is_told_and_mended_by_its_deletion(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    place.reader("calories").subscription.close()
    # So it is after a kill within a second of the queue's declaration: it never has a leader.
    rabbitmq.ctl("eval", _SILENCE_QUEUE % (place.vhost, queue_name("calories")))
    subscription = place.subscription("calories", answer_s=1, check_s=0.5)
    problem = until(lambda: subscription.problem, what="the problem is told") or ""
    assert "may have no leader" in problem
    assert delete_queue(place.url, "calories")
    assert subscription.wait_until_ready(MENDED_WITHIN_S)
    assert subscription.problem is None


_SILENCE_QUEUE = "sys:suspend('%s_%s')."


def test_former_bindings_are_taken_away_and_those_that_stay_are_not(place: Place) -> None:
    place.reader("calories", ("workout.#", "achievement.#")).subscription.close()
    reader = place.reader("calories", ("achievement.#",), former=("workout.#", "achievement.#"))
    publisher = place.publisher()
    unlocked = event(2)._replace(routing_key="achievement.unlocked")
    send(publisher, [event(1), unlocked])
    assert positions(reader.take([unlocked.position])) == [unlocked.position]
    assert publisher.unrouted == 1


def test_who_may_not_declare_uses_what_an_operator_has_made(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    place.reader("calories").subscription.close()
    rabbitmq.ctl("add_user", "least", "least")
    try:
        rabbitmq.ctl("set_permissions", "-p", place.vhost, "least", "^$", ".*", ".*")
        least = Place(place.url.replace("guest:guest", "least:least"))
        with closing(least):
            reader = least.reader("calories")
            send(least.publisher(), events(3))
            reader.take(positions(events(3)))
    finally:
        rabbitmq.ctl("delete_user", "least")


# What is confirmed, acked, and comes again.


def test_what_no_queue_wants_is_confirmed_and_counted(place: Place) -> None:
    publisher = place.publisher()
    sent = events(3)
    assert publisher.publish(sent).confirmed() == positions(sent)
    assert publisher.unrouted == 3


def test_what_a_queue_refuses_is_not_confirmed(place: Place) -> None:
    publisher = place.publisher()
    send(publisher, events(1))
    with place.channel() as channel:
        full = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare("full", durable=True, arguments=full)
        channel.queue_bind("full", EXCHANGE, "#")
    sent = events(300)
    # It begins to refuse somewhat past its limit.
    until(
        lambda: set(publisher.publish(sent).confirmed()) < set(positions(sent)),
        what="some are refused",
    )


@given(
    count=st.integers(1, 12),
    first=st.integers(1, 5),
    told=st.lists(st.tuples(st.integers(0, 11), st.booleans(), st.booleans()), max_size=12),
)
def test_what_the_broker_says_of_tags_one_by_one_or_up_to_one_is_kept(
    count: int, first: int, told: list[tuple[int, bool, bool]]
) -> None:
    sending = RabbitSending(events(count), lambda _: None)
    sending.first = first
    fates: dict[int, bool] = {}
    for place_of, multiple, acked in told:
        place = place_of % count
        sending.tell(first + place, multiple=multiple, fate=CONFIRMED if acked else REFUSED)
        for covered in range(0 if multiple else place, place + 1):
            fates.setdefault(covered, acked)
    wanted = [one.position for at, one in enumerate(sending.events) if fates.get(at)]
    assert sending.confirmed() == wanted
    assert sending.done.is_set() == (len(fates) == count)


def test_history_goes_to_one_queue_by_the_default_exchange(place: Place) -> None:
    reader, other = place.reader("calories", ()), place.reader("leaderboard")
    publisher = place.publisher(exchange="", routing_key=queue_name("calories"))
    send(publisher, events(3))
    assert [one.routing_key for one in reader.take(positions(events(3)))] == [
        queue_name("calories")
    ] * 3
    assert not other.next().deliveries


def test_a_message_carries_the_names_of_its_event(place: Place) -> None:
    place.reader("calories").subscription.close()
    send(place.publisher(), events(1))
    with place.channel() as channel:
        _, told, body = channel.basic_get(queue_name("calories"))
    assert told.message_id in body.decode()
    assert (told.type, told.content_type, told.app_id, told.delivery_mode) == (
        *("workout.completed", "application/cloudevents+json", "paceline"),
        2,
    )
    assert told.timestamp == int(NOON.timestamp())
    assert told.headers.items() >= {"paceline-relay": "a relay", "paceline-number": 1}.items()


def test_a_number_is_as_large_as_a_store_can_keep(place: Place) -> None:
    reader = place.reader("calories")
    largest = event(1)._replace(position=Position("a relay", (1 << 40) - 1))
    send(place.publisher(), [largest])
    (came,) = reader.take([largest.position])
    assert type(came.position.number) is int


def test_what_carries_no_position_or_is_no_event_comes_under_the_hash_of_its_bytes(
    place: Place,
) -> None:
    reader, good = place.reader("calories"), event(1)
    carried = {"paceline-relay": "a relay", "paceline-number": 1}
    strange: list[tuple[dict[str, Any] | None, bytes]] = [
        (None, good.body),
        (carried, b"no event"),
        (carried, b""),
        (carried | {"paceline-number": "1"}, good.body),
        (carried | {"paceline-number": True}, good.body),
        (carried | {"paceline-number": 0}, good.body),
        (carried | {"paceline-number": 1 << 40}, good.body),
        (carried | {"paceline-relay": ""}, good.body),
        (carried | {"paceline-relay": 7}, good.body),
        ({"x-delivery-count": "often"}, good.body),
    ]
    with place.channel() as channel:
        for headers, body in strange:
            channel.basic_publish(
                "", queue_name("calories"), body, pika.BasicProperties(headers=headers)
            )
    numbers = [int.from_bytes(sha256(body).digest()[:5], "big") for _, body in strange]
    came: list[Delivery] = []
    while len(came) < len(strange):
        came += (batch := reader.held()).deliveries
        reader.subscription.ack(batch)
    assert positions(came) == [Position(UNREADABLE, number) for number in numbers]
    assert [one.body for one in came] == [body for _, body in strange]


def test_batches_in_their_order_are_acked_by_one_multiple_ack_each(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    acks: list[tuple[int, bool]] = []
    basic_ack = BlockingChannel.basic_ack

    def recorded(channel: Any, delivery_tag: int, **options: bool) -> None:
        acks.append((delivery_tag, options.get("multiple", False)))
        basic_ack(channel, delivery_tag, **options)

    monkeypatch.setattr(BlockingChannel, "basic_ack", recorded)
    reader = place.reader("calories", size=10, prefetch=40)
    send(place.publisher(), events(40))
    batches: list[Batch] = []
    while sum(len(batch.deliveries) for batch in batches) < 40:
        batches.append(reader.held())
    for batch in batches:
        reader.subscription.ack(batch)
    until(lambda: len(acks) == len(batches), what="every batch is acked")
    assert acks == [(batch.deliveries[-1].tag, True) for batch in batches]


@EVERY_EXAMPLE
@given(order=st.permutations(range(6)), count=st.integers(0, 6))
def test_in_whatever_order_batches_are_acked_the_others_come_again_and_no_other(
    new_place: Callable[[], Place], order: list[int], count: int
) -> None:
    place = new_place()
    reader, sent = place.reader("calories", size=3, prefetch=18), events(18)
    send(place.publisher(), sent)
    until(lambda: reader.subscription._arrived.qsize() == 18, what="all are here")
    batches = [reader.held() for _ in range(6)]
    for number in order[:count]:
        reader.subscription.ack(batches[number])
    reader.subscription.close()
    left = {one for number in order[count:] for one in positions(batches[number].deliveries)}
    # The broker takes back what a closed connection held in its own time.
    until(lambda: queue_length(place.url, "calories") == len(left), what="the others are back")
    assert set(positions(place.reader("calories").take(list(left)))) == left


def test_a_batch_of_a_former_connection_is_not_acked_and_comes_again_without_suspicion(
    rabbitmq: RabbitMQ, place: Place
) -> None:
    reader, publisher, sent = place.reader("calories", size=5), place.publisher(), events(5)
    send(publisher, sent)
    held: list[Batch] = []
    while sum(len(batch.deliveries) for batch in held) < 5:
        held.append(reader.held())
    cut(rabbitmq, place)
    again: list[Delivery] = []
    while len(again) < 5:
        for batch in held:
            reader.subscription.ack(batch)
        again += (batch := reader.held()).deliveries
    assert positions(again) == positions(sent)
    assert {one.epoch for one in again} == {2}
    # This process had them when the connection ended, and lives: they did not end it.
    assert not any(one.redelivered for one in again)
    cut(rabbitmq, place)
    assert not any(one.redelivered for one in reader.take(positions(sent)))


WORKER = """
import sys, time
from events.bus.rabbitmq_sending import CONFIRMED, REFUSED, RabbitSending
from events.bus.rabbitmq_subscription import RabbitSubscription
for batch in RabbitSubscription(sys.argv[1], "calories", ("#",)).batches():
    if batch.deliveries:
        print(len(batch.deliveries), flush=True)
        time.sleep(600)
"""


def test_a_message_that_several_workers_died_with_comes_again_as_a_suspect(place: Place) -> None:
    place.reader("calories").subscription.close()
    sent = events(20)
    send(place.publisher(), sent)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, place.url], cwd=ROOT, stdout=subprocess.PIPE
        ) as worker:
            assert worker.stdout is not None
            while not worker.stdout.readline().strip().isdigit():
                assert worker.poll() is None
            worker.send_signal(signal.SIGKILL)
        until(lambda: queue_length(place.url, "calories") == 20, what="all are back")
    came = place.reader("calories").take(positions(sent))
    assert sorted(positions(came)) == sorted(positions(sent))
    assert any(one.redelivered for one in came)


# What is asked, and what is said.


def test_a_queue_tells_its_length_and_can_be_taken_away(place: Place) -> None:
    queue = RabbitQueue(place.url, "calories", size=10)
    assert (queue.size, queue.length(), queue.delete()) == (10, None, False)
    place.reader("calories").subscription.close()
    send(place.publisher(), events(3))
    assert queue.length() == 3
    assert queue.delete()
    assert queue.length() is None


def test_asking_a_broker_that_is_not_there_is_an_outage() -> None:
    url = f"amqp://guest:secret@127.0.0.1:{free_port()}/%2F"
    with pytest.raises(Outage, match="Connection refused"):
        queue_length(url, "calories")
    with pytest.raises(Outage, match="Connection refused"):
        delete_queue(url, "calories")


def test_a_password_is_in_no_message(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.url.replace("guest:guest", "guest:s3cret")
    with capture_logs() as lines:
        publisher, subscription = RabbitPublisher(url), RabbitSubscription(url, "calories", ALL)
        try:
            with pytest.raises(Outage, match=r"(?i)refused|authentication") as outage:
                publisher.publish(events(1))
            subscription.wait_until_ready(0)
            problem = until(lambda: subscription.problem, what="the problem is told") or ""
        finally:
            publisher.close()
            subscription.close()
        with pytest.raises(Outage) as asked:
            queue_length(url, "calories")
    assert "s3cret" not in f"{outage.value} {problem} {asked.value} {lines}"
    assert queue_name("calories") in problem


def test_a_node_that_is_down_is_passed_over_for_the_next_that_the_url_names(
    rabbitmq: RabbitMQ,
) -> None:
    url = rabbitmq.new_vhost()
    urls = url.replace("@", f"@127.0.0.1:{free_port()},", 1)
    publisher, subscription = RabbitPublisher(urls), RabbitSubscription(urls, "calories", ALL)
    try:
        assert subscription.wait_until_ready(MENDED_WITHIN_S)
        assert len(publisher.publish(events(3)).confirmed()) == 3
        assert queue_length(urls, "calories") is not None
        assert subscription.problem is None
    finally:
        publisher.close()
        subscription.close()
