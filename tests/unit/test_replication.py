"""Replicated acceptance: 202 waits for the relay's bookmark, and says so when that takes long."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Response
from werkzeug.test import TestResponse

from events.envelope import seal, workout_event_id
from events.errors import Outage
from events.problems import MEDIA_TYPE
from producer import replication as module
from producer.app import create_app
from producer.outbox import Accepted, Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds
from producer.replication import Replication
from tests.factories import workout

ROOM = Bounds(waiting_bytes=1 << 30, free_bytes=0)
RUN = {
    "workout_id": "w-1",
    "user_id": "ada",
    "sport": "running",
    "started_at": "2026-11-24T07:30:00+01:00",
    "duration_s": 1800,
}


class Relay:
    """How far the relay's bookmark is, and how often and by how many at once it is asked."""

    def __init__(self) -> None:
        self.passed: int | None = 0
        self.moves: list[int | None] = []
        self.asked: list[str] = []
        self.inside = self.most_inside = 0
        self.stays_s = 0.0
        self._second = threading.Event()

    def __call__(self, source: str) -> int | None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.asked.append(source)
        if self.inside > 1:
            self._second.set()
        self._second.wait(self.stays_s)  # for another one, who shall not come
        if self.moves:
            self.passed = self.moves.pop(0)
        told = self.passed
        self.inside -= 1
        return told


class Door:
    """The application whose 202 means replicated."""

    def __init__(self, file: Path, relay: Relay, *, within_s: float = 5.0) -> None:
        self.outbox = Outbox(file, passed=lambda source: 0, bounds=ROOM)
        self.reader = OutboxReader(file)
        self.replication = Replication(self.reader, relay, within_s=within_s)
        self.waited: list[int] = []
        app = create_app(
            self.outbox,
            self.reader,
            passed=lambda source: 0,
            forward=lambda: Response(status=404),
            kept=self._kept,
        )
        self._app = app

    def _kept(self, accepted: Sequence[Accepted]) -> None:
        self.replication.wait(accepted)
        self.waited.append(len(accepted))

    def run(self, **changes: Any) -> TestResponse:
        return self._app.test_client().post("/v1/workouts", json=RUN | changes)

    def batch(self, *workouts: dict[str, Any]) -> TestResponse:
        body = {"items": list(workouts)}
        return self._app.test_client().post("/v1/workouts/batch", json=body)


@pytest.fixture
def relay() -> Relay:
    return Relay()


@pytest.fixture
def door(tmp_path: Path, relay: Relay) -> Iterator[Door]:
    made = Door(tmp_path / "outbox.db", relay)
    yield made
    made.outbox.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The module's clock, which goes on only while somebody sleeps."""
    made = SimpleNamespace(now=100.0, slept=0)

    def sleep(seconds: float) -> None:
        made.now += seconds
        made.slept += 1

    fake = SimpleNamespace(monotonic=lambda: made.now, sleep=sleep)
    monkeypatch.setattr(module, "time", fake)
    return made


def test_202_is_said_only_after_the_bookmark_has_passed_the_event(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    relay.moves = [0, None, 0, 1]
    response = door.run()
    assert response.status_code == 202
    assert response.get_json()["duplicate"] is False
    assert relay.moves == []
    assert relay.asked == [door.reader.source_id] * 4
    assert door.waited == [1]
    assert clock.slept == 3  # it does not sleep over what it has just been told


def test_a_batch_waits_for_the_last_of_its_events(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    relay.moves = [1, 2, 3]
    response = door.batch(*[RUN | {"workout_id": f"w-{number}"} for number in range(3)])
    assert response.status_code == 202
    assert relay.moves == []


def test_what_the_bookmark_passed_before_is_not_asked_for_again(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    relay.passed = 3
    for number in range(3):
        assert door.run(workout_id=f"w-{number}").status_code == 202
    assert len(relay.asked) == 1
    assert clock.slept == 0


def test_past_the_deadline_it_is_503_and_the_retry_is_a_duplicate_202(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    late = door.run()
    assert (late.status_code, late.content_type) == (503, MEDIA_TYPE)
    assert int(late.headers["Retry-After"]) > 0
    assert "not replicated within 5 s" in late.get_json(force=True)["detail"]
    assert 5.0 <= clock.now - 100.0 < 5.1
    again = door.run()
    assert again.status_code == 503  # a duplicate is no more replicated than the first one was
    relay.passed = 1
    retried = door.run()
    assert (retried.status_code, retried.get_json()["duplicate"]) == (202, True)
    assert retried.get_json()["event_id"] == workout_event_id("ada", "w-1")
    assert door.reader.ids() == [(1, workout_event_id("ada", "w-1"))]


def test_a_bookmark_that_nobody_can_read_passes_nothing(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    relay.passed = None
    assert door.run().status_code == 503


def test_a_bookmark_that_goes_back_takes_nothing_back_that_it_has_passed(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    relay.moves = [2]
    assert door.batch(RUN, RUN | {"workout_id": "w-2"}).status_code == 202
    relay.passed = 0
    assert door.run().status_code == 202
    assert door.run(workout_id="w-3").status_code == 503


def test_the_wait_is_as_long_as_it_is_set(
    tmp_path: Path, relay: Relay, clock: SimpleNamespace
) -> None:
    door = Door(tmp_path / "outbox.db", relay, within_s=0.25)
    assert "within 0.25 s" in door.run().get_json(force=True)["detail"]
    assert clock.now - 100.0 < 0.3
    door.outbox.close()


def test_one_thread_looks_at_a_time_and_the_others_see_what_it_saw(
    door: Door, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody goes on before all have been accepted, so that all of them wait at the same time.
    everybody = threading.Barrier(16)
    wait = door.replication.wait

    def together(accepted: Sequence[Accepted]) -> None:
        everybody.wait(30)
        wait(accepted)

    monkeypatch.setattr(door.replication, "wait", together)
    relay.moves, relay.stays_s = [0, 0, 4, 8, 16], 0.1
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda n: door.run(workout_id=f"w-{n}"), range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert relay.most_inside == 1
    assert len(relay.asked) == 5


def test_what_was_not_accepted_is_not_waited_for(
    door: Door, relay: Relay, clock: SimpleNamespace
) -> None:
    assert door.run(duration_s=-1).status_code == 422
    relay.passed = 1
    door.run()
    asked = len(relay.asked)
    assert door.run(duration_s=1).status_code == 409
    assert len(relay.asked) == asked
    assert door.waited == [1]


def test_who_waits_for_rows_of_an_outbox_raises_outage_and_keeps_them(
    door: Door, clock: SimpleNamespace
) -> None:
    accepted = door.outbox.accept([seal(workout(), accepted_at=datetime.now(UTC))])
    with pytest.raises(Outage, match="send it again later"):
        door.replication.wait(accepted)
    assert len(door.reader.ids()) == 1
