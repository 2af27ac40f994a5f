"""The guard, in processes of their own: it ends what hangs, crashes or leaks, and leaves word."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.runtime.guard import OUT_OF_MEMORY, cause

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """
import ctypes, os, resource, sys, time
from pathlib import Path
from consumers.runtime.guard import Guard
guard = Guard(Path(sys.argv[1]), memory_bytes=32 << 20)
hoard = []
"""


def process(traces: Path, body: str) -> "subprocess.CompletedProcess[str]":
    """Run this in a process that has a guard."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + body, str(traces)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return tmp_path / "calories.traceback"


def test_what_takes_longer_than_its_deadline_ends_the_process_and_says_where(traces: Path) -> None:
    body = """
def fold():
    while True:
        pass
with guard.deadline(0.1):
    fold()
"""
    ended = process(traces, body)
    assert ended.returncode > 0
    words = traces.read_text()
    assert "Timeout (" in words
    assert "in fold" in words
    assert cause(words) == "The fold took longer than its deadline."


def test_a_call_that_is_late_ends_the_process_and_is_told_as_one(traces: Path) -> None:
    assert process(traces, "guard.expire(0.5)").returncode > 0
    assert cause(traces.read_text()) == "The call took longer than its deadline."


def test_a_fold_that_holds_the_interpreter_is_ended_too(traces: Path) -> None:
    body = """
guard.watch()
import re
with guard.deadline(0.1):
    re.match(r"(a+)+$", "a" * 60 + "b")
"""
    assert process(traces, body).returncode > 0
    assert "Timeout (" in traces.read_text()


@pytest.mark.parametrize(
    "inside", ["pass", "raise ZeroDivisionError", "raise SystemExit", "raise KeyboardInterrupt"]
)
def test_what_ends_in_time_is_not_ended_later(traces: Path, inside: str) -> None:
    body = f"""
try:
    with guard.deadline(0.2):
        {inside}
except BaseException as error:
    print(type(error).__name__)
time.sleep(0.5)
print("alive")
"""
    ended = process(traces, body)
    assert ended.returncode == 0, ended.stderr
    raised = inside.removeprefix("raise ").removeprefix("pass")
    assert ended.stdout.split() == ([raised] if raised else []) + ["alive"]
    assert traces.read_text() == ""


def test_what_leaks_meets_its_bound_and_ends_the_process_with_word_of_where(traces: Path) -> None:
    body = """
guard.watch()
def fold():
    while True:
        hoard.append(bytearray(1 << 20))
with guard.deadline(30):
    fold()
"""
    ended = process(traces, body)
    assert ended.returncode == OUT_OF_MEMORY
    words = traces.read_text()
    assert "in fold" in words
    assert cause(words) == "The fold took more memory than it may."


def test_the_bound_counts_from_where_the_process_stood_when_it_was_set(traces: Path) -> None:
    body = """
hoard.append(bytearray(200 << 20))
guard.watch()
with guard.deadline(30):
    hoard.append(bytearray(16 << 20))
print("alive")
"""
    assert process(traces, body).stdout == "alive\n"


def test_a_bound_below_a_hard_limit_can_be_set_by_anybody(traces: Path) -> None:
    body = """
at_start = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
for hard in (at_start + (1 << 30), at_start + (8 << 20)):
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    if os.geteuid() == 0:
        os.setuid(65534)
    guard.watch()
with guard.deadline(30):
    hoard.append(bytearray(64 << 20))
"""
    ended = process(traces, body)
    assert ended.returncode == OUT_OF_MEMORY, ended.stderr


def test_a_crash_of_the_interpreter_leaves_a_traceback(traces: Path) -> None:
    body = """
guard.watch()
def fold():
    ctypes.string_at(0)
with guard.deadline(30):
    fold()
"""
    assert process(traces, body).returncode == -signal.SIGSEGV
    words = traces.read_text()
    assert cause(words) == "Fatal Python error: Segmentation fault"
    assert "in fold" in words


def test_past_half_of_its_memory_a_process_wants_to_be_a_new_one(traces: Path) -> None:
    body = """
print(guard.swollen())
guard.watch()
print(guard.swollen())
hoard.append(bytearray(10 << 20))
print(guard.swollen())
hoard.append(bytearray(10 << 20))
print(guard.swollen())
"""
    assert process(traces, body).stdout.split() == ["False", "False", "False", "True"]


def test_last_words_are_read_by_the_next_one_and_by_it_alone(traces: Path) -> None:
    read = "print(ascii(guard.last_words))"
    assert process(traces, read).stdout == "''\n"
    traces.write_bytes(b"Timeout (0:00:05)!\n\xff")
    assert process(traces, read).stdout == r"'Timeout (0:00:05)!\n\ufffd'" + "\n"
    assert process(traces, read).stdout == "''\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "The process ended during the fold."),
        ("Timeout (0:00:05)!\nThread …", "The fold took longer than its deadline."),
        ("MemoryError: the worker grew …", "The fold took more memory than it may."),
        ("Fatal Python error: Aborted\n\nThread …", "Fatal Python error: Aborted"),
    ],
)
def test_the_cause_of_an_end_is_told_in_one_line(words: str, says: str) -> None:
    assert cause(words) == says
