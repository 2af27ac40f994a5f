"""A data folder with a log and plug-in files, for real `paceline` processes."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from consumers.runtime.fates import Fate
from consumers.runtime.store import Generation
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.errors import Outage
from events.log.sqlite import SqliteEventLog
from tests.integration.world import documents, fates

ROOT = Path(__file__).resolve().parents[2]
TALLY = '''
"""Counts workouts and their time per user."""

import ctypes, os, sys, time

HOARD = []

class Tally:
    name = "NAME"
    bindings = ("workout.completed.#",)
    version = VERSION

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1
            document["ms"] = document.get("ms", 0) + event.data.duration_ms
        MISDEED
'''


class Place:
    """An installation without a producer; settings by their names, such as `fold_alone_s=1`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder, self.plugins = folder, folder / "plugins"
        self.plugins.mkdir(parents=True)
        self.log = SqliteEventLog(folder / "log.db")
        given = {"data_dir": folder, "plugins": self.plugins, **settings}
        outside = {name: v for name, v in os.environ.items() if not name.startswith("PACELINE_")}
        self.environment = outside | {f"PACELINE_{k.upper()}": str(v) for k, v in given.items()}
        self._started: list[subprocess.Popen[bytes]] = []

    def plug_in(self, name: str = "tally", *, misdeed: str = "pass", version: int = 1) -> None:
        """Drop a consumer's file in, or change it; `misdeed` ends its fold."""
        source = TALLY.replace("NAME", name).replace("VERSION", str(version))
        (self.plugins / f"{name}.py").write_text(source.replace("MISDEED", misdeed))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the real command; what it says goes to the journal."""
        with (self.folder / "journal.txt").open("ab") as journal:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Ask a process to end, and see that it ends well."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, self.journal()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the real command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def journal(self) -> str:
        """All that its processes have said."""
        return (self.folder / "journal.txt").read_text(errors="replace")

    def store(self, name: str = "tally") -> SqliteStoreReader | None:
        """A consumer's store, for reading, or None where it is not made yet."""
        with suppress(Outage):
            return SqliteStoreReader.open(self.folder / "consumers" / f"{name}.db")
        return None

    def generations(self, name: str = "tally") -> list[Generation]:
        """The generations of a consumer."""
        store = self.store(name)
        return store.generations() if store else []

    def documents(self, name: str = "tally") -> dict[str, Any]:
        """What readers see."""
        store = self.store(name)
        return documents(store) if store else {}

    def fates(self, name: str = "tally") -> dict[str, Fate]:
        """The fate of every event that has one, by workout id."""
        store = self.store(name)
        return fates(store, self.log) if store else {}

    def close(self) -> None:
        """End whatever a failed test has left, and let the files go."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.log.close()
