"""The doctor asks the servers that the settings name."""

import pytest

from consumers.runtime.doctor import findings
from events.settings import read_settings
from tests.servers.mongod import Mongod
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitMQ


def found(monkeypatch: pytest.MonkeyPatch, broker_url: str, store_url: str) -> dict[str, str]:
    """What the doctor says of the servers, with `ok` or `BAD` before it."""
    monkeypatch.setenv("PACELINE_BROKER_URL", broker_url)
    monkeypatch.setenv("PACELINE_STORE_URL", store_url)
    return {
        one.what: f"{'ok' if one.ok else 'BAD'} {one.detail}"
        for one in findings(read_settings())
        if one.what in ("broker", "store")
    }


def test_servers_that_answer_are_well_and_no_password_is_shown(
    monkeypatch: pytest.MonkeyPatch, rabbitmq: RabbitMQ, mongod: Mongod
) -> None:
    told = found(monkeypatch, rabbitmq.new_vhost(), mongod.url)
    assert told["broker"].startswith("ok amqp://guest:***@127.0.0.1:")
    assert told["store"] == f"ok {mongod.url} answers"


def test_servers_that_do_not_answer_are_named_each(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = free_port()
    store = f"mongodb://127.0.0.1:{nobody}/?serverSelectionTimeoutMS=200"
    told = found(monkeypatch, f"amqp://127.0.0.1:{nobody}/", store)
    assert told["broker"].startswith("BAD ")
    assert str(nobody) in told["broker"]
    assert told["store"].startswith("BAD ")
    assert str(nobody) in told["store"]


def test_without_servers_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [one for one in findings(read_settings()) if one.what in ("broker", "store")]
