"""The supervisor: starts the platform's processes, restarts what ends, and ends them in order."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from events.patience import Patience
from events.process import PARENT

logger = structlog.get_logger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 60.0
_HEALTHY_S = 30.0
_WELL_S = 1.0  # for one that ended by itself; what ends at once each time is not well
_LOOK_EVERY_S = 2.0
_END_WITHIN_S = 15.0
Wanted = Callable[[], Mapping[str, Sequence[str]]]
Fingerprint = Callable[[str], object]


def _same(name: str) -> None:
    return None


@dataclass(slots=True)
class _Child:
    """One process and its past."""

    arguments: Sequence[str]
    code: object
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0


class Supervisor:
    """Keeps what is wanted running: process name -> arguments of the `paceline` command.

    `code` tells by a process's name which code it would run; where that changes, its failures
    are forgotten.
    """

    def __init__(self, wanted: Wanted, *, patience: Patience, code: Fingerprint = _same) -> None:
        self._wanted, self._patience, self._code = wanted, patience, code
        self._children: dict[str, _Child] = {}
        self._leaving: list[tuple[subprocess.Popen[bytes], float]] = []
        self._look_at = 0.0

    def run(self) -> None:
        """Supervise until stopped, then end the children, the last started first."""
        try:
            while not self._patience.stopped:
                self._look()
                for name, child in self._children.items():
                    self._tend(name, child)
                self._see_off()
                self._patience.wait()
        finally:
            self._end()

    def _look(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        wanted = self._wanted()
        for name in wanted.keys() - self._children.keys():
            self._children[name] = _Child(wanted[name], self._code(name))
        gone = [name for name in self._children if name not in wanted]
        for name in gone:
            self._dismiss(self._children[name])
        # In the order of what is wanted, because the last one started is the first one ended.
        self._children = {name: self._children[name] for name in wanted}
        for name, child in self._children.items():
            if (code := self._code(name)) != child.code:
                child.code, child.failures, child.start_at = code, 0, 0.0

    def _tend(self, name: str, child: _Child) -> None:
        if child.process is not None and child.process.poll() is not None:
            self._ended(name, child, child.process.returncode)
        if child.process is None and time.monotonic() >= child.start_at:
            child.process = self._start(child.arguments)
            child.started_at = time.monotonic()

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the supervisor alone, which ends things in order.
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            env={**os.environ, PARENT: str(os.getpid())},
            start_new_session=True,
        )

    def _ended(self, name: str, child: _Child, code: int) -> None:
        lived_s = time.monotonic() - child.started_at
        child.process = None
        well = lived_s > (_WELL_S if code == 0 else _HEALTHY_S)
        child.failures = 0 if well else child.failures + 1
        # Beyond ten it is the longest wait anyhow, and after days no number that a float can hold.
        doubled_s = _FIRST_WAIT_S * 2 ** min(child.failures - 1, 10)
        wait_s = min(_LONGEST_WAIT_S, doubled_s) if child.failures else 0.0
        child.start_at = time.monotonic() + wait_s
        logger.warning(
            "process ended", action="restart", process=name, code=code, again_in_s=round(wait_s, 1)
        )

    def _dismiss(self, child: _Child) -> None:
        if child.process is not None:
            child.process.terminate()
            self._leaving.append((child.process, time.monotonic() + _END_WITHIN_S))

    def _see_off(self) -> None:
        """Kill what had its time to end; nobody is waited for, because others need tending."""
        for process, deadline in self._leaving:
            if process.poll() is None and time.monotonic() >= deadline:
                process.kill()
        self._leaving = [one for one in self._leaving if one[0].poll() is None]

    def _end(self) -> None:
        for child in reversed(self._children.values()):
            self._dismiss(child)
        while self._leaving:
            with suppress(subprocess.TimeoutExpired):
                self._leaving[0][0].wait(0.02)
            self._see_off()
