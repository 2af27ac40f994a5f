"""A connection that writes many messages to its socket at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika


class JoinedConnection(pika.SelectConnection):  # type: ignore[misc]  # pika ships no types
    """Joins what is sent within a block into one write; pika itself makes three of each message."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Connect as pika does."""
        self._joined: list[bytes] | None = None
        super().__init__(*arguments, **options)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Hold back what is sent until the block ends."""
        self._joined = []
        try:
            yield
        finally:
            joined, self._joined = self._joined, None
            if joined:
                super()._adapter_emit_data(b"".join(joined))

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._joined is None:
            super()._adapter_emit_data(data)
        else:
            self._joined.append(data)
