"""The exclusive lock beside a file: one writing process, and who it is."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from events.errors import Held


class FileLock:
    """Held from its making until `release` or the end of the process, however that ends."""

    def __init__(self, path: Path, *, wait_s: float = 0.0) -> None:
        """Take the lock beside `path`; raises Held, naming the holder, after `wait_s`."""
        self._file = path.with_name(path.name + ".lock")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + wait_s
        while not self._taken():
            if time.monotonic() >= deadline:
                holder = os.pread(self._descriptor, 64, 0).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise Held(f"{path} is written by process {holder or 'unknown'}; stop it first.")
            time.sleep(0.02)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
