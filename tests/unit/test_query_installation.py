"""The files that the query process reads: missing, half made, replaced, broken, used by threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from consumers.runtime.installation import Installation
from consumers.runtime.store.sqlite import SqliteStore
from events.errors import Outage
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_reader import SqliteLogReader
from tests.factories import workout
from tests.unit.query_world import World, installed


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for made in installed(tmp_path, monkeypatch):
        made.plug_in()
        yield made


def test_files_that_are_not_there_yet_read_as_nothing(world: World, tmp_path: Path) -> None:
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    installation = Installation(world.settings)
    assert installation.log() is None
    assert installation.store("miles") is None
    assert installation.names() == ["miles"]


def test_files_that_their_owners_are_still_making_are_unavailable_until_they_are_made(
    world: World,
) -> None:
    world.log.close()
    installation, client = Installation(world.settings), world.client()
    for path in (world.settings.log_file, world.settings.store_file("miles")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for address in ("/readyz", "/v1/users/ada/workouts", "/v1/consumers/miles/documents"):
        refused = client.get(address)
        assert refused.status_code == 503
        assert refused.json["type"] == "/problems/unavailable"
        assert refused.headers["Retry-After"]
    world.log = SqliteEventLog(world.settings.log_file)
    world.begin()
    log, store = installation.log(), installation.store("miles")
    assert log is not None
    assert log.settled() == {}
    assert store is not None
    assert store.live() is not None


def test_a_reader_is_kept_for_the_thread_that_opened_it(world: World) -> None:
    installation = Installation(world.settings)
    barrier = Barrier(4)

    def read(_: int) -> tuple[int, bool]:
        barrier.wait(30)
        log = installation.log()
        barrier.wait(30)
        return id(log), log is installation.log()

    with ThreadPoolExecutor(4) as pool:
        readers = list(pool.map(read, range(4)))
    assert len({identity for identity, _ in readers}) == 4
    assert all(same for _, same in readers)


def test_a_store_that_was_put_in_place_of_another_is_read(world: World, tmp_path: Path) -> None:
    world.post(workout())
    world.fold()
    client = world.client()
    assert client.get("/v1/users/ada/miles").json == {"metres": 5000.0}
    world.store().close()
    other = SqliteStore(tmp_path / "other.db")
    world.stores["miles"] = other
    world.begin()
    other.close()
    file = world.settings.store_file("miles")
    for beside in ("-wal", "-shm"):
        file.with_name(file.name + beside).unlink(missing_ok=True)
    (tmp_path / "other.db").replace(file)
    del world.stores["miles"]
    assert client.get("/v1/users/ada/miles").status_code == 404
    world.post(workout(workout_id="w2", distance_mm=1000))
    world.fold()
    assert client.get("/v1/users/ada/miles").json == {"metres": 5001.0}


def test_a_store_that_is_broken_is_unavailable_until_it_is_repaired(world: World) -> None:
    world.post(workout())
    world.fold()
    client = world.client()
    file = world.settings.store_file("miles")
    world.store().close()
    good = file.read_bytes()
    file.unlink()
    file.write_bytes(b"this is no database" * 500)
    del world.stores["miles"]
    broken = client.get("/v1/consumers/miles/documents")
    assert broken.status_code == 503
    assert broken.json["type"] == "/problems/unavailable"
    assert broken.headers["Retry-After"] == "2"
    file.unlink()
    file.write_bytes(good)
    assert client.get("/v1/consumers/miles/documents").status_code == 200


def test_after_an_outage_the_file_is_opened_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SqliteLogReader] = []
    real = SqliteLogReader.settled

    def settled(reader: SqliteLogReader) -> dict[str, int]:
        asked.append(reader)
        if len(asked) == 1:
            raise Outage("The disk is away.")
        return real(reader)

    monkeypatch.setattr(SqliteLogReader, "settled", settled)
    client = world.client()
    assert client.get("/readyz").status_code == 503
    assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert asked[0] is not asked[1]
    assert asked[1] is asked[2]


def test_the_process_is_ready_when_the_log_can_be_read(world: World, tmp_path: Path) -> None:
    client = world.client()
    assert client.get("/readyz").json == {"status": "ready"}
    for file in tmp_path.glob("log.db*"):
        file.unlink()
    unready = client.get("/readyz")
    assert unready.status_code == 503
    assert unready.content_type == "application/problem+json"
    assert client.get("/healthz").json == {"status": "ok"}


def test_consumers_are_looked_for_again_only_when_it_is_time(world: World) -> None:
    seldom = Installation(world.settings, rescan_s=3600)
    often = Installation(world.settings, rescan_s=0)
    world.plug_in("later", "")
    assert seldom.names() == ["miles"]
    assert often.names() == ["later", "miles"]
