"""A connection that writes many messages to its socket at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

# What the socket does not take of a write is copied each time, so a write is not without a bound.
_MOST = 1 << 18  # bytes


class JoinedConnection(pika.SelectConnection):  # type: ignore[misc]  # pika ships no types
    """Joins what is sent within a block into few writes; pika alone makes three of each message."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Connect as pika does."""
        self._joined = bytearray()
        self._joins = False
        super().__init__(*arguments, **options)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Hold back what is sent until the block ends, or it is much."""
        self._joins = True
        try:
            yield
        finally:
            self._joins = False
            self._write()

    def _adapter_emit_data(self, data: bytes) -> None:
        self._joined += data
        if not self._joins or len(self._joined) > _MOST:
            self._write()

    def _write(self) -> None:
        if self._joined:
            super()._adapter_emit_data(bytes(self._joined))
            self._joined.clear()
