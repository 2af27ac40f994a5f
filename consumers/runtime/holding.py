"""Holding: what keeps a built generation from going live, and how people are told of it."""

from collections.abc import Sequence

from consumers.runtime.comparing import compares, failing, holds
from consumers.runtime.control import Request, RequestState
from consumers.runtime.fates import State
from consumers.runtime.parts import Parts
from consumers.runtime.store import Generation

# The operation that a built generation waits for, and the code that it is of.
HELD = "held"
_REFUSED = "refused"
_MOST_FAILING = 1 / 10  # of its events, beyond those that fail in the live one too


class Holding:
    """Says whether the code needs a generation, and whether one that is whole must wait."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._store, self._name = parts, parts.store, parts.loaded.name

    def is_needed(self, live: Generation) -> bool:
        """Say whether the code needs a new generation, and nobody has refused what it makes."""
        loaded = self._parts.loaded
        return live.version != loaded.version and self._store.mark(_REFUSED) != loaded.code

    def look(self, live: Generation, asked: Sequence[Request]) -> None:
        """Note who compares; one that was cancelled meanwhile has refused what was built."""
        comparing = [one.id for one in asked if compares(one)]
        held = self._store.mark(HELD)
        held_by, _, code = (held or "0").partition(" ")
        if held and int(held_by) not in comparing:
            if self._is_cancelled(int(held_by)) and code == self._parts.loaded.code:
                self.refuse(live)
            self._store.set_mark(HELD, None)
        if comparing and held != (now := f"{comparing[0]} {self._parts.loaded.code}"):
            self._store.set_mark(HELD, now)

    def _is_cancelled(self, request_id: int) -> bool:
        try:
            return self._parts.control.get(request_id).state is RequestState.CANCELLED
        except LookupError:
            return False  # the requests were begun anew; nobody can have cancelled it

    def keeps(self, live: Generation, built: Generation, asked: Sequence[Request]) -> bool:
        """Say whether a whole generation must not go live yet."""
        if asked:
            return any(holds(request, built.number) for request in asked)
        return self._store.mark("paused") is not None or self._fails(live, built)

    def _fails(self, live: Generation, built: Generation) -> bool:
        """Say whether it fails where the live one does not; then this consumer stands still."""
        before, now = (failing(self._store, one) for one in (live, built))
        events = now + self._store.counts(built.number)[State.APPLIED]
        if now - before <= _MOST_FAILING * events:
            return False
        self._stand_still(
            f"Version {built.version} of its code fails on {now} of {events} events "
            f"({self._reason(built)}), version {live.version} on {before}. Mend it, put the old "
            f"code back, or let it go live: `paceline rebuild {self._name}`."
        )
        return True

    def _reason(self, generation: Generation) -> str:
        for state in (State.RETRYING, State.DEAD):
            for _, fate in self._store.open_fates(generation.number, state, limit=1):
                return fate.reason
        return ""

    def refuse(self, live: Generation) -> None:
        """Never build again what this code makes, unless somebody asks for it."""
        if live.version != self._parts.loaded.version:
            self._store.set_mark(_REFUSED, self._parts.loaded.code)
            self.say_refused()

    def say_refused(self) -> None:
        """Say why this consumer stands still."""
        self._stand_still(
            f"What version {self._parts.loaded.version} of its code makes was thrown away. Put the "
            f"old code back, or let it go live: `paceline rebuild {self._name}`."
        )

    def _stand_still(self, why: str) -> None:
        if self._store.mark("problem") is None:
            self._store.set_mark("problem", why)

    def let_go(self) -> None:
        """Forget all of it: what was built is live."""
        for mark in (_REFUSED, HELD):
            self._store.set_mark(mark, None)
