"""A receiver on loopback, names that resolve as told, and an event."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from webhook_receiver import SECRET, Receiver

from paceline_webhooks import Webhooks


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.ended.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PACELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PACELINE_WEBHOOKS_SECRET", SECRET)


@pytest.fixture
def webhooks(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Webhooks:
    """A handler that sends to the receiver."""
    monkeypatch.setenv("PACELINE_WEBHOOKS_URL", receiver.url)
    monkeypatch.setenv("PACELINE_WEBHOOKS_ALLOW_PRIVATE", "1")
    return Webhooks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlocked:
    user_id: str = "ada"
    badge: str = "first-workout"
    workout_id: str = "w-1"
    day: str = "2026-11-24"
    origin: str = "live"


@pytest.fixture
def event() -> SimpleNamespace:
    return SimpleNamespace(
        id="6f1c2a34-0d1e-5f6a-8b7c-9d0e1f2a3b4c",
        type="achievement.unlocked",
        version=1,
        user_id="ada",
        time=datetime.fromisoformat("2026-11-24T07:30:00+01:00"),
        accepted_at=datetime.fromisoformat("2026-11-24T06:31:00+00:00"),
        routing_key="achievement.unlocked.first-workout",
        data=Unlocked(),
    )


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Name -> what each look-up of it answers in turn; one look-up too many is an error."""
    told: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def stub(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in told:
            return real(host, port, *args, **options)
        return [
            found
            for address in told[name].pop(0)
            for found in real(address, port, type=socket.SOCK_STREAM)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", stub)
    return told
