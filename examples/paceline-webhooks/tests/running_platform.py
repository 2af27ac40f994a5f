"""The real platform, as it is installed beside these tests, in a folder of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest

T = TypeVar("T")
CONSUMERS = {"achievements", "calories", "leaderboard", "monthly-report", "webhooks"}


def until(condition: Callable[[], T | None], *, what: str, within_s: float = 60.0) -> T:
    """Return the first true value of a condition; fails, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what}; at last: {value!r}")
        time.sleep(0.05)
    return value


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Platform:
    """`paceline run` in a folder outside of any checkout; settings by their names."""

    def __init__(self, folder: Path, **settings: str) -> None:
        try:
            distribution("paceline")
        except PackageNotFoundError:
            pytest.fail("Paceline is not installed beside these tests; see the README.")
        self.folder = folder
        port, query_port = free_ports(2)
        given = {"PORT": str(port), "QUERY_PORT": str(query_port), "DATA_DIR": str(folder / "data")}
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PACELINE_", "PYTHON"))
        } | {f"PACELINE_{name}": value for name, value in (given | settings).items()}
        self.url = f"http://127.0.0.1:{port}"
        with (folder / "journal.txt").open("wb") as journal:
            self._run = subprocess.Popen(
                [sys.executable, "-m", "cli", "run"],
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when it accepts and every consumer is live."""
        until(self._is_ready, what=f"every consumer is live; see {self.folder}/journal.txt")

    def _is_ready(self) -> bool:
        assert self._run.poll() is None, self.journal()[-3000:]
        live = {name for name, one in self.consumers().items() if one["state"] == "live"}
        return live >= CONSUMERS

    def consumers(self) -> dict[str, dict[str, Any]]:
        """What each consumer does, by name; empty where nobody can say."""
        try:
            answer = httpx2.get(f"{self.url}/v1/consumers", trust_env=False)
        except httpx2.HTTPError:
            return {}
        if answer.status_code != 200:
            return {}
        return {one["name"]: one for one in answer.json()["items"]}

    def journal(self) -> str:
        """All that its processes have said."""
        return (self.folder / "journal.txt").read_text(errors="replace")

    def command(self, *arguments: str) -> str:
        """What a `paceline` command prints; it must end well."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{arguments}: {done}"
        return done.stdout

    def told(self, *arguments: str) -> Any:
        """What a `paceline` command tells a machine."""
        return json.loads(self.command(*arguments, "--json"))

    def consumer(self, name: str) -> dict[str, Any]:
        """What `paceline consumers list` tells of one."""
        (found,) = [one for one in self.told("consumers", "list") if one["name"] == name]
        return found

    def kill(self, *process: str) -> None:
        """Kill -9 the process of a command such as `relay`, once there is one."""
        pid = until(lambda: self._pid(process), what=f"there is a process {process} to kill")
        os.kill(pid, signal.SIGKILL)
        # Until the supervisor has seen it end it is still listed, and would be killed twice.
        until(lambda: self._pid(process) != pid, what=f"the process {process} has ended")

    def _pid(self, process: tuple[str, ...]) -> int | None:
        supervisor = Path(f"/proc/{self._run.pid}/task/{self._run.pid}/children")
        for pid in supervisor.read_text().split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
            except OSError:
                continue
            if tuple(words[-len(process) - 1 :]) == ("cli", *process):
                return int(pid)
        return None

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self._run.terminate()
        return self._run.wait(timeout=30)

    def close(self) -> None:
        """End it, however it is; its processes end with it."""
        if self._run.poll() is None:
            self._run.kill()
            self._run.wait()
