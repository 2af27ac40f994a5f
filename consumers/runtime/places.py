"""The place of a worker on this host: a lock, so that two do not take it, and its last words."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from consumers.runtime.ways import readers
from events.errors import Held
from events.lock import FileLock
from events.settings import Settings

_PLACES = 256


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where a worker's traceback goes, and the mark that says that it loads its consumer's code."""

    traces: Path
    loading: str


@contextmanager
def hold(settings: Settings, name: str, *, wait_s: float) -> Iterator[WorkerPlace]:
    """Hold a worker's place; raises Held where the consumer's state has one writer and it is there.

    A consumer's file has one place. Beside a server's state there are many, and the first that is
    free is taken.
    """
    if not settings.store_url:
        file = settings.store_file(name)
        with FileLock(file, wait_s=wait_s):
            yield WorkerPlace(file.with_suffix(".traceback"), "loading")
        return
    number, lock = _free(settings, name)
    with lock:
        traces = settings.store_file(f"{name}+{number}").with_suffix(".traceback")
        yield WorkerPlace(traces, f"loading {socket.gethostname()} {number}")


def _free(settings: Settings, name: str) -> tuple[int, FileLock]:
    for number in range(_PLACES):
        try:
            return number, FileLock(settings.store_file(f"{name}+{number}"))
        except Held:
            continue
    raise Held(f"{_PLACES} workers of {name} run on this host already.")


def is_served(settings: Settings, name: str) -> bool:
    """Say whether a worker of a consumer runs, here or wherever it may."""
    if settings.store_url:
        store = readers(settings).store(name)
        return store is not None and store.running()
    try:
        FileLock(settings.store_file(name)).release()
    except Held:
        return True
    return False


def written(settings: Settings, process: str) -> object:
    """Return what differs once the plug-in file of a process was written anew."""
    with suppress(OSError):
        file = (settings.plugins / f"{process.removeprefix('consume ')}.py").stat()
        return file.st_ino, file.st_mtime_ns, file.st_size
    return None
