"""How many events a second a worker applies, over about the last ten seconds."""

import math
import time

_WINDOW_S = 10.0


class Rate:
    """An average that forgets."""

    def __init__(self) -> None:
        self._per_s = 0.0
        self._last = time.monotonic()

    def after(self, count: int) -> float:
        """Return the rate, in events per second, when `count` more were applied just now."""
        now = time.monotonic()
        passed = max(now - self._last, 1e-3)
        self._last = now
        weight = math.exp(-passed / _WINDOW_S)
        self._per_s = self._per_s * weight + (count / passed) * (1 - weight)
        return round(self._per_s, 1)
