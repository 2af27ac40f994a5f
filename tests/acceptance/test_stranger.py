"""A consumer that knows the broker and JSON, and nothing of ours; history goes to it alone."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from events.topology import EXCHANGE
from tests.acceptance.conftest import new_store, started
from tests.acceptance.crowd import crowd, posted_together
from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.acceptance.proof import assert_kept, healed, until_applied
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

CROWD = crowd(seed=20261127, count=700, users=10)
PAST, LIVE = CROWD[:600], CROWD[600:]
QUEUE = "a-stranger"
STRANGER = '''
"""Writes down every workout that a broker tells of."""

import json
import sys

import pika

url, queue, notes = sys.argv[1:]


def write_down(channel, method, properties, body):
    event = json.loads(body)
    note = {
        "message_id": properties.message_id,
        "type": properties.type,
        "content_type": properties.content_type,
        "routing_key": method.routing_key,
        "event": event,
    }
    with open(notes, "a") as file:
        file.write(json.dumps(note) + "\\n")
    channel.basic_ack(method.delivery_tag)


channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_bind(queue, "paceline.events", "workout.completed.#")
channel.basic_consume(queue, write_down)
print("listening", flush=True)
channel.start_consuming()
'''


class Stranger:
    """The program, in a process of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        program, self._notes = folder / "stranger.py", folder / "notes.jsonl"
        program.write_text(STRANGER)
        self._process = subprocess.Popen(
            [sys.executable, "-I", program, url, QUEUE, self._notes],
            cwd=folder,
            env={},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def notes(self) -> list[dict[str, Any]]:
        """What it has written down."""
        if not self._notes.exists():
            return []
        lines = self._notes.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.new_vhost()


@pytest.fixture
def platform(tmp_path: Path, broker_url: str, mongod: Mongod) -> Iterator[Platform]:
    platform = started(tmp_path / "data", broker_url=broker_url, store_url=new_store(mongod))
    try:
        yield platform
        assert platform.stop() == 0
    finally:
        platform.close()


def accept(platform: Platform, workouts: list[dict[str, Any]]) -> list[str]:
    answer = platform.post("/v1/workouts/batch", posted_together(workouts))
    assert answer.status == 202, answer
    return [item["event_id"] for item in answer.body["items"]]


def test_a_stranger_gets_what_happens_and_history_goes_to_it_alone(
    platform: Platform, broker_url: str, tmp_path: Path
) -> None:
    past = accept(platform, PAST)
    until_applied(platform, len(PAST))
    stranger = Stranger(tmp_path, broker_url)
    try:
        live = accept(platform, LIVE)
        until(lambda: len(stranger.notes()) >= len(live), what="it has heard of what happens")
        assert sorted(note["message_id"] for note in stranger.notes()) == sorted(live)
        until_applied(platform, len(CROWD))

        with eavesdropping(broker_url) as heard:
            assert replayed_to(platform, QUEUE) == len(CROWD)
            until(lambda: len(stranger.notes()) >= len(live) + len(CROWD), what="it has history")
            assert heard() == 0, "history went to the exchange"
    finally:
        stranger.end()
    assert sorted(note["message_id"] for note in stranger.notes()) == sorted(past + live + live)
    for note in stranger.notes():
        assert_is_a_cloud_event(note)
    assert_nobody_else_has_seen_anything(platform, past + live)


def replayed_to(platform: Platform, queue: str) -> int:
    (answer,) = json.loads(
        platform.command("replay", "--to-queue", queue, "--type", "workout.completed", "--json")
    )
    assert answer["queue"] == queue
    return int(answer["sent"])


class eavesdropping:  # noqa: N801  # it reads as what happens in its block
    """Counts what goes to the exchange for anybody."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))

    def __enter__(self) -> Any:
        channel = self._connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EXCHANGE, "#")
        return lambda: channel.queue_declare(queue, passive=True).method.message_count

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def assert_is_a_cloud_event(note: dict[str, Any]) -> None:
    event = note["event"]
    assert note["content_type"] == "application/cloudevents+json"
    assert (note["message_id"], note["type"]) == (event["id"], event["type"])
    assert event["specversion"] == "1.0"
    assert event["type"] == "workout.completed"
    assert event["datacontenttype"] == "application/json"
    assert event["subject"] == event["data"]["user_id"]
    assert {"source", "time", "dataversion", "acceptedat"} <= event.keys()
    assert all(name.isascii() and name.isalnum() and name.islower() for name in event)


def assert_nobody_else_has_seen_anything(platform: Platform, ids: list[str]) -> None:
    until_applied(platform, len(ids))
    assert_kept(platform, CROWD, set(ids))
    assert healed(platform) == {}
    assert {name: one["dead"] for name, one in platform.consumers().items()} == dict.fromkeys(
        BUILT_IN, 0
    )


def test_history_for_a_queue_that_nobody_has_made_is_refused_with_a_sentence(
    platform: Platform,
) -> None:
    said = platform.refused("replay", "--to-queue", "nobodys", code=1)
    assert said == "paceline: The broker has no queue 'nobodys'; whoever reads it makes it first.\n"
