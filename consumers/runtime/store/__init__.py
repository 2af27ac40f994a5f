"""Store, the contract: a consumer's documents, fates and watermarks, in one atomic commit."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

from consumers import Documents
from consumers.runtime.fates import Fate, State
from events.envelope import Sealed, read_envelope
from events.log import Position, Watermarks
from events.sources import Source


class Phase(StrEnum):
    """What a generation is: one is live, one may be built beside it, the last one is kept."""

    LIVE = "live"
    BUILDING = "building"
    OLD = "old"


class Lead(StrEnum):
    """Whether this process leads; a consumer's leader sweeps, retries, rebuilds and is asked."""

    NONE = "none"  # another one leads
    HELD = "held"  # still
    TAKEN = "taken"  # from now on
    INHERITED = "inherited"  # from now on, after one that did not end cleanly


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One full state of a consumer: documents, fates and watermarks of one version of its code.

    What was accepted before `since_ms` (ms since 1970) is not for it.
    """

    number: int
    phase: Phase
    version: int
    code: str
    bindings: tuple[str, ...]
    indexes: Mapping[str, tuple[str, ...]]
    since_ms: int = 0
    applied: int = 0
    rate: float = 0.0
    committed_ms: int = 0

    def is_before(self, body: bytes) -> bool:
        """Say whether an event was accepted before this generation wants anything."""
        if not self.since_ms:
            return False
        return read_envelope(body).acceptedat.timestamp() * 1000 < self.since_ms

    @property
    def since(self) -> datetime | None:
        """The first moment of acceptance that is for it; None where all is."""
        return datetime.fromtimestamp(self.since_ms / 1000, UTC) if self.since_ms else None


class Stored(NamedTuple):
    """A document as it is stored; the revision rises with each commit."""

    revision: int
    body: bytes


class Written(NamedTuple):
    """A document as it shall be; `revision` is the one it was loaded with, 0 for a new one."""

    key: str
    revision: int
    body: bytes


class Change(NamedTuple):
    """A fate that replaces another, or none; compared when it is written."""

    position: Position
    before: Fate | None
    after: Fate


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one batch writes, all or nothing; `applied` are positions that had no row.

    Of `facts` with one id the first that is committed stands.
    """

    documents: Sequence[Written] = ()
    applied: Sequence[Position] = ()
    changes: Sequence[Change] = ()
    facts: Sequence[Sealed] = ()
    through: Watermarks = field(default_factory=dict)
    rate: float = 0.0


class StoreReader(Protocol):
    """What anybody may ask of a consumer's store, at any time."""

    def generations(self) -> list[Generation]:
        """Return all generations, by number."""

    def live(self) -> Generation | None:
        """Return the generation that readers see."""

    def watermarks(self, generation: int) -> dict[str, int]:
        """Return how far each relay's rows were looked at."""

    def highest(self, generation: int) -> dict[str, int]:
        """Return the highest number of each relay that has a row or was looked at."""

    def fates(self, generation: int, positions: Sequence[Position]) -> dict[Position, Fate]:
        """Return the fates of those positions that have a row."""

    def open_fates(
        self,
        generation: int,
        state: State,
        *,
        due_ms: int | None = None,
        after: Position | None = None,
        limit: int = 1_000_000,
    ) -> list[tuple[Position, Fate]]:
        """Return the rows of a state other than applied, earliest due first; or only the due.

        With `after` they come by position, past that one.
        """

    def rows(
        self, generation: int, relay: str, after: int, through: int | None
    ) -> dict[int, State]:
        """Return number and state of every row of a relay with after < number <= through."""

    def counts(self, generation: int) -> dict[State, int]:
        """Return how many rows of each state there are."""

    def documents(self, generation: int) -> Documents:
        """Return what a read sees."""

    def moment(self) -> AbstractContextManager[None]:
        """Let all reads in the block see the same moment."""

    def facts(self) -> Source | None:
        """Return the facts of what readers see, for the relay; None where nothing is live yet."""

    def mark(self, name: str) -> str | None:
        """Return a small fact about this consumer, such as whether it is paused."""

    def running(self) -> bool:
        """Say whether a worker of this consumer runs."""

    def close(self) -> None:
        """Let it go."""


def each_open(
    store: StoreReader, generation: int, state: State, *, at_once: int = 500
) -> Iterator[list[tuple[Position, Fate]]]:
    """Yield all rows of a state other than applied, some at a time: there may be very many."""
    after = Position("", 0)
    while page := store.open_fates(generation, state, after=after, limit=at_once):
        yield page
        after = page[-1][0]


class Store(StoreReader, Protocol):
    """What the worker writes; several workers may, where it is `shared`."""

    shared: bool

    def begin(
        self,
        *,
        version: int,
        code: str,
        bindings: Sequence[str],
        indexes: Mapping[str, Sequence[str]],
        since_ms: int = 0,
    ) -> Generation:
        """Make an empty generation beside the live one, in place of one that was being built.

        It takes over what was discarded. Where none is live yet, it is live at once.
        """

    def abandon(self, generation: int) -> None:
        """Drop a generation that is being built; what is live or kept stays."""

    def swap(self, generation: int, *, expected: int) -> None:
        """Make a built generation live and the live one old; drop the one that was old.

        What was discarded while it was built, and is not applied in it, is discarded in it too.
        Raises Overtaken where `expected` is not the live one any more.
        """

    def load(self, generation: int, keys: Sequence[str]) -> dict[str, Stored]:
        """Return the documents that exist, with their revisions."""

    def commit(self, generation: int, commit: Commit) -> None:
        """Write everything or nothing, synced.

        Raises Overtaken where a document or a fate is not what the commit was computed from, and
        Gone where the generation is not there any more; Refused where the store does not take its
        content; Outage otherwise.
        """

    def lead(self) -> Lead:
        """Take or keep the lead, and say that this process runs; to be called every few seconds.

        Two may believe that they lead, while one of them is stuck: what the other one writes then
        overtakes it.
        """

    def leave(self) -> None:
        """Say that this process ends, and cleanly."""

    def set_mark(self, name: str, value: str | None) -> None:
        """Write a small fact about this consumer, or take it away."""
