"""What stands in for parts of a worker, so that it runs in the tests' own process, step by step."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from consumers.runtime.guard import Guard
from consumers.runtime.store import Commit, Lead
from consumers.runtime.store.sqlite import SqliteStore
from events.bus import Batch, Delivery
from events.log import Logged, Selection, Watermarks
from events.log.sqlite import SqliteEventLog
from events.patience import Patience


class StillGuard(Guard):
    """Neither bounds the memory of the tests' process nor ends it, and has no file."""

    def __init__(self, last_words: str = "") -> None:
        self.last_words, self.place = last_words, "here"

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

    def as_in_a_new_process(self) -> None:
        """Forget what only the process knew."""
        self._leads = False

    def commit(self, generation: int, commit: Commit) -> None:
        self.before(commit)
        super().commit(generation, commit)
        self.after(commit)


class Killed(BaseException):
    """The process ends here."""


class Clock:
    """Stands in for the module `time` in a module under test; it moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


class TickingPatience(Patience):
    """Lets a clock go on by `tick_s` where a runner would wait, until a condition holds."""

    def __init__(self, clock: Clock, condition: Callable[[], object], *, tick_s: float) -> None:
        super().__init__()
        self._clock, self._condition, self._tick_s = clock, condition, tick_s
        self._waits = self._moves = 0

    def reset(self) -> None:
        self._moves += 1
        assert self._moves < 5_000, "the runner says that it does something, and never ends"

    def wait(self) -> None:
        self._waits += 1
        assert self._waits < 2_000, "the runner is idle, and what the test waits for is not so"
        if self._condition():
            self.stop()
        self._clock.now += self._tick_s


class LedStore:
    """One worker's view of a store that several share; it leads as it is told to."""

    def __init__(self, store: TouchyStore, lead: Lead) -> None:
        self._store, self.says = store, lead
        self.left = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def lead(self) -> Lead:
        said = self.says
        if said is not Lead.NONE:
            self.says = Lead.HELD
        return said

    def leave(self) -> None:
        self.left = True


class MemoryQueue:
    """A consumer's queue as a broker holds it: competing subscriptions, and redelivery.

    An open subscription makes it again when it is gone, as one of a broker does.
    """

    def __init__(self, *, size: int) -> None:
        self.size = size
        self.waiting: deque[Delivery] = deque()
        self.there = False
        self.deleted = 0
        self.subscriptions: list[MemorySubscription] = []

    def bring(self, deliveries: Iterable[Delivery]) -> None:
        """Take in what was published, if there is a queue."""
        if self.there:
            self.waiting.extend(deliveries)

    def subscribe(
        self, bindings: tuple[str, ...], start: Watermarks, suspects: int
    ) -> "MemorySubscription":
        """Make the queue where there is none, and take from it."""
        made = MemorySubscription(self, bindings)
        self.subscriptions.append(made)
        return made

    def length(self) -> int | None:
        return len(self.waiting) if self.there else None

    def delete(self) -> bool:
        there, self.there = self.there, False
        self.waiting.clear()
        self.deleted += 1
        return there

    @property
    def brought(self) -> int:
        """How often anything was fetched from it."""
        return sum(one.fetched for one in self.subscriptions)

    @property
    def in_hand(self) -> int:
        """How many deliveries are out and not acked."""
        return sum(len(one.unacked) for one in self.subscriptions)


class MemorySubscription:
    """One of those that take from a queue."""

    def __init__(self, queue: MemoryQueue, bindings: tuple[str, ...]) -> None:
        self.queue, self.bindings = queue, bindings
        self.problem: str | None = None
        self.unacked: dict[int, Delivery] = {}
        self.closed = False
        self.fetched = self._tag = self._epoch = 0
        queue.there = True

    def batches(self) -> Iterator[Batch]:
        while True:
            yield Batch(list(self._taken()))

    def _taken(self) -> Iterator[Delivery]:
        assert not self.closed, "a closed subscription brings nothing"
        self.queue.there = True
        self.fetched += bool(self.queue.waiting)
        for _ in range(min(self.queue.size, len(self.queue.waiting))):
            self._tag += 1
            taken = self.queue.waiting.popleft()._replace(tag=self._tag, epoch=self._epoch)
            self.unacked[self._tag] = taken
            yield taken

    def ack(self, batch: Batch) -> None:
        for one in batch.deliveries:
            if one.epoch == self._epoch:
                del self.unacked[one.tag]

    def lose_connection(self) -> None:
        """Let all that is not acked come again, to whoever takes next."""
        again = [one._replace(redelivered=True) for one in self.unacked.values()]
        self.queue.waiting.extendleft(reversed(again))
        self.unacked.clear()
        self._epoch += 1

    def close(self) -> None:
        self.lose_connection()
        self.closed = True


class LaggingLog:
    """A log whose relays have settled less than is there, as one that ended in its work leaves it.

    `held` are the relays that have settled no more than that number.
    """

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log
        self.held: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def settled(self) -> dict[str, int]:
        most = {
            relay: min(number, self.held.get(relay, number))
            for relay, number in self._log.settled().items()
        }
        return {relay: number for relay, number in most.items() if number}

    def unsettled(self, *, limit: int, lately: bool = True) -> list[Logged]:
        rows: list[Logged] = []
        for relay, number in self.held.items():
            rows += self._log.scan(Selection(relay=relay, after=number), limit=limit)
        return rows[:limit]
