"""Two hosts accept and fold for one installation: no update is lost, and nothing is doubled."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pika
import pymongo
import pytest
from pika.exceptions import ChannelClosedByBroker

from events.topology import queue_name
from tests.acceptance.agreement import differences
from tests.acceptance.conftest import new_store
from tests.acceptance.crowd import Workout, crowd, posted
from tests.acceptance.hosts import Host
from tests.acceptance.load import Load, Post
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.acceptance.proof import accepted, audited, until_applied
from tests.acceptance.test_whole_path import REST, drop_in
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

PER_S, SECONDS, KILLS = 40.0, 12.0, 6
CROWD = crowd(seed=20261128, count=3_000, users=5)
DOOR = ("serve producer", "relay")
TWICE = "consume calories --workers 2"
PARTS = (
    (*DOOR, "serve query", TWICE, "consume achievements", "consume leaderboard"),
    (*DOOR, TWICE, "consume monthly-report", "consume leaderboard"),
)


class Hosts(NamedTuple):
    """Two hosts, and the servers that they share."""

    first: Host
    second: Host
    broker_url: str
    store_url: str


@pytest.fixture
def hosts(tmp_path: Path, rabbitmq: RabbitMQ, mongod: Mongod) -> Iterator[Hosts]:
    urls = {"broker_url": rabbitmq.new_vhost(), "store_url": new_store(mongod)}
    first = Host(tmp_path / "first", **urls)
    second = Host(tmp_path / "second", **urls | {"query_port": first.query_port})
    with ExitStack() as stack:
        for host, parts in zip((first, second), PARTS, strict=True):
            stack.callback(host.close)
            host.begin(*parts)
        until(lambda: set(BUILT_IN) <= first.running(), what="every consumer runs")
        yield Hosts(first, second, urls["broker_url"], urls["store_url"])
        first.end()
        second.end()


def test_two_hosts_that_fold_for_the_same_people_lose_no_update(hosts: Hosts) -> None:
    first, second = hosts.first, hosts.second
    # Some workouts come by both doors, as when an app tries another one.
    by_first, by_second, by_both = CROWD[:1_400], CROWD[1_500:], CROWD[1_400:1_500]
    with (
        Load(first, by_both[:50] + by_first, per_s=PER_S) as one,
        Load(second, by_both[:50] + by_second, per_s=PER_S) as other,
    ):
        kill_workers(hosts, one)
        one.go_on(2)
        other.go_on(1)
    workouts = union(one.posts, other.posts)
    until_applied(first, len(workouts), within_s=90)
    assert_logged_once(first, {event_id for _, event_id in workouts.values()})
    for host, load in ((first, one), (second, other)):
        assert_all_have_one_fate(host, accepted_there=len(load.posts), logged=len(workouts))
    assert not differences(first, Oracle([workout for workout, _ in workouts.values()]))


def kill_workers(hosts: Hosts, load: Load) -> None:
    """Kill -9 workers of calories, now here and now there, in the midst of it."""
    random = Random(11)
    for number in range(KILLS):
        load.go_on(SECONDS / KILLS)
        there = partial((hosts.first, hosts.second)[number % 2].consumer_processes, "calories")
        random.choice(until(there, what="there is a worker to kill")).kill()


def union(*of_hosts: list[Post]) -> dict[str, tuple[Workout, str]]:
    """All workouts that were accepted anywhere, with their events' ids, by their own."""
    found: dict[str, tuple[Workout, str]] = {}
    for posts in of_hosts:
        accepted(posts)
        for post in posts:
            assert post.event_id is not None
            found[post.workout["workout_id"]] = post.workout, post.event_id
    return found


def assert_logged_once(platform: Platform, ids: set[str]) -> None:
    which = ("--type", "workout.completed", "--limit", "1000000", "--json")
    listed = platform.command("events", "list", *which)
    assert Counter(row["event_id"] for row in json.loads(listed)) == Counter(ids)


def assert_all_have_one_fate(host: Host, *, accepted_there: int, logged: int) -> None:
    accepting, consumers = audited(host)
    assert (accepting["accepted"], accepting["logged"]) == (accepted_there, accepted_there)
    for name in BUILT_IN:
        its = consumers[name]["logged"] - consumers[name]["not-for-it"]  # none takes badges
        assert (its, consumers[name]["applied"]) == (logged, logged), name


def test_two_facts_with_one_id_are_kept_and_shown_and_one_of_them_is_applied(hosts: Hosts) -> None:
    workout = CROWD[0]
    other = {**workout, "duration_s": workout["duration_s"] + 60, "elapsed_s": 20_000}
    event_id = accept(hosts.first, workout)
    until_applied(hosts.first, 1)
    assert accept(hosts.second, other) == event_id
    path = f"/v1/events/{event_id}"
    until(lambda: hosts.second.read(path)["state"] == "conflicting", what="it is conflicting")

    for host in (hosts.first, hosts.second):
        shown = host.read(path)
        assert (shown["state"], len(shown["conflicts"])) == ("conflicting", 1)
        assert shown["event"]["data"]["duration_ms"] == round(1000 * workout["duration_s"])
        kept = shown["conflicts"][0]["event"]
        assert kept["id"] == event_id
        assert kept["data"]["duration_ms"] == round(1000 * other["duration_s"])
        accepting, consumers = audited(host)
        assert (accepting["accepted"], accepting["conflicting"]) == (1, 1)
        assert [consumers[name]["applied"] for name in BUILT_IN] == [1] * len(BUILT_IN)
    assert not differences(hosts.first, Oracle([workout]))


def accept(platform: Platform, workout: Workout) -> str:
    answer = platform.post("/v1/workouts", posted(workout))
    assert (answer.status, answer.body["duplicate"]) == (202, False), answer
    return str(answer.body["event_id"])


def test_a_plugin_that_was_taken_away_leaves_nothing_once_it_is_removed(hosts: Hosts) -> None:
    first = hosts.first
    drop_in(first, "recovery", REST)
    first.begin_part("consume", "recovery")
    accept(first, CROWD[0])
    until(lambda: applied_by(first, "recovery") == 1, what="it has its event")
    assert left_of("recovery", hosts) == (True, True)

    assert "recovery is still there" in first.refused("consumers", "remove", "recovery", "--yes")
    (first.plugins / "recovery.py").unlink()
    running = first.refused("consumers", "remove", "recovery", "--yes")
    assert running == "paceline: A worker of recovery runs; stop it first.\n"
    first.end_part("consume", "recovery")
    said = first.command("consumers", "remove", "recovery", "--yes")
    assert said == "Gone: recovery, queue and state.\n"
    assert left_of("recovery", hosts) == (False, False)
    assert first.command("consumers", "remove", "recovery", "--yes") == (
        "Nothing was left of recovery.\n"
    )
    assert left_of("calories", hosts) == (True, True)


def applied_by(platform: Platform, name: str) -> int:
    found: dict[str, Any] = platform.consumers().get(name, {})
    return int(found.get("applied", 0))


def left_of(name: str, hosts: Hosts) -> tuple[bool, bool]:
    """Whether there is a queue of a consumer, and a database."""
    with pika.BlockingConnection(pika.URLParameters(hosts.broker_url)) as connection:
        try:
            connection.channel().queue_declare(queue_name(name), passive=True)
            queue = True
        except ChannelClosedByBroker:
            queue = False
    with pymongo.MongoClient[dict[str, Any]](hosts.store_url) as client:
        ours = client.get_default_database().name
        return queue, f"{ours}-{name}" in client.list_database_names()


def test_a_store_without_a_broker_is_refused(tmp_path: Path, mongod: Mongod) -> None:
    host = Host(tmp_path / "alone", store_url=new_store(mongod))
    assert host.refused("run") == (
        "paceline: PACELINE_STORE_URL is set and PACELINE_BROKER_URL is not: state on a server "
        "needs queues on one. Set both, or neither.\n"
    )


def test_a_mongod_that_is_no_replica_set_is_refused(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    alone = Mongod(tmp_path / "mongod", replica_set=None)
    try:
        alone.start()
        host = Host(tmp_path / "data", broker_url=rabbitmq.new_vhost(), store_url=alone.url)
        for words in (("relay",), ("consume", "calories"), ("events", "list"), ("audit",)):
            assert host.refused(*words).endswith(
                f"paceline: MongoDB at 127.0.0.1:{alone.port} is a standalone, without "
                "transactions. To make a replica set of one, start it with `mongod --replSet rs0`, "
                "then run `rs.initiate()` once in mongosh.\n"
            )
    finally:
        alone.kill()
