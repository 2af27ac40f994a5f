"""What stands in for parts of a worker, so that it runs in the tests' own process, step by step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from consumers.runtime.guard import Guard
from consumers.runtime.store import Commit
from consumers.runtime.store.sqlite import SqliteStore
from events.patience import Patience


class StillGuard(Guard):
    """Neither bounds the memory of the tests' process nor ends it, and has no file."""

    def __init__(self, last_words: str = "") -> None:
        self.last_words = last_words

    def watch(self) -> None:
        return

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        yield

    def swollen(self) -> bool:
        return False


class UntilPatience(Patience):
    """Stops a runner that has nothing to do, once a condition holds."""

    def __init__(self, condition: Callable[[], object], *, within_s: float = 30.0) -> None:
        super().__init__(most_s=0.01)
        self._condition, self._deadline = condition, time.monotonic() + within_s

    def wait(self) -> None:
        if self._condition():
            self.stop()
        elif time.monotonic() > self._deadline:
            raise AssertionError("the runner is idle, and what the test waits for is not so")
        super().wait()


class TouchyStore(SqliteStore):
    """A store in which `before` and `after` see each commit, and may raise."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        super().__init__(path, vfs=vfs)
        self.before: Callable[[Commit], object] = lambda commit: None
        self.after: Callable[[Commit], object] = lambda commit: None

    def commit(self, generation: int, commit: Commit) -> None:
        self.before(commit)
        super().commit(generation, commit)
        self.after(commit)


class Killed(BaseException):
    """The process ends here."""
