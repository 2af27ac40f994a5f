"""Where 202 means replicated: it waits for the log and the broker, and 503 keeps the workout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import new_store, started
from tests.acceptance.crowd import Workout, crowd, posted
from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.acceptance.proof import assert_kept, until_applied
from tests.servers.mongod import Mongod
from tests.servers.rabbitmq import RabbitMQ

CROWD = crowd(seed=20261129, count=52, users=3)


@pytest.fixture
def platform(tmp_path: Path, rabbitmq_to_break: RabbitMQ, mongod: Mongod) -> Iterator[Platform]:
    platform = started(
        tmp_path / "data",
        accept="replicated",
        broker_url=rabbitmq_to_break.new_vhost(),
        store_url=new_store(mongod),
    )
    try:
        yield platform
        assert platform.stop() == 0
    finally:
        platform.close()


def test_a_202_comes_once_it_is_logged_and_while_the_broker_is_away_a_503(
    platform: Platform, rabbitmq_to_break: RabbitMQ
) -> None:
    *before, during, after = CROWD
    ids = [accept(platform, workout) for workout in before]
    rabbitmq_to_break.kill()
    answer = platform.post("/v1/workouts", posted(during))
    assert (answer.status, answer.body["type"]) == (503, "/problems/cannot-accept")
    assert "not replicated" in answer.body["detail"]
    assert int(answer.headers["Retry-After"]) > 0

    rabbitmq_to_break.start()
    again = until(lambda: second_try(platform, posted(during)), what="it is replicated")
    assert again["duplicate"] is True
    ids += [str(again["event_id"]), accept(platform, after)]
    until_applied(platform, len(CROWD))
    assert_kept(platform, CROWD, set(ids))


def accept(platform: Platform, workout: Workout) -> str:
    """Post a workout; when it is accepted, it is in the log at once."""
    answer = platform.post("/v1/workouts", posted(workout))
    assert (answer.status, answer.body["duplicate"]) == (202, False), answer
    event_id = str(answer.body["event_id"])
    shown = platform.read(f"/v1/events/{event_id}")
    assert (shown["state"], set(shown["consumers"])) == ("logged", set(BUILT_IN))
    return event_id


def second_try(platform: Platform, body: bytes) -> dict[str, Any] | None:
    answer = platform.post("/v1/workouts", body)
    assert answer.status in (202, 503), answer
    receipt: dict[str, Any] = answer.body
    return receipt if answer.status == 202 else None
