"""What every process of the platform does alike: it dies with its parent and ends on a signal."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

PARENT = "PACELINE_PARENT_PID"
_PR_SET_PDEATHSIG = 1
_TAKEOVER_S, _TOLD_S = 15.0, 1.0


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends.

    All that we do can be killed at any instant, so SIGKILL is as good as any and cannot be missed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have ended before the kernel knew.
    if os.getppid() != parent_pid:
        sys.exit(1)


def die_with_supervisor() -> None:
    """Do so where a supervisor started this process and says who it is."""
    parent = os.environ.get(PARENT)
    if parent:
        die_with_parent(int(parent))


def supervised() -> bool:
    """Say whether a supervisor started this process."""
    return PARENT in os.environ


def takeover_s() -> float:
    """Return how long to wait for a file that another process writes, in seconds.

    A supervisor starts the next one while the last one is still ending; a person wants to be told.
    """
    return _TAKEOVER_S if supervised() else _TOLD_S


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and on Ctrl-C."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
