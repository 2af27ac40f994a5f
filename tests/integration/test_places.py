"""The place of a worker on a host: one for a consumer's file, many beside a server's state."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from consumers.runtime import places as module
from consumers.runtime.places import hold, is_served
from consumers.runtime.store import Lead
from consumers.runtime.store.mongo import MongoStore
from events.errors import Held
from events.mongo import database_name
from events.settings import Settings, read_settings
from events.ways import mongo
from tests.servers.databases import databases
from tests.servers.mongod import Mongod

ELSEWHERE = "mongodb://127.0.0.1:1/paceline"  # nobody is asked there


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PACELINE_DATA_DIR", str(tmp_path))
    return read_settings()


@pytest.fixture
def distributed(settings: Settings) -> Settings:
    return replace(settings, broker_url="amqp://127.0.0.1:1", store_url=ELSEWHERE)


def test_a_consumers_file_has_one_place_until_it_is_let_go(settings: Settings) -> None:
    with hold(settings, "calories", wait_s=0) as place:
        assert place.traces.parent == settings.store_file("calories").parent
        with pytest.raises(Held), hold(settings, "calories", wait_s=0):
            pass
        with hold(settings, "leaderboard", wait_s=0) as other:
            assert other.traces != place.traces
    with hold(settings, "calories", wait_s=0) as again:
        assert again == place


def test_the_lock_of_a_file_is_that_of_its_store(settings: Settings) -> None:
    with hold(settings, "calories", wait_s=0):
        assert settings.store_file("calories").with_name("calories.db.lock").exists()
        assert is_served(settings, "calories")
        assert not is_served(settings, "leaderboard")
    assert not is_served(settings, "calories")


def test_beside_a_servers_state_each_worker_has_a_place_of_its_own(distributed: Settings) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(hold(distributed, "calories", wait_s=0)) for _ in range(20)]
    assert len({place.traces for place in held}) == 20
    assert len({place.loading for place in held}) == 20


def test_the_mark_that_a_worker_loads_its_code_names_its_host(distributed: Settings) -> None:
    with hold(distributed, "calories", wait_s=0) as place:
        assert place.loading.startswith("loading ")
        assert socket.gethostname() in place.loading


def test_the_first_place_that_is_free_is_taken_so_that_its_last_words_are_read(
    distributed: Settings,
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(hold(distributed, "calories", wait_s=0))
        with hold(distributed, "calories", wait_s=0) as second:
            third = stack.enter_context(hold(distributed, "calories", wait_s=0))
        with hold(distributed, "calories", wait_s=0) as again:
            assert again == second
            assert len({first.traces, second.traces, third.traces}) == 3


def test_a_worker_of_a_server_and_one_of_a_file_are_not_in_each_others_place(
    settings: Settings, distributed: Settings
) -> None:
    with (
        hold(settings, "calories", wait_s=0) as here,
        hold(distributed, "calories", wait_s=0) as (there),
    ):
        assert here.traces != there.traces


def test_a_consumer_whose_name_begins_like_anothers_has_other_places(
    distributed: Settings,
) -> None:
    with hold(distributed, "a", wait_s=0) as one, hold(distributed, "a-0", wait_s=0) as other:
        assert one.traces != other.traces


def test_when_every_place_is_taken_that_is_told(
    distributed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLACES", 2)
    with (
        hold(distributed, "calories", wait_s=0),
        hold(distributed, "calories", wait_s=0),
        pytest.raises(Held, match="2 workers of calories run on this host"),
        hold(distributed, "calories", wait_s=0),
    ):
        pass


@pytest.fixture
def on_a_server(settings: Settings, mongod: Mongod) -> Iterator[tuple[Settings, MongoStore]]:
    """Settings for a database of its own, and the store of a worker elsewhere."""
    with databases(mongod) as made:
        base = made.new_name()
        parts = urlsplit(mongod.url)
        settings = replace(
            settings,
            broker_url="amqp://127.0.0.1:1",
            store_url=urlunsplit(parts._replace(path=f"/{base}")),
        )
        name = database_name(mongo(settings.store_url), "calories")
        store = MongoStore(made.client, name, "elsewhere:1:abc")
        yield settings, store
        store.close()
        made.client.drop_database(name)
        mongo(settings.store_url).close()


def test_beside_a_servers_state_a_consumer_is_served_by_whoever_runs_wherever(
    on_a_server: tuple[Settings, MongoStore],
) -> None:
    settings, store = on_a_server
    assert not is_served(settings, "calories")
    assert store.lead() in (Lead.TAKEN, Lead.INHERITED)
    assert is_served(settings, "calories")
    assert not is_served(settings, "leaderboard")
    store.leave()
    assert not is_served(settings, "calories")
