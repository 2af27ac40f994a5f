"""Where the time goes: a profile of each thread, printed when it is over."""

import cProfile
import pstats
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

_LINES = 24
_LEAST_S = 0.1
_WATCHING = "pymongo_"  # its own threads, which look after its connections


@contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """Profile this thread, and each that is started meanwhile, into files; without one, nothing.

    By the clock, so that waiting for a server shows. Before 3.12 a profile is of one thread; since
    then the first one is of all, and there is only that one.
    """
    if folder is None:
        yield
        return
    run = threading.Thread.run

    def run_profiled(thread: threading.Thread) -> None:
        with _one(folder / f"{thread.name}.pstats"):
            run(thread)

    with patch.object(threading.Thread, "run", run_profiled), _one(folder / "main.pstats"):
        yield


@contextmanager
def _one(file: Path) -> Iterator[None]:
    profile = cProfile.Profile()
    try:
        profile.enable()
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(file)


def show_profiles(folder: Path, what: str) -> None:
    """Print those of a folder whose threads did anything."""
    for file in sorted(folder.glob("*.pstats")):
        if file.name.startswith(_WATCHING):
            continue
        stats = pstats.Stats(str(file), stream=sys.stderr)
        if getattr(stats, "total_tt", 0.0) > _LEAST_S:
            print(f"\n{what}, thread {file.stem}", file=sys.stderr)
            stats.strip_dirs().sort_stats("tottime").print_stats(_LINES)
