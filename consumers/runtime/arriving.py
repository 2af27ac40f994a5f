"""Arriving: a consumer that comes to a long history takes what the machine can spare for it."""

import os
from contextlib import suppress
from pathlib import Path

import structlog

from consumers.runtime.parts import Parts
from consumers.runtime.sweep import remaining

logger = structlog.get_logger(__name__)
_LONG, _NEARLY = 5_000, 500  # events
_LESS_IMPORTANT = 10
_ARRIVING = "arriving"  # in the store, because a process may be killed on the way


class Arriving:
    """Lets every other process go first until the past is folded.

    Nobody but root can take that back. So the process ends when it has arrived, and whoever
    restarts it starts one like all others.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._is_on: bool | None = None

    def _begin(self) -> None:
        """Look, once the log can be read, whether there is a long way to go, or the rest of one."""
        store = self._parts.store
        goes_on = store.mark(_ARRIVING) is not None
        live = store.live()
        is_new = live is not None and not store.watermarks(live.number)
        left = self._left() if goes_on or is_new else 0
        self._is_on = left > (_NEARLY if goes_on else _LONG)
        if self._is_on:
            _step_back()
            self._say("arriving", left)
        if self._is_on != goes_on:
            store.set_mark(_ARRIVING, "1" if self._is_on else None)

    def is_over(self) -> bool:
        """Say whether it was on, and nearly all is folded; and how much is left, in the journal."""
        if self._is_on is None:
            self._begin()
        if not self._is_on:
            return False
        left = self._left()
        self._is_on = left > _NEARLY
        self._say("arriving" if self._is_on else "arrived", left)
        if not self._is_on:
            self._parts.store.set_mark(_ARRIVING, None)
        return not self._is_on

    def _left(self) -> int:
        # Asked anew each time: a raised version may go live on the way.
        live = self._parts.store.live()
        if live is None:
            return 0
        marks = self._parts.store.watermarks(live.number)
        return remaining(self._parts.log, live.bindings, marks, since=live.since)

    def _say(self, what: str, left: int) -> None:
        name = self._parts.loaded.name
        logger.info(what, action=what, consumer=name, events_left=left)


def _step_back() -> None:
    """Let every other process go first.

    Where the kernel groups processes by their sessions, it compares the groups; of a session that
    is ours alone, as a supervisor gives each worker, the group steps back too.
    """
    os.nice(_LESS_IMPORTANT)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a kernel without such groups
            Path("/proc/self/autogroup").write_text(str(_LESS_IMPORTANT))
