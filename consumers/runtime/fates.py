"""Fates: what became of an event for a consumer, and the ladder that a failing one climbs."""

import random
import traceback
from dataclasses import dataclass, replace
from enum import StrEnum

from events.errors import NewerVersion

LAST_STRIKE = 3
_LONGEST_WAIT_S = 86_400.0
TOGETHER = "It is tried together with others."
_LONGEST_TRACE = 8_000


class State(StrEnum):
    """Pending and not-for-it need no row."""

    APPLIED = "applied"
    RETRYING = "retrying"
    DEAD = "dead"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One row; times are ms since 1970.

    `attempts` is how often it failed. A strike is written before a suspect is folded, and is
    replaced by its fate: whoever finds one knows that the process ended in between. `needs` is the
    version of the fact that this code does not know yet; `by` is the place of the worker that
    wrote the last strike.
    """

    state: State
    attempts: int = 0
    strikes: int = 0
    due_ms: int | None = None
    needs: int | None = None
    reason: str = ""
    trace: str = ""
    first_ms: int | None = None
    last_ms: int | None = None
    version: int | None = None
    by: str = ""


APPLIED = Fate(state=State.APPLIED)


@dataclass(frozen=True, slots=True)
class Ladder:
    """After each failure the next rung is waited for; past the last one the event is dead."""

    rungs_s: tuple[float, ...] = (1, 10, 60, 600, 3600)
    jitter: float = 0.2

    def after_failure(
        self, before: Fate | None, error: BaseException, *, now_ms: int, version: int
    ) -> Fate:
        """Return the fate after a failed fold: retrying, waiting for newer code, or dead."""
        if isinstance(error, NewerVersion):
            return self._waiting(error, now_ms)
        attempts = (before.attempts if before else 0) + 1
        permanent = bool(getattr(error, "permanent", False))
        if getattr(error, "discard", False):
            return Fate(state=State.DISCARDED, reason=str(error), last_ms=now_ms, version=version)
        if getattr(error, "pause", False):
            return self._paused(before, error, now_ms)
        fate = Fate(
            state=State.DEAD,
            attempts=attempts,
            reason=reason_of(error),
            trace=_trace_of(error),
            first_ms=before.first_ms if before and before.first_ms else now_ms,
            last_ms=now_ms,
            version=version,
        )
        if permanent or attempts > len(self.rungs_s):
            return fate
        wait_s = self.rungs_s[attempts - 1] * random.uniform(1, 1 + self.jitter)  # noqa: S311
        wait_s = max(wait_s, _asked_for(error))
        return replace(fate, state=State.RETRYING, due_ms=now_ms + int(wait_s * 1000))

    def _paused(self, before: Fate | None, error: BaseException, now_ms: int) -> Fate:
        """Return the fate of an event whose whole consumer is to stand still: it costs nothing."""
        fate = before or Fate(state=State.RETRYING, first_ms=now_ms)
        return replace(
            fate, state=State.RETRYING, due_ms=now_ms, reason=reason_of(error), last_ms=now_ms
        )

    def _waiting(self, error: NewerVersion, now_ms: int) -> Fate:
        return Fate(
            state=State.RETRYING,
            needs=error.version,
            reason=str(error),
            first_ms=now_ms,
            last_ms=now_ms,
        )


def _asked_for(error: BaseException) -> float:
    """Return how long the other end wants to be left alone, in seconds, at most a day."""
    asked = getattr(error, "retry_after_s", 0.0)
    # Bounded before it is a float: an int may be too large to be one.
    return float(max(0, min(asked, _LONGEST_WAIT_S))) if isinstance(asked, int | float) else 0.0


def struck(
    before: Fate | None, *, now_ms: int, version: int, within_s: float = 0.0, by: str = ""
) -> Fate:
    """Return the fate that is committed before a suspect is folded; the last strike is dead.

    It is due for others only `within_s` later: until then the worker `by` may be at it.
    """
    strikes = (before.strikes if before else 0) + 1
    if before and before.reason == TOGETHER:
        before = replace(before, reason="")
    fate = replace(
        before or Fate(state=State.RETRYING, first_ms=now_ms),
        state=State.RETRYING,
        strikes=strikes,
        due_ms=now_ms + int(within_s * 1000),
        by=by,
        last_ms=now_ms,
        version=version,
    )
    if strikes < LAST_STRIKE:
        return fate
    reason = fate.reason or "The process ended each time this event was folded."
    return replace(fate, state=State.DEAD, due_ms=None, reason=reason)


def reason_of(error: BaseException) -> str:
    """Return an error on one line."""
    return _encodable(f"{type(error).__name__}: {error}".replace("\n", " "))[:500]


def _trace_of(error: BaseException) -> str:
    return _encodable("".join(traceback.format_exception(error)))[-_LONGEST_TRACE:]


def _encodable(text: str) -> str:
    # Strangers' messages may hold lone surrogates, which no store takes.
    return text.encode(errors="backslashreplace").decode()
