"""The real platform in a folder of its own: started, watched, killed, and ended without a rest."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import urllib3

from tests.acceptance.processes import data_dir, words, workers
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = ("achievements", "calories", "leaderboard", "monthly-report")
SERVED = ("producer", "query")
T = TypeVar("T")


class Answer(NamedTuple):
    """What came back from the door or from a read."""

    status: int
    body: Any
    headers: Mapping[str, str]


def until(
    condition: Callable[[], T | None], *, what: str, within_s: float = 60.0, every_s: float = 0.05
) -> T:
    """Return the first true value of a condition; fails, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}; at last: {value!r}")
        time.sleep(every_s)
    return value


class Platform:
    """`paceline run` in a folder; settings by their names, such as `fold_alone_s=1`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder, self.plugins = folder, folder / "plugins"
        self.plugins.mkdir(parents=True, exist_ok=True)
        self.port, self.query_port = free_port(), free_port()
        given = {"port": self.port, "query_port": self.query_port, **settings}
        given |= {"data_dir": folder, "plugins": self.plugins}
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PACELINE_")
        } | {f"PACELINE_{name.upper()}": str(value) for name, value in given.items()}
        self._http = urllib3.PoolManager(retries=False, timeout=15.0, maxsize=16)
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def supervisor(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._started is not None, "the platform was never started"
        return self._started

    def start(self) -> None:
        """Start it, and return when it accepts and every consumer runs."""
        self.launch("run")
        self.wait_until_ready()

    def launch(self, *arguments: str) -> None:
        """Start a command that stays."""
        with (self.folder / "journal.txt").open("ab") as journal:
            self._started = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it accepts and every consumer runs."""
        self.wait_until_accepting()
        until(lambda: set(BUILT_IN) <= self.running(), what="every consumer runs")

    def wait_until_accepting(self) -> None:
        """Return when the door is open."""
        until(self._accepts, what=f"the door is open; see {self.folder}/journal.txt")

    def _accepts(self) -> bool:
        code = self.supervisor.poll()
        assert code is None, f"ended with {code}: {self.journal()[-3000:]}"
        try:
            return self.get("/readyz").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def running(self) -> set[str]:
        """The consumers of which a worker runs."""
        return {name for name, one in self.consumers().items() if one["state"] in _RUNNING}

    def consumers(self) -> dict[str, dict[str, Any]]:
        """What each consumer does, by name; empty where nobody can say."""
        answer = self.get("/v1/consumers")
        return {one["name"]: one for one in answer.body["items"]} if answer.status == 200 else {}

    def journal(self) -> str:
        """All that its processes have said."""
        return (self.folder / "journal.txt").read_text(errors="replace")

    def get(self, path: str) -> Answer:
        """Read from the one port that everything has."""
        return self._answer("GET", f"http://127.0.0.1:{self.port}{path}")

    def post(self, path: str, body: bytes) -> Answer:
        """Bring something to the door; the connections are kept alive."""
        return self._answer("POST", f"http://127.0.0.1:{self.port}{path}", body)

    def _answer(self, method: str, url: str, body: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        got = self._http.request(method, url, body=body, headers=headers)
        return Answer(got.status, json.loads(got.data or b"null"), got.headers)

    def read(self, path: str) -> Any:
        """Read what must be there."""
        answer = self.get(path)
        assert answer.status == 200, f"{path}: {answer}"
        return answer.body

    def command(self, *arguments: str, code: int = 0) -> str:
        """What a `paceline` command prints; it must end with this exit code."""
        return self._done(*arguments, code=code).stdout

    def refused(self, *arguments: str, code: int = 1) -> str:
        """What a `paceline` command complains of; it must end with this exit code."""
        return self._done(*arguments, code=code).stderr

    def _done(self, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"{arguments}: {done}"
        return done

    def processes(self) -> dict[str, psutil.Process]:
        """Its processes by name, as they are children of each other; workers are granian's."""
        try:
            supervisor = psutil.Process(self.supervisor.pid)
            found = {"supervisor": supervisor}
            children = supervisor.children()
        except psutil.NoSuchProcess:
            return {}
        for child in children:
            called = words(child)
            if "cli" in called[:-1] and called[-1] != "run":  # until it executes, it is its parent
                found[called[-1]] = child
                if called[-1] in SERVED:
                    found |= {f"{called[-1]} worker": one for one in workers(child)}
        return found

    def pids(self) -> dict[str, int]:
        """The ids of its processes."""
        return {name: process.pid for name, process in self.processes().items()}

    def kill(self, name: str) -> None:
        """Kill -9 a process, once there is one."""
        until(lambda: self._killed(name), what=f"there is a process {name} to kill")

    def _killed(self, name: str) -> bool:
        process = self.processes().get(name)
        if process is None:
            return False
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def replaced(self, name: str, *, after: signal.Signals) -> psutil.Process:
        """Send a signal to a process, and return the one that the supervisor starts for it."""
        old = until(lambda: self.processes().get(name), what=f"there is a process {name}")
        old.send_signal(after)

        def new() -> psutil.Process | None:
            now = self.processes().get(name)
            return None if now == old else now

        return until(new, what=f"there is a new process {name}")

    def left(self) -> list[psutil.Process]:
        """Every process that is alive and of this platform, whoever its parent is."""
        return [one for one in psutil.process_iter() if data_dir(one) == str(self.folder)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code, when nothing of it is left."""
        self.supervisor.send_signal(number)
        code = self.supervisor.wait(timeout=30)
        self.assert_nothing_left()
        return code

    def assert_nothing_left(self) -> None:
        """Nothing outlives its parent; the kernel may need a moment."""
        until(lambda: not self.left(), what=f"all of {self.left()} have ended", within_s=10)

    def close(self) -> None:
        """End whatever a failed test has left."""
        if self._started is not None and self._started.poll() is None:
            self._started.kill()
            self._started.wait()
        for process in self.left():
            process.kill()
        self._http.clear()


_RUNNING = ("live", "catching-up", "rebuilding", "paused")
