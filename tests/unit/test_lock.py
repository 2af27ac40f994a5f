"""The lock beside a file: one process writes it, and whoever comes second is told who."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from events.errors import Held
from events.lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from events.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_and_told_which_process_it_must_stop(tmp_path: Path) -> None:
    file = tmp_path / "made" / "log.db"
    with FileLock(file), pytest.raises(Held, match="stop it first") as held:
        FileLock(file)
    assert str(file) in str(held.value)
    assert f"process {os.getpid()};" in str(held.value)


def test_whoever_lets_go_lets_the_next_one_in(tmp_path: Path) -> None:
    with FileLock(tmp_path / "log.db"):
        pass
    lock = FileLock(tmp_path / "log.db")
    lock.release()
    FileLock(tmp_path / "log.db").release()


def test_the_name_of_an_earlier_holder_leaves_nothing_in_that_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "log.db.lock").write_text("9" * 30)
    with FileLock(tmp_path / "log.db"), pytest.raises(Held, match=f"process {os.getpid()};"):
        FileLock(tmp_path / "log.db")


def test_two_files_have_two_locks(tmp_path: Path) -> None:
    with FileLock(tmp_path / "log.db"), FileLock(tmp_path / "outbox.db"):
        pass


def test_a_killed_holder_holds_nothing_and_its_name_is_gone(tmp_path: Path) -> None:
    process = holder(tmp_path / "log.db")
    try:
        with pytest.raises(Held, match=f"process {process.pid};"):
            FileLock(tmp_path / "log.db")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with FileLock(tmp_path / "log.db"), pytest.raises(Held, match=f"process {os.getpid()};"):
            FileLock(tmp_path / "log.db")
    finally:
        process.kill()
        process.communicate()


def test_a_lock_may_be_waited_for(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "log.db")
    taken: list[FileLock] = []
    waiting = Thread(target=lambda: taken.append(FileLock(tmp_path / "log.db", wait_s=60)))
    waiting.start()
    waiting.join(0.1)
    assert not taken
    first.release()
    waiting.join(60)
    assert len(taken) == 1
    taken[0].release()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "log.db")
    child = subprocess.Popen(["/bin/sleep", "600"], close_fds=False)
    try:
        lock.release()
        # The kernel closes what is not inherited a moment after the child has begun.
        FileLock(tmp_path / "log.db", wait_s=30).release()
    finally:
        child.kill()
        child.wait()
