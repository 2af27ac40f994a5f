"""How many messages become few writes to a socket, and none is held back for ever."""

from typing import Any

import pika
import pytest

from events.bus.rabbitmq_joined import JoinedConnection


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What comes to the socket, a write each."""
    written: list[bytes] = []
    base: Any = pika.SelectConnection
    monkeypatch.setattr(base, "__init__", lambda self: None)
    monkeypatch.setattr(base, "_adapter_emit_data", lambda self, data: written.append(data))
    return written


def test_what_is_sent_in_a_block_is_one_write_and_else_each_frame_is_one(
    writes: list[bytes],
) -> None:
    connection = JoinedConnection()
    connection._adapter_emit_data(b"heartbeat")
    with connection.joined():
        for frame in (b"method", b"header", b"body"):
            connection._adapter_emit_data(frame)
    connection._adapter_emit_data(b"ack")
    assert writes == [b"heartbeat", b"methodheaderbody", b"ack"]


def test_a_block_of_large_messages_is_some_writes_in_the_same_order(writes: list[bytes]) -> None:
    frames = [bytes([number]) * 50_000 for number in range(60)]
    connection = JoinedConnection()
    with connection.joined():
        for frame in frames:
            connection._adapter_emit_data(frame)
    assert b"".join(writes) == b"".join(frames)
    assert 5 < len(writes) < 20


def test_a_block_that_fails_has_sent_what_came_before(writes: list[bytes]) -> None:
    connection = JoinedConnection()

    def fail() -> None:
        with connection.joined():
            connection._adapter_emit_data(b"one")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert writes == [b"one"]
    with connection.joined():
        pass
    assert writes == [b"one"]
