"""What every bus must do: `BusContract` is inherited by the tests of each backend."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.memory_bus import MemoryBus
from events.bus import Batch, Delivery, Publisher, Subscription
from events.bus.embedded import EmbeddedPublisher, EmbeddedSubscription
from events.bus.rabbitmq_publisher import RabbitPublisher
from events.bus.rabbitmq_subscription import RabbitSubscription
from events.envelope import Sealed
from events.log import EventLog, LogReader, Position, Selection, Watermarks
from events.log.sqlite import SqliteEventLog
from tests.contract.test_event_log import (
    ALL,
    BINDINGS,
    EVERY_EXAMPLE,
    KEYS,
    everything,
    ids,
    sealed,
    wants,
)
from tests.servers.rabbitmq import RabbitMQ

SIZE = 4  # the most that a subscription brings at once
WITHIN_S = 20.0


class BusSite(Protocol):
    """A log, an exchange, and the queues of some consumers; nothing is in them at first."""

    log: EventLog
    publisher: Publisher

    def subscribe(
        self, consumer: str, bindings: Sequence[str], *, unclean: bool = False
    ) -> Subscription:
        """Open a consumer's queue, SIZE at once; `unclean` where its last worker was killed."""


class Queue:
    """A subscription with what it has brought."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.brought: list[Batch] = []
        self._batches = subscription.batches()

    def next(self) -> Batch:
        """The next batch, empty where nothing came for a moment."""
        self.brought.append(next(self._batches))
        return self.brought[-1]

    def take(self, count: int) -> list[Delivery]:
        """Take and ack so many events, and see that no others come.

        A broker that was late with a confirm was sent some again: they come twice, and are not
        others.
        """
        taken: dict[Position, Delivery] = {}
        deadline = time.monotonic() + WITHIN_S
        while len(taken) < count:
            assert time.monotonic() < deadline, f"{len(taken)} of {count} came"
            batch = self.next()
            for one in batch.deliveries:
                taken.setdefault(one.position, one)
            self.subscription.ack(batch)
        assert set(positions(self.next().deliveries)) <= taken.keys()
        return list(taken.values())

    def hold(self) -> Batch:
        """Take the next batch that is not empty, and do not ack it."""
        deadline = time.monotonic() + WITHIN_S
        while not (batch := self.next()).deliveries:
            assert time.monotonic() < deadline, "nothing came"
        return batch


def send(site: BusSite, events: Sequence[Sealed]) -> list[Position]:
    """Have them logged and confirmed, as the relay does."""
    unsent = site.log.append(events, source="here")
    positions = [event.position for event in unsent]
    while unsent:
        confirmed = site.publisher.publish(unsent).confirmed()
        unsent = [event for event in unsent if event.position not in confirmed]
    return positions


def positions(deliveries: Sequence[Delivery]) -> list[Position]:
    return [delivery.position for delivery in deliveries]


class BusContract:
    """The tests; a backend gives `new_site`, which makes an empty one at each call."""

    @pytest.fixture
    def new_site(self) -> Callable[[], BusSite]:
        raise NotImplementedError

    @pytest.fixture
    def site(self, new_site: Callable[[], BusSite]) -> BusSite:
        return new_site()

    def test_a_delivery_has_the_position_the_key_and_the_bytes_of_the_log(
        self, site: BusSite
    ) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        events = [sealed(number, key=key) for number, key in enumerate(KEYS)]
        sent = send(site, events)
        taken = queue.take(len(KEYS))
        assert [(one.position, one.routing_key, one.body) for one in taken] == [
            (position, key, event.body)
            for position, key, event in zip(sent, KEYS, events, strict=True)
        ]
        assert not any(one.redelivered for one in taken)

    @pytest.mark.parametrize("bindings", BINDINGS, ids=",".join)
    def test_a_queue_gets_what_its_patterns_match_and_nothing_else(
        self, site: BusSite, bindings: Sequence[str]
    ) -> None:
        queue = Queue(site.subscribe("some", bindings))
        events = [sealed(number, key=KEYS[number % len(KEYS)]) for number in range(10)]
        wanted = [
            event
            for number, event in enumerate(events)
            if wants(bindings, KEYS[number % len(KEYS)])
        ]
        send(site, events)
        assert [one.body for one in queue.take(len(wanted))] == [event.body for event in wanted]

    def test_an_event_that_several_patterns_match_comes_once(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#", "workout.#", KEYS[0])))
        sent = send(site, [sealed(1)])
        assert positions(queue.take(1)) == sent

    def test_order_is_kept_within_a_call(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        sent = send(site, [sealed(number) for number in range(5 * SIZE + 1)])
        assert positions(queue.take(len(sent))) == sent
        assert max(len(batch.deliveries) for batch in queue.brought) <= SIZE

    def test_each_consumer_has_its_own_copy(self, site: BusSite) -> None:
        one, other = (Queue(site.subscribe(name, ("#",))) for name in ("one", "other"))
        sent = send(site, [sealed(number) for number in range(3)])
        assert positions(one.take(3)) == sent
        assert positions(other.take(3)) == sent

    def test_what_is_sent_later_comes_to_a_queue_that_was_empty(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        assert not queue.next().deliveries
        for number in range(3):
            sent = send(site, [sealed(number)])
            assert positions(queue.take(1)) == sent

    def test_what_nobody_is_bound_to_is_confirmed_all_the_same(self, site: BusSite) -> None:
        appended = site.log.append([sealed(1)], source="here")
        assert site.publisher.publish(appended).confirmed() == [appended[0].position]

    def test_nothing_is_published_as_nothing(self, site: BusSite) -> None:
        assert site.publisher.publish([]).confirmed() == []

    def test_what_is_published_again_comes_at_least_once_more_or_not_at_all(
        self, site: BusSite
    ) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        first = send(site, [sealed(1), sealed(2)])
        assert send(site, [sealed(1), sealed(2)]) == first
        last = send(site, [sealed(3)])
        seen: list[Position] = []
        while not set(last) <= set(seen):
            batch = queue.hold()
            seen += positions(batch.deliveries)
            queue.subscription.ack(batch)
        assert set(seen) == {*first, *last}

    def test_what_was_acked_does_not_come_again(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        send(site, [sealed(number) for number in range(SIZE + 1)])
        queue.take(SIZE + 1)
        queue.subscription.close()
        again = Queue(site.subscribe("all", ("#",)))
        assert not again.next().deliveries
        sent = send(site, [sealed(100)])
        assert positions(again.take(1)) == sent

    def test_what_was_not_acked_comes_again_to_the_next_subscription(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        sent = send(site, [sealed(number) for number in range(3 * SIZE)])
        first = queue.hold()
        queue.subscription.ack(first)
        queue.hold()
        queue.subscription.close()
        left = sent[len(first.deliveries) :]
        # A broker takes them back when it notices, and may have sent on by then.
        assert sorted(positions(Queue(site.subscribe("all", ("#",))).take(len(left)))) == left

    def test_after_an_unclean_end_what_was_in_hand_comes_again_as_redelivered(
        self, site: BusSite
    ) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        send(site, [sealed(number) for number in range(3 * SIZE)])
        first = queue.hold()
        queue.subscription.ack(first)
        in_hand = positions(queue.hold().deliveries)
        queue.subscription.close()
        left = 3 * SIZE - len(first.deliveries)
        again = Queue(site.subscribe("all", ("#",), unclean=True)).take(left)
        assert {one.position for one in again if one.redelivered} >= set(in_hand)
        assert not all(one.redelivered for one in again)

    def test_an_ack_after_the_close_harms_nothing(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        sent = send(site, [sealed(number) for number in range(2 * SIZE)])
        batch = queue.hold()
        queue.subscription.close()
        queue.subscription.ack(batch)
        again = Queue(site.subscribe("all", ("#",)))
        seen: set[Position] = set(positions(batch.deliveries))
        while seen != set(sent):
            held = again.hold()
            again.subscription.ack(held)
            seen |= set(positions(held.deliveries))
        assert positions(again.take(len(send(site, [sealed(100)])))) == [
            everything(site.log)[-1].position
        ]

    @EVERY_EXAMPLE
    @given(
        bindings=st.sampled_from(BINDINGS),
        turns=st.lists(st.lists(st.sampled_from(KEYS), max_size=6) | st.none(), max_size=15),
    )
    def test_no_watermark_of_a_batch_passes_a_wanted_row_that_did_not_come(
        self,
        new_site: Callable[[], BusSite],
        bindings: Sequence[str],
        turns: list[list[str] | None],
    ) -> None:
        site = new_site()
        queue = Queue(site.subscribe("some", bindings))
        came: set[Position] = set()
        count = 0
        for keys in turns:
            if keys is None:
                batch = queue.next()
                came |= set(positions(batch.deliveries))
                queue.subscription.ack(batch)
                assert rows_through(site.log, batch.through, bindings) <= came
            else:
                send(site, [sealed(count + at, key=key) for at, key in enumerate(keys)])
                count += len(keys)


def rows_through(log: LogReader, marks: Watermarks, bindings: Sequence[str]) -> set[Position]:
    """The wanted rows that these watermarks pass."""
    return {
        row.position
        for relay, number in marks.items()
        for row in log.scan(Selection(relay=relay, through=number), limit=ALL)
        if wants(bindings, row.routing_key)
    }


class _Remembering(EmbeddedSubscription):
    """Keeps the watermarks of acked batches, as the worker's commit into its store does."""

    def __init__(self, log: LogReader, bindings: Sequence[str], **options: Any) -> None:
        super().__init__(log, bindings, **options)
        self.marks = options["start"]

    def ack(self, batch: Batch) -> None:
        super().ack(batch)
        self.marks.update(batch.through)


class EmbeddedSite:
    """The bus that is the log itself."""

    def __init__(self, path: Path) -> None:
        self.log: EventLog = SqliteEventLog(path)
        self.publisher: Publisher = EmbeddedPublisher()
        self._marks: dict[str, dict[str, int]] = {}

    def subscribe(
        self, consumer: str, bindings: Sequence[str], *, unclean: bool = False
    ) -> Subscription:
        marks = self._marks.setdefault(consumer, {})
        suspects = SIZE if unclean else 0
        return _Remembering(self.log, bindings, start=marks, size=SIZE, suspects=suspects)


class TestEmbeddedBus(BusContract):
    """The bus of the embedded way."""

    @pytest.fixture
    def new_site(self, tmp_path: Path) -> Iterator[Callable[[], BusSite]]:
        sites: list[EmbeddedSite] = []

        def make() -> BusSite:
            sites.append(EmbeddedSite(tmp_path / str(len(sites)) / "log.db"))
            return sites[-1]

        yield make
        for site in sites:
            assert isinstance(site.log, SqliteEventLog)
            site.log.close()
            site.publisher.close()

    def test_a_consumer_that_comes_later_gets_all_that_happened(self, site: BusSite) -> None:
        sent = send(site, [sealed(number) for number in range(2 * SIZE + 1)])
        assert positions(Queue(site.subscribe("late", ("#",))).take(len(sent))) == sent

    def test_it_begins_past_the_watermarks_that_the_store_has(self, site: BusSite) -> None:
        sent = send(site, [sealed(number) for number in range(6)])
        start = {sent[2].relay: sent[2].number, "a relay that is long gone": 9}
        subscription = EmbeddedSubscription(site.log, ("#",), start=start, size=SIZE)
        assert positions(Queue(subscription).take(3)) == sent[3:]
        assert start == {sent[2].relay: sent[2].number, "a relay that is long gone": 9}

    def test_as_many_deliveries_as_it_is_told_are_suspects_across_batches(
        self, site: BusSite
    ) -> None:
        send(site, [sealed(number) for number in range(3 * SIZE)])
        subscription = EmbeddedSubscription(
            site.log, ("#",), start={}, size=SIZE, suspects=SIZE + 2
        )
        flags = [one.redelivered for one in Queue(subscription).take(3 * SIZE)]
        assert flags == [True] * (SIZE + 2) + [False] * (2 * SIZE - 2)

    def test_a_stretch_without_a_wanted_row_moves_the_watermark_all_the_same(
        self, site: BusSite
    ) -> None:
        sent = send(site, [sealed(number) for number in range(3)])
        queue = Queue(site.subscribe("none", ("nothing.at.all",)))
        batch = queue.next()
        assert (batch.deliveries, batch.through) == ([], {sent[-1].relay: sent[-1].number})
        queue.subscription.ack(batch)
        assert queue.next() == Batch()

    def test_rows_of_every_relay_come_however_often_it_restarted(
        self, site: BusSite, tmp_path: Path
    ) -> None:
        sent = send(site, [sealed(1), sealed(2)])
        site.log.close()  # type: ignore[attr-defined]  # the log of this site is a file
        site.log = SqliteEventLog(tmp_path / "0" / "log.db")
        sent += send(site, [sealed(3)])
        assert positions(Queue(site.subscribe("all", ("#",))).take(3)) == sent
        assert ids([sealed(1), sealed(2), sealed(3)]) == [
            row.event_id for row in everything(site.log)
        ]


class RabbitSite:
    """A vhost of its own; the broker knows by itself what a worker had in its hands."""

    def __init__(self, url: str, path: Path) -> None:
        self.log: EventLog = SqliteEventLog(path)
        self._url = url
        self.publisher: Publisher = RabbitPublisher(url)
        self._subscriptions: list[RabbitSubscription] = []

    def subscribe(
        self, consumer: str, bindings: Sequence[str], *, unclean: bool = False
    ) -> Subscription:
        # No more than one batch is on its way, so that what follows it is not in anybody's hands.
        made = RabbitSubscription(self._url, consumer, bindings, size=SIZE, prefetch=SIZE)
        self._subscriptions.append(made)
        assert made.wait_until_ready(WITHIN_S), made.problem
        return made

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()
        self.publisher.close()
        assert isinstance(self.log, SqliteEventLog)
        self.log.close()


class TestRabbitBus(BusContract):
    """The bus of the distributed way."""

    @pytest.fixture
    def new_site(self, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Callable[[], BusSite]]:
        sites: list[RabbitSite] = []

        def make() -> BusSite:
            sites.append(RabbitSite(rabbitmq.new_vhost(), tmp_path / str(len(sites)) / "log.db"))
            return sites[-1]

        yield make
        for site in sites:
            site.close()

    def test_what_came_while_nobody_consumed_waits_in_the_queue(self, site: BusSite) -> None:
        site.subscribe("all", ("#",)).close()
        sent = send(site, [sealed(number) for number in range(2 * SIZE + 1)])
        assert positions(Queue(site.subscribe("all", ("#",))).take(len(sent))) == sent

    def test_no_batch_has_watermarks(self, site: BusSite) -> None:
        queue = Queue(site.subscribe("all", ("#",)))
        send(site, [sealed(1)])
        queue.take(1)
        assert not any(batch.through for batch in queue.brought)

    def test_two_workers_of_a_consumer_share_its_queue(self, site: BusSite) -> None:
        one, other = (Queue(site.subscribe("all", ("#",))) for _ in range(2))
        sent = send(site, [sealed(number) for number in range(4 * SIZE)])
        seen: list[Position] = []
        deadline = time.monotonic() + WITHIN_S
        while len(seen) < len(sent):
            assert time.monotonic() < deadline, f"{len(seen)} of {len(sent)} came"
            for queue in (one, other):
                batch = queue.next()
                seen += positions(batch.deliveries)
                queue.subscription.ack(batch)
        assert sorted(seen) == sorted(sent)
        assert all(any(batch.deliveries for batch in queue.brought) for queue in (one, other))


class MemorySite:
    """The bus of the kit for authors; it knows by itself what was in somebody's hands."""

    def __init__(self, path: Path) -> None:
        self.log: EventLog = SqliteEventLog(path)
        self.bus = MemoryBus()
        self.publisher: Publisher = self.bus

    def subscribe(
        self, consumer: str, bindings: Sequence[str], *, unclean: bool = False
    ) -> Subscription:
        return self.bus.subscribe(consumer, bindings, size=SIZE)


class TestMemoryBus(BusContract):
    """The bus on which plug-ins are tested routes as the real ones do."""

    @pytest.fixture
    def new_site(self, tmp_path: Path) -> Iterator[Callable[[], BusSite]]:
        sites: list[MemorySite] = []

        def make() -> BusSite:
            sites.append(MemorySite(tmp_path / str(len(sites)) / "log.db"))
            return sites[-1]

        yield make
        for site in sites:
            site.publisher.close()
            assert isinstance(site.log, SqliteEventLog)
            site.log.close()

    def test_what_is_sent_to_one_queue_comes_to_no_other(self, site: BusSite) -> None:
        one, other = (Queue(site.subscribe(name, ("*.completed.#",))) for name in ("one", "other"))
        appended = site.log.append([sealed(1), sealed(2, key=KEYS[-1])], source="here")
        assert isinstance(site, MemorySite)
        site.bus.send("one", appended)
        assert positions(one.take(1)) == [appended[0].position]
        assert not other.next().deliveries

    def test_who_closes_gives_back_its_own_and_not_what_another_has_in_hand(
        self, site: BusSite
    ) -> None:
        one, other = (Queue(site.subscribe("all", ("#",))) for _ in range(2))
        sent = send(site, [sealed(number) for number in range(2 * SIZE)])
        held, kept = one.hold(), other.hold()
        one.subscription.close()
        assert positions(other.take(SIZE)) == positions(held.deliveries) == sent[:SIZE]
        other.subscription.ack(kept)
        assert not other.next().deliveries
