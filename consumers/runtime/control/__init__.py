"""Control: requests to the process that owns the work, and how far each is."""

from enum import StrEnum
from typing import Any, NamedTuple, Protocol


class RequestState(StrEnum):
    """A request waits, runs, and ends in one of three ways."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Request(NamedTuple):
    """One operation: what was asked, how far it is, and what `memory` its owner keeps of it.

    An owner that ends leaves it running; the next owner goes on from `memory`.
    """

    id: int
    consumer: str
    verb: str
    arguments: dict[str, Any]
    state: RequestState
    done: int
    total: int
    memory: dict[str, Any]
    answer: dict[str, Any]
    asked_at: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in (RequestState.WAITING, RequestState.RUNNING)


class Control(Protocol):
    """The requests of one installation; every process may write them."""

    def ask(self, consumer: str, verb: str, arguments: dict[str, Any]) -> Request:
        """Write a request; one that is the same and still open is joined instead."""

    def get(self, request_id: int) -> Request:
        """Return a request; raises LookupError where there is none."""

    def listed(self, *, limit: int = 100) -> list[Request]:
        """Return the newest requests, newest first."""

    def open(self, consumer: str) -> list[Request]:
        """Return what a consumer's leader has to do, oldest first."""

    def report(
        self, request_id: int, *, done: int, total: int, memory: dict[str, Any] | None = None
    ) -> bool:
        """Write progress; return False where the request was cancelled meanwhile."""

    def finish(self, request_id: int, *, answer: dict[str, Any], failed: bool = False) -> None:
        """Write how it ended, unless it was cancelled before; what ended well is all done."""

    def cancel(self, request_id: int) -> bool:
        """End a request that is still open; its owner stops at its next step."""

    def close(self) -> None:
        """Let it go."""
