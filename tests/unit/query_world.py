"""A small installation with real files: a log, a consumer of miles, and what its worker writes."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Semaphore
from typing import Any

import msgspec
import pytest

from consumers.runtime.fates import Fate
from consumers.runtime.query.app import create_query_app
from consumers.runtime.registry import Loaded, find, load
from consumers.runtime.store import Change, Commit, Generation, Written
from consumers.runtime.store.sqlite import SqliteStore
from events.envelope import from_bytes, seal
from events.log import Selection
from events.log.sqlite import SqliteEventLog
from events.settings import Settings, read_settings
from events.workouts import WorkoutCompleted

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ACCEPTED_AT = datetime(2026, 11, 24, 9, tzinfo=UTC)

# The blocking read of a plug-in says that it is inside, and goes on when it may.
INSIDE, MAY_GO = Semaphore(0), Semaphore(0)

MILES = '''
"""How far people went on foot."""

def miles(documents, query):
    """How far a user went on a day.

    In metres, as everywhere.
    """
    first, last = query.get("from", "0"), query.get("to", "9")
    found = documents.range(query["user"] + "/" + first, query["user"] + "/" + last)
    if not found:
        raise LookupError("There is nothing of " + query["user"] + ".")
    return {"metres": sum(document["mm"] for _, document in found) / 1000}

class Miles:
    name = "miles"
    bindings = ("workout.completed.running", "workout.completed.walking")
    version = 1
    indexes = {"far": ("board", "-mm")}
    reads = {"/users/{user}/miles{?from,to}": miles}

    def keys(self, event):
        return [f"{event.user_id}/{event.data.local_date}"]

    def fold(self, event, documents):
        for document in documents.values():
            document["mm"] = document.get("mm", 0) + event.data.distance_mm
            document["board"] = "all"
'''


class World:
    """What a test does in place of the producer, the relay and the workers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.plugins.mkdir(parents=True)
        self.log = SqliteEventLog(settings.log_file)
        self.stores: dict[str, SqliteStore] = {}

    def plug_in(self, name: str = "miles", source: str = MILES) -> None:
        """Drop a consumer's file in, or change it."""
        (self.settings.plugins / f"{name}.py").write_text(source)

    def post(self, *facts: WorkoutCompleted, accepted_at: datetime = ACCEPTED_AT) -> list[str]:
        """Bring workouts into the log."""
        sealed = [seal(fact, accepted_at=accepted_at) for fact in facts]
        self.log.append(sealed, source="door")
        return [event.id for event in sealed]

    def store(self, name: str = "miles") -> SqliteStore:
        """The writing side of a consumer's store."""
        if name not in self.stores:
            self.stores[name] = SqliteStore(self.settings.store_file(name))
        return self.stores[name]

    def loaded(self, name: str = "miles") -> Loaded:
        """The consumer's code as it is now."""
        return load(find(self.settings.plugins)[name])

    def begin(self, name: str = "miles") -> Generation:
        """Begin a generation for the code as it is now."""
        code = self.loaded(name)
        return self.store(name).begin(
            version=code.version, code=code.code, bindings=code.bindings, indexes=code.indexes
        )

    def fold(self, name: str = "miles", *, generation: Generation | None = None) -> None:
        """Fold all that the log has and the generation has not: by default the live one."""
        store, consumer = self.store(name), self.loaded(name).consumer
        into = generation or store.live() or self.begin(name)
        done = max(store.watermarks(into.number).values(), default=0)
        rows = self.log.scan(Selection(bindings=into.bindings, after=done), limit=10_000)
        events = [from_bytes(row.body) for row in rows]
        stored = store.load(into.number, [key for event in events for key in consumer.keys(event)])
        documents: dict[str, dict[str, Any]] = {
            key: msgspec.json.decode(one.body) for key, one in stored.items()
        }
        for event in events:
            touched = {key: documents.get(key, {}) for key in consumer.keys(event)}
            consumer.fold(event, touched)
            documents.update(touched)
        written = [
            Written(
                key, stored[key].revision if key in stored else 0, msgspec.json.encode(document)
            )
            for key, document in documents.items()
        ]
        commit = Commit(
            documents=written,
            applied=[row.position for row in rows],
            through=self.log.settled(),
            rate=12.5,
        )
        store.commit(into.number, commit)

    def set_fate(self, event_id: str, fate: Fate, name: str = "miles") -> None:
        """Give an event without a row a fate in the live generation."""
        live, logged = self.store(name).live(), self.log.get(event_id)
        assert live is not None
        assert logged is not None
        change = Change(logged.position, None, fate)
        through = self.log.settled()
        self.store(name).commit(live.number, Commit(changes=[change], through=through))

    def client(self, *, rescan_s: float = 0.0) -> Any:
        """A client of a query process, which looks for new code at every request."""
        app = create_query_app(self.settings, clock=lambda: NOW, rescan_s=rescan_s)
        return app.test_client()

    def close(self) -> None:
        """Let every file go."""
        self.log.close()
        for store in self.stores.values():
            store.close()


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An installation in a folder, with no consumers but those that the test drops in."""
    monkeypatch.setenv("PACELINE_DATA_DIR", str(folder))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    world = World(read_settings())
    yield world
    world.close()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does; fails when it does not."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "It did not come."
        time.sleep(0.002)
