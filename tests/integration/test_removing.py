"""Removing a consumer: its queue and its state are gone, and of nobody else anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from consumers.runtime import removing as module
from consumers.runtime.places import hold
from consumers.runtime.removing import remove
from consumers.runtime.store.sqlite import SqliteStore
from events.errors import Outage, PacelineError
from events.settings import Settings, read_settings
from tests.integration.doubles import MemoryQueue


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    return read_settings()


def ran(settings: Settings, name: str) -> None:
    """Leave what a worker leaves that was killed: its file, what is beside it, its last words."""
    file = settings.store_file(name)
    with hold(settings, name, wait_s=0) as place:
        store = SqliteStore(file)
        store.set_mark("paused", "1")
        place.traces.write_text("Timeout (0:00:05)!")
        beside = [file.with_name(file.name + ending) for ending in ("-wal", "-shm")]
        kept = [one.read_bytes() for one in beside]
        store.close()
    for one, was in zip(beside, kept, strict=True):
        one.write_bytes(was)


def left(settings: Settings) -> set[str]:
    return {file.name for file in settings.store_file("any").parent.glob("*")}


def queues(monkeypatch: pytest.MonkeyPatch, **there: MemoryQueue) -> list[str]:
    """Let these consumers have queues; return whose were asked for."""
    asked: list[str] = []

    def queue_of(settings: Settings, name: str) -> MemoryQueue | None:
        asked.append(name)
        return there.get(name)

    monkeypatch.setattr(module, "queue_of", queue_of)
    return asked


def test_all_files_of_a_consumer_are_taken_away_and_no_others(settings: Settings) -> None:
    ran(settings, "recovery")
    ran(settings, "recovery-2")
    others = {name for name in left(settings) if name.startswith("recovery-2")}
    assert remove(settings, "recovery") == ["state"]
    assert left(settings) == others
    assert remove(settings, "recovery-2") == ["state"]
    assert left(settings) == set()
    assert remove(settings, "recovery") == []


def test_who_begins_again_after_that_begins_from_nothing(settings: Settings) -> None:
    ran(settings, "recovery")
    remove(settings, "recovery")
    store = SqliteStore(settings.store_file("recovery"))
    assert store.mark("paused") is None
    assert store.generations() == []
    store.close()


def test_a_consumer_that_never_was_leaves_nothing_and_that_is_told(settings: Settings) -> None:
    assert remove(settings, "nobody") == []


def test_its_queue_is_taken_away_too_and_said_first(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(settings, "recovery")
    queue = MemoryQueue(size=10)
    queue.there = True
    asked = queues(monkeypatch, recovery=queue)
    assert remove(settings, "recovery") == ["queue", "state"]
    assert asked == ["recovery"]
    assert not queue.there
    assert remove(settings, "recovery") == []


@pytest.mark.parametrize("state", [True, False])
def test_what_there_was_of_the_two_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, *, state: bool
) -> None:
    queue = MemoryQueue(size=10)
    queue.there = not state
    queues(monkeypatch, recovery=queue)
    if state:
        ran(settings, "recovery")
    assert remove(settings, "recovery") == (["state"] if state else ["queue"])


def test_while_a_worker_of_it_runs_nothing_is_touched(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(settings, "recovery")
    queue = MemoryQueue(size=10)
    queue.there = True
    queues(monkeypatch, recovery=queue)
    before = left(settings)
    with (
        hold(settings, "recovery", wait_s=0),
        pytest.raises(PacelineError, match="A worker of recovery runs"),
    ):
        remove(settings, "recovery")
    assert (left(settings), queue.there) == (before, True)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../outbox", "a/b", "/etc/passwd", "Recovery", "recovery\n", "x" * 64, "recovery+0"],
)
def test_what_is_no_consumers_name_is_refused_before_anything_is_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = queues(monkeypatch)
    settings.outbox_file.write_bytes(b"precious")
    with pytest.raises(PacelineError, match="no consumer's name"):
        remove(settings, name)
    assert asked == []
    assert settings.outbox_file.read_bytes() == b"precious"


def test_where_the_broker_is_away_the_state_stays_so_that_it_can_be_done_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(settings, "recovery")
    before = left(settings)

    def away(settings: Settings, name: str) -> MemoryQueue:
        raise Outage("no broker")

    monkeypatch.setattr(module, "queue_of", away)
    with pytest.raises(Outage):
        remove(settings, "recovery")
    assert left(settings) == before


def test_beside_a_servers_state_a_worker_anywhere_is_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = replace(settings, broker_url="amqp://x", store_url="mongodb://x")
    dropped: list[str] = []
    served = True
    monkeypatch.setattr(module, "is_served", lambda settings, name: served)
    monkeypatch.setattr(module, "drop_store", lambda settings, name: dropped.append(name) or True)
    queues(monkeypatch)
    with pytest.raises(PacelineError, match="stop it first"):
        remove(distributed, "recovery")
    assert dropped == []
    served = False
    assert remove(distributed, "recovery") == ["state"]
    assert dropped == ["recovery"]
