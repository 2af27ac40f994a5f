"""Pace: so many events a second and no more, however long each step takes."""

import time

# As long as a runner that has nothing to do waits between two turns.
_REST_S = 0.005


class Pace:
    """A bucket of tokens: one for each event, as many a second as the rate, a second's at most."""

    def __init__(self, per_s: float | None) -> None:
        """Allow `per_s` events a second; None allows all."""
        self._per_s = per_s
        self._tokens, self._at = 1.0, time.monotonic()

    def room(self, most: int) -> int:
        """Return how many of `most` may come now."""
        if self._per_s is None:
            return most
        now = time.monotonic()
        grown = self._tokens + (now - self._at) * self._per_s
        self._tokens, self._at = min(grown, max(1.0, self._per_s)), now
        return min(most, int(self._tokens))

    def spend(self, count: int) -> None:
        """Note that so many came."""
        self._tokens -= count

    def rest(self) -> None:
        """Wait a moment where there is no room, so that looking for it takes no processor."""
        time.sleep(_REST_S)
