"""The services of compose.yaml as processes of this host, each with its own user and its rights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.deploy.place import CONSUMERS, documents, settings_of
from tests.deploy.servers import Broker, Database
from tests.integration.world import until
from tests.servers.ports import free_port

PACELINE = str(Path(sys.executable).with_name("paceline"))
SERVICES: dict[str, dict[str, Any]] = documents("compose.yaml")[0]["services"]
PARTS = ("producer", "relay", "query", *CONSUMERS)
PEOPLE = 5
READS = ("achievements", "calories?from=2026-11-01&to=2026-11-30", "reports/2026-11")


class Host:
    """Runs services with the commands, volumes and environments that compose.yaml gives them."""

    def __init__(self, folder: Path, prepared: Path, broker: Broker, database: Database) -> None:
        self._folder, self._prepared = folder, prepared
        self._broker, self._database = broker, database
        self.port, self._query_port = free_port(), free_port()
        self._running: list[subprocess.Popen[bytes]] = []

    def _environment(self, name: str) -> dict[str, str]:
        volume = next(one for one in SERVICES[name]["volumes"] if one.endswith(":/data"))
        given = settings_of(self._prepared, name)
        for theirs, ours in (("5671", self._broker.port), ("27017", self._database.port)):
            given = {key: url.replace(f":{theirs}/", f":{ours}/") for key, url in given.items()}
        return {
            "PATH": os.environ["PATH"],
            "PACELINE_DATA_DIR": str(self._folder / volume.partition(":")[0]),
            "PACELINE_PORT": str(self.port),
            "PACELINE_QUERY_PORT": str(self._query_port),
            **given,
        }

    def start(self, name: str) -> None:
        """Start a service as it is in compose.yaml."""
        with (self._folder / f"{name}.log").open("ab") as said:
            self._running.append(
                subprocess.Popen(
                    [PACELINE, *SERVICES[name]["command"]],
                    env=self._environment(name),
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            )

    def operate(self, *command: str) -> str:
        """Run a command as the operator and return what it says; fails where that fails."""
        done = subprocess.run(
            [PACELINE, *command],
            env=self._environment("operator"),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask the producer's address, as the ingress does; None where there is no answer yet."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            answer = urllib3.request(method, url, retries=False, timeout=10, **options)
        except urllib3.exceptions.HTTPError:
            return None
        return answer.json() if answer.status < 300 else None

    def end(self) -> None:
        """Leave nothing of it running."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def said(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"{path.stem}: {path.read_text()[-1500:]}" for path in self._folder.glob("*.log")
        )


@pytest.fixture
def host(tmp_path: Path, prepared: Path, broker: Broker, database: Database) -> Iterator[Host]:
    broker.clear()
    database.clear()
    host = Host(tmp_path, prepared, broker, database)
    try:
        yield host
    finally:
        host.end()


def workout(number: int) -> dict[str, Any]:
    return {
        "workout_id": f"w{number}",
        "user_id": f"deployed-{number}",
        "sport": "running",
        "started_at": f"2026-11-{number + 1:02}T07:30:00+01:00",
        "duration_s": 1800,
        "distance_m": 5000,
    }


def test_the_parts_carry_workouts_to_every_consumer_each_with_its_own_rights(host: Host) -> None:
    for name in PARTS:
        host.start(name)
    until(lambda: host.ask("GET", "/readyz"), what=host.said(), within_s=60)
    for number in range(PEOPLE):
        assert host.ask("POST", "/v1/workouts", json=workout(number))
    reads = [f"/v1/users/deployed-{number}/{read}" for number in range(PEOPLE) for read in READS]
    for path in [*reads, "/v1/leaderboards/distance/2026-11"]:
        until(lambda path=path: host.ask("GET", path), what=f"{path}\n{host.said()}")  # type: ignore[misc]
    host.operate("audit")
    listed = json.loads(host.operate("consumers", "list", "--json"))
    assert {one["name"]: one["state"] for one in listed} == dict.fromkeys(CONSUMERS, "live")
    assert {one["dead"] for one in listed} == {0}
    host.operate("consumers", "pause", "calories")
    host.operate("consumers", "resume", "calories")
    host.operate("replay", "--to-queue", "paceline.calories")
    host.operate("audit")
