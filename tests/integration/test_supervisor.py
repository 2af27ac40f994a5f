"""The supervisor, over children that do as they are told: a fake of `python -m cli`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from consumers.runtime import supervisor
from consumers.runtime.supervisor import Supervisor
from events.patience import Patience
from tests.integration.world import until

ROOT = Path(__file__).resolve().parents[2]
FAKE = """
import os, signal, sys, time
from pathlib import Path

manner = sys.argv[1]
if manner == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manner == "polite":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "die" in manner:
    from events.process import die_with_supervisor
    die_with_supervisor()
words = [sys.argv[-1], os.getpid(), os.environ["PACELINE_PARENT_PID"], os.getpgid(0)]
with Path("started").open("a") as file:
    file.write(" ".join(map(str, words)) + "\\n")
if manner.isdigit():
    sys.exit(int(manner))
time.sleep(600)
"""
RUN = """
from consumers.runtime.supervisor import Supervisor
from events.patience import Patience
wanted = {"one": ("die", "one"), "two": ("die", "two")}
Supervisor(lambda: wanted, patience=Patience(most_s=0.05)).run()
"""


class Clock:
    """A clock that goes only when the test says so."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class Counted(Patience):
    """Counts the turns."""

    turns = 0

    def wait(self) -> None:
        self.turns += 1
        super().wait()


class Run:
    """A supervisor that runs in a thread, and what its children have written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted: dict[str, tuple[str, ...]] = {}
        self.patience = Counted(most_s=0.01)
        self.clock = Clock()
        self.code: dict[str, int] = {}
        self.supervisor = Supervisor(
            lambda: self.wanted, patience=self.patience, code=lambda name: self.code.get(name)
        )
        self._thread = Thread(target=self.supervisor.run)

    def start(self, **wanted: str) -> None:
        self.want(**wanted)
        self._thread.start()

    def want(self, **wanted: str) -> None:
        """From now on want these, by name and manner."""
        self.wanted = {name: (manner, name) for name, manner in wanted.items()}

    def started(self, name: str) -> list[int]:
        """The processes that were started under this name."""
        return [int(words[1]) for words in self.lines() if words[0] == name]

    def lines(self) -> list[list[str]]:
        file = self.folder / "started"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for(self, name: str, *, count: int = 1) -> int:
        """Return the id of the last one when so many were started."""
        until(lambda: len(self.started(name)) >= count, what=f"{name} is started {count} times")
        return self.started(name)[-1]

    def turn(self, times: int = 5) -> None:
        """Return when it has looked at everything some times more."""
        turns = self.patience.turns + times
        until(lambda: self.patience.turns >= turns, what="it turns")

    def stop(self) -> None:
        self.patience.stop()

        def ended() -> bool:
            self.clock.now += 0.05
            return not self._thread.is_alive()

        until(ended, what="it ends")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    (tmp_path / "cli.py").write_text(FAKE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Run(tmp_path)
    monkeypatch.setattr(supervisor, "time", made.clock)
    yield made
    made.stop()
    left = [int(words[1]) for words in made.lines() if alive(int(words[1]))]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it may end between two looks
        return False


def restarts(logs: list[Any]) -> list[tuple[str, int, float]]:
    return [
        (one["process"], one["code"], one["again_in_s"])
        for one in logs
        if one.get("action") == "restart"
    ]


def test_every_wanted_process_runs_once_and_knows_its_parent(run: Run) -> None:
    run.start(one="stay", two="stay")
    pids = {run.wait_for("one"), run.wait_for("two")}
    run.turn()
    assert {int(words[1]) for words in run.lines()} == pids
    assert {words[2] for words in run.lines()} == {str(os.getpid())}


def test_ctrl_c_reaches_the_supervisor_alone(run: Run) -> None:
    run.start(one="stay")
    run.wait_for("one")
    (words,) = run.lines()
    assert int(words[3]) != os.getpgid(0)


def test_a_process_that_is_killed_is_started_again_and_no_other_is_touched(run: Run) -> None:
    run.start(one="stay", two="stay")
    first, other = run.wait_for("one"), run.wait_for("two")
    with capture_logs() as logs:
        os.kill(first, signal.SIGKILL)
        until(lambda: restarts(logs), what="it is noticed")
        run.clock.now += 1
        second = run.wait_for("one", count=2)
    assert restarts(logs) == [("one", -9, 0.1)]
    assert second != first
    assert run.started("two") == [other]
    assert alive(other)


def test_what_ends_again_and_again_is_waited_for_longer_and_longer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_LONGEST_WAIT_S", 1.0)
    waits = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    with capture_logs() as logs:
        run.start(one="3")
        for count, wait_s in enumerate(waits, start=1):
            until(lambda: len(restarts(logs)) == count, what="it has ended")  # noqa: B023
            run.clock.now += wait_s - 0.01
            run.turn()
            assert len(run.started("one")) == count  # the wait is not over
            run.clock.now += 0.02
        until(lambda: len(restarts(logs)) == len(waits) + 1, what="it has ended")
    assert restarts(logs)[:-1] == [("one", 3, wait_s) for wait_s in waits]


def test_what_has_failed_for_days_is_still_tried_once_a_minute(run: Run) -> None:
    with capture_logs() as logs:
        run.start(one="3")
        until(lambda: len(restarts(logs)) == 1, what="it has ended")
        run.supervisor._children["one"].failures = 5_000
        run.clock.now += 1
        until(lambda: len(restarts(logs)) == 2, what="it has ended again")
    assert restarts(logs)[-1] == ("one", 3, 60.0)
    run.turn()


def test_what_has_new_code_is_started_at_once_and_its_failures_are_forgotten(run: Run) -> None:
    with capture_logs() as logs:
        run.start(one="3", two="3")
        until(lambda: len(restarts(logs)) == 2, what="both have ended")
        for child in run.supervisor._children.values():
            child.failures, child.start_at = 20, run.clock.now + 60
        run.code = {"one": 1}
        run.clock.now += 5
        until(lambda: len(restarts(logs)) == 3, what="one has ended again")
        run.turn()
    assert restarts(logs)[-1] == ("one", 3, 0.1)
    assert len(run.started("two")) == 1


def test_a_clean_end_is_followed_by_a_start_at_once(run: Run) -> None:
    with capture_logs() as logs:
        run.start(one="polite")
        for count in range(1, 4):
            pid = run.wait_for("one", count=count)
            run.clock.now += 2
            os.kill(pid, signal.SIGTERM)
            until(lambda: len(restarts(logs)) == count, what="it is noticed")  # noqa: B023
    assert set(restarts(logs)) == {("one", 0, 0.0)}


def test_what_ends_at_once_each_time_waits_also_where_it_says_that_all_is_well(run: Run) -> None:
    with capture_logs() as logs:
        run.start(one="0")
        for count in range(1, 4):
            until(lambda: len(restarts(logs)) == count, what="it is noticed")  # noqa: B023
            run.clock.now += 0.9
    assert [wait_s for _, _, wait_s in restarts(logs)] == [0.1, 0.2, 0.4]


def test_what_has_run_well_for_long_is_not_made_to_wait_for_its_past(run: Run) -> None:
    with capture_logs() as logs:
        run.start(one="stay")
        for count in range(1, 4):
            pid = run.wait_for("one", count=count)
            run.clock.now += 31
            os.kill(pid, signal.SIGKILL)
            until(lambda: len(restarts(logs)) == count, what="it is noticed")  # noqa: B023
            run.clock.now += 1
    assert restarts(logs) == [("one", -9, 0.0)] * 3


def test_a_new_name_is_picked_up_and_one_that_is_gone_is_ended(run: Run) -> None:
    run.start(one="stay")
    first = run.wait_for("one")
    run.want(one="stay", new="stay")
    run.clock.now += 5
    new = run.wait_for("new")
    assert run.started("one") == [first]
    run.want(new="stay")
    run.clock.now += 5
    until(lambda: not alive(first), what="it is ended")
    run.turn()
    assert alive(new)
    assert len(run.started("new")) == 1


def test_the_last_one_of_what_is_wanted_is_the_first_to_be_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    terminate = subprocess.Popen.terminate

    def noted(process: "subprocess.Popen[bytes]") -> None:
        asked.append(process.pid)
        terminate(process)

    monkeypatch.setattr(subprocess.Popen, "terminate", noted)
    run.start(one="stay", two="stay")
    run.want(one="stay", between="stay", two="stay")
    run.clock.now += 5
    pids = [run.wait_for(name) for name in ("one", "between", "two")]
    run.stop()
    assert asked == pids[::-1]
    assert not any(map(alive, pids))


def test_what_does_not_end_when_it_is_asked_to_is_killed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_END_WITHIN_S", 0.2)
    run.start(one="deaf", two="stay")
    pids = [run.wait_for("one"), run.wait_for("two")]
    run.stop()
    assert not any(map(alive, pids))


def test_one_that_is_not_wanted_any_more_and_does_not_end_keeps_nobody_waiting(run: Run) -> None:
    run.start(one="deaf", two="stay")
    deaf, other = run.wait_for("one"), run.wait_for("two")
    run.want(two="stay")
    run.clock.now += 5
    run.turn()
    os.kill(other, signal.SIGKILL)
    run.turn()
    run.clock.now += 5
    run.wait_for("two", count=2)
    assert alive(deaf)
    run.clock.now += 60
    until(lambda: not alive(deaf), what="it is killed in the end")


def test_its_children_end_though_it_ends_by_an_error(run: Run) -> None:
    wanted = iter([{"one": ("stay", "one")}])
    failing = Supervisor(lambda: next(wanted), patience=run.patience)

    def end() -> None:
        run.wait_for("one")
        run.clock.now += 5

    thread = Thread(target=end)
    thread.start()
    with pytest.raises(StopIteration):
        failing.run()
    thread.join()
    assert not alive(run.started("one")[0])
    run.start()


def test_nothing_outlives_a_supervisor_that_is_killed(run: Run) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN])
    pids = [run.wait_for("one"), run.wait_for("two")]
    assert all(map(alive, pids))
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, pids)), what="the kernel ends them")
    run.start()
