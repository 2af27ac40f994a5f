"""Where the relay reads, and what it remembers of that: sources and bookmarks."""

from typing import NamedTuple, Protocol

from events.envelope import Sealed


class Row(NamedTuple):
    """One row of a source; numbers rise in the order in which rows become visible."""

    number: int
    event: Sealed


class Bookmark(NamedTuple):
    """How far the relay is in a source, with the event's id there, to know the source again."""

    source: str
    row: int
    event_id: str


class Stuck(NamedTuple):
    """A row that the log refuses for itself, with its bytes: the source will forget them."""

    source: str
    row: int
    event_id: str
    reason: str
    body: bytes


class Source(Protocol):
    """Where the relay reads: an outbox, or the facts that a store holds."""

    @property
    def source_id(self) -> str:
        """Random, made with the file."""

    def rows(self, after: int, *, limit: int) -> list[Row]:
        """Return the next rows whose payload is still there."""

    def event_id_at(self, row: int) -> str | None:
        """Return the event's id of a row, or None where there is no such row."""


class Bookmarks(Protocol):
    """What the relay remembers of its sources."""

    def load(self, source: str) -> Bookmark | None:
        """Return the bookmark in a source, or None."""

    def save(self, bookmark: Bookmark) -> None:
        """Write it, synced."""

    def set_aside(self, stuck: Stuck) -> None:
        """Write a row that is stepped over, synced."""
