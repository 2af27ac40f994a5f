"""The guard: a worker that hangs, crashes or leaks ends itself, and leaves word of why.

It needs no parent process, so it works the same under a supervisor, systemd and Kubernetes.
"""

import faulthandler
import os
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
OUT_OF_MEMORY = 70
_CALL = "Timeout (a call"


class Swollen(Exception):
    """The process has grown past half of its bound while it folds suspects one by one."""


class Guard:
    """Deadlines, a bound on memory, and the file that the next start reads."""

    def __init__(self, traces: Path, *, memory_bytes: int = 256 << 20) -> None:
        """Open the file; `memory_bytes` is what the process may grow by from now on."""
        self._path = traces
        self.place = f"{os.uname().nodename}:{traces}"
        self._memory = memory_bytes
        self.last_words = traces.read_text(errors="replace") if traces.exists() else ""
        self._file = traces.open("w")
        self._at_start = 0

    def watch(self) -> None:
        """Bound the memory from here, and have a crash write its traceback.

        RLIMIT_DATA and not RLIMIT_AS, because that one counts the stacks of threads.
        """
        faulthandler.enable(file=self._file)
        self._at_start = _data_bytes()
        _bound_memory(self._at_start + self._memory)

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """End the process, with every thread's traceback in the file, when the block takes longer.

        A MemoryError is nobody's failure: it ends the process too, and suspects find the culprit.
        """
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)
        try:
            yield
        except MemoryError:
            self.leave()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def expire(self, seconds: float) -> None:
        """End the process as `deadline` does, for calls that other threads make."""
        self._file.write(f"{_CALL} took longer than {seconds:g} s)!\n")
        self._file.flush()
        faulthandler.dump_traceback(self._file, all_threads=True)
        os._exit(1)

    def leave(self) -> None:
        """End the process for the MemoryError that is being handled, and write where it was."""
        _bound_memory(None)
        self._file.write("MemoryError: the worker grew past its bound.\n" + traceback.format_exc())
        self._file.flush()
        os._exit(OUT_OF_MEMORY)

    def swollen(self) -> bool:
        """Say whether more than half of the memory is used: time to end cleanly and start anew."""
        return bool(self._at_start) and _data_bytes() - self._at_start > self._memory // 2


def cause(last_words: str) -> str:
    """Return in one line what the file of a process that ended says of it."""
    if _CALL in last_words:
        return "The call took longer than its deadline."
    if "Timeout (" in last_words:
        return "The fold took longer than its deadline."
    if "MemoryError" in last_words:
        return "The fold took more memory than it may."
    if "Fatal Python error" in last_words:
        return last_words.partition("\n")[0]
    return "The process ended during the fold."


def _bound_memory(limit: int | None) -> None:
    # The hard limit stays what it is: only root may raise one that somebody has set.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounded = hard != resource.RLIM_INFINITY
    soft = hard if limit is None else min(limit, hard) if bounded else limit
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[5]) * _PAGE
