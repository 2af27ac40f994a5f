"""What if: history folded in memory by code that nobody has installed; nothing is written."""

import json
import signal
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple, TypeVar

from consumers import Document, Projection
from consumers.runtime.acting import act_of
from consumers.runtime.fates import reason_of
from consumers.runtime.guard import Guard
from consumers.runtime.registry import Found, Loaded, Unfit, load, single
from consumers.runtime.store import Stored
from consumers.runtime.store.limits import LARGEST, TooLarge
from events.envelope import Event, from_bytes
from events.errors import NewerVersion, Undecodable
from events.log import Logged, LogReader, Selection
from events.log.walk import Walk

_AT_ONCE = 1_000
T = TypeVar("T")


class Failure(NamedTuple):
    """An event that the code could not take, and why."""

    event_id: str
    reason: str


def load_file(file: Path) -> Loaded:
    """Import the one consumer of a file, whatever the file is called, and check its shape.

    Raises Unfit that says what is missing. What the file holds runs in this process.
    """
    if not file.is_file():
        raise Unfit(f"There is no file {file}; name the file that holds the consumer.")
    try:
        module = single(file).module()
    except (Exception, SystemExit) as error:
        raise Unfit(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    made = _consumer_class(file, module)
    name = getattr(made, "name", None)
    return load(Found(str(name), str(file), lambda: module, made.__name__))


def _consumer_class(file: Path, module: ModuleType) -> type[Any]:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and isinstance(getattr(value, "name", None), str)
        and hasattr(value, "bindings")
    ]
    if len(classes) != 1:
        raise Unfit(f"{file} has {len(classes)} classes with a name and bindings; write one.")
    if not hasattr(classes[0], "fold"):
        raise Unfit(f"{file} has no fold: what-if is for projections, which make documents.")
    return classes[0]


class Trial:
    """Folds rows of the log as a worker does, into documents that only this object has.

    Only that code is run against no deadline: a person watches, and Ctrl-C ends it.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._consumer = _Stoppable(loaded.consumer)
        # What follows from events goes nowhere, so when this consumer went live is no matter.
        self._act = act_of(replace(loaded, consumer=self._consumer), born=datetime.now(UTC))
        self._bodies: dict[str, Stored] = {}
        self._sorted: list[str] | None = None
        self.folded = 0
        self.failures: list[Failure] = []

    def take(self, rows: Sequence[Logged]) -> None:
        """Fold rows in their order; what fails is noted. Raises KeyboardInterrupt on Ctrl-C."""
        events = []
        for row in rows:
            try:
                events.append(from_bytes(row.body))
            except (Undecodable, NewerVersion) as error:
                self.failures.append(Failure(row.event_id, str(error)))
        with _interruptible(self._consumer):
            self._fold(events)
        self._sorted = None

    def _fold(self, events: Sequence[Event]) -> None:
        folded = self._act(events, self._load, guard=_NO_GUARD, deadline_s=float("inf"))
        if self._consumer.stopped:
            raise KeyboardInterrupt
        too_large = [one for one in folded.documents if len(one.body) > LARGEST]
        if too_large and len(events) > 1:
            # As a worker does when its store refuses a document: halved until one stands alone.
            middle = len(events) // 2
            self._fold(events[:middle])
            self._fold(events[middle:])
            return
        if too_large:
            refused = TooLarge(too_large[0].key, len(too_large[0].body))
            self.failures.append(Failure(events[0].id, reason_of(refused)))
            return
        for place, error in sorted(folded.failures.items()):
            self.failures.append(Failure(events[place].id, reason_of(error)))
        self.folded += len(events) - len(folded.failures)
        for key, revision, body in folded.documents:
            self._bodies[key] = Stored(revision + 1, body)

    def _load(self, keys: Sequence[str]) -> dict[str, Stored]:
        return {key: self._bodies[key] for key in keys if key in self._bodies}

    @property
    def keys(self) -> list[str]:
        """The keys of all documents, in order."""
        if self._sorted is None:
            self._sorted = sorted(self._bodies)
        return self._sorted

    def get(self, key: str) -> Document | None:
        """Return the document of a key, or None."""
        return json.loads(self._bodies[key].body) if key in self._bodies else None

    def range(
        self, first: str, last: str, *, limit: int | None = None
    ) -> list[tuple[str, Document]]:
        """Return keys and documents with first <= key <= last, in the order of the keys' bytes."""
        keys = self.keys
        end = bisect_right(keys, last)
        chosen = keys[bisect_left(keys, first) : end][:limit]
        return [(key, json.loads(self._bodies[key].body)) for key in chosen]


def pages(log: LogReader, selection: Selection) -> Iterator[list[Logged]]:
    """Yield the rows of a selection that are settled now, in the order of the log."""
    walk = Walk(log, selection)
    while (rows := walk.page(_AT_ONCE)) is not None:
        yield rows


class _NoGuard(Guard):
    """No deadline and no file: this process is its person's."""

    def __init__(self) -> None:
        self.last_words = ""

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        yield


_NO_GUARD = _NoGuard()


class _Stoppable:
    """A consumer that runs no more once Ctrl-C was pressed.

    A fold that fails is tried again event by event, and whatever it raises is that event's: also
    what Ctrl-C raises. So after it every call fails at once, until the batch is through.
    """

    def __init__(self, consumer: Projection) -> None:
        self._consumer = consumer
        self.stopped = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def keys(self, event: Event) -> Any:
        return self._called(self._consumer.keys, event)

    def fold(self, event: Event, documents: dict[str, Document]) -> None:
        self._called(self._consumer.fold, event, documents)

    def _called(self, call: Callable[..., T], *arguments: Any) -> T:
        if self.stopped:
            raise KeyboardInterrupt
        return call(*arguments)


@contextmanager
def _interruptible(consumer: _Stoppable) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        consumer.stopped = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
