"""A host of an installation that has several: the parts that run on it, started one by one."""

import subprocess
from pathlib import Path

import psutil

from tests.acceptance.platform import Platform, until
from tests.acceptance.processes import words


class Host(Platform):
    """A folder and ports of its own; each part is a process of its own, as service units start it.

    Where `query_port` is another host's, reads are forwarded to that one.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, **settings)
        self.parts: list[subprocess.Popen[bytes]] = []

    def begin(self, *parts: str) -> None:
        """Start these parts, such as `consume calories`, and return when the door is open."""
        for part in parts:
            self.begin_part(*part.split())
        until(self.accepting, what=f"the door is open; see {self.folder}/journal.txt")

    def begin_part(self, *part: str) -> None:
        """Start one more."""
        self.launch(*part)
        self.parts.append(self.supervisor)

    def accepting(self) -> bool:
        """Whether the door is open; fails where a part has ended."""
        ended = [part.args for part in self.parts if part.poll() is not None]
        assert not ended, f"{ended} ended: {self.journal()[-3000:]}"
        return self._accepts()

    def consumer_processes(self, name: str) -> list[psutil.Process]:
        """The workers of a consumer here; not who starts them."""
        found = [one for one in self.left() if words(one)[-2:] == ["consume", name]]
        return sorted(found, key=lambda one: one.pid)

    def end_part(self, *part: str) -> None:
        """Ask a part to end, and return when it has."""
        ((place, process),) = [
            (place, one)
            for place, one in enumerate(self.parts)
            if isinstance(one.args, list) and tuple(one.args[3:]) == part
        ]
        process.terminate()
        assert process.wait(30) == 0
        del self.parts[place]

    def end(self) -> None:
        """Ask every part to end, the last one first, and see that nothing is left."""
        for process in reversed(self.parts):
            process.terminate()
        assert [process.wait(30) for process in self.parts] == [0] * len(self.parts)
        self.assert_nothing_left()

    def close(self) -> None:
        """End whatever a failed test has left."""
        for process in self.parts:
            process.kill()
            process.wait()
        super().close()
