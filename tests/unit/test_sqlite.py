"""What every SQLite file does when it is opened: many at once, each for the first time."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from events.errors import PacelineError
from events.sqlite import connect

PROCESSES = 6
FILES = 200


def open_and_leave(folder: Path, turn: Callable[[], int], said: Any) -> None:
    """Open each file in step with the others, and say what went wrong."""
    for number in range(FILES):
        turn()
        try:
            connect(folder / f"{number}.db").close()
        except PacelineError as error:
            said.put(repr(error))
    said.put(None)


def test_many_processes_that_make_and_leave_a_file_at_once_all_open_it(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    barrier, said = forked.Barrier(PROCESSES, timeout=60), forked.Queue()
    openers = [
        forked.Process(target=open_and_leave, args=(tmp_path, barrier.wait, said))
        for _ in range(PROCESSES)
    ]
    for opener in openers:
        opener.start()
    answers = [said.get(timeout=120) for _ in openers]
    for opener in openers:
        opener.join(10)
    assert answers == [None] * PROCESSES
