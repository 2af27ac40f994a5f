"""A newcomer: a consumer to drop in, and what it must have once all was folded, known apart."""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from events.log.sqlite import SqliteEventLog
from tests.acceptance.crowd import Workout, posted_together
from tests.acceptance.load import Post
from tests.acceptance.platform import Platform
from tests.bench.figures import Void
from tests.bench.folding import append
from tests.bench.history import USERS, history

_AT_ONCE = 1_000
# The sum takes about a tenth of a millisecond, so that an arrival outlasts what is measured.
NEWCOMER = '''
"""Workouts by person and month, and by a number of their ids, so that one that is twice shows."""


class Newcomer:
    name = "NAME"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [f"{event.user_id}/{event.data.local_date.isoformat()[:7]}"]

    def fold(self, event, documents):
        sum(range(5_000))
        for document in documents.values():
            document["workouts"] = document.get("workouts", 0) + 1
            document["duration_ms"] = document.get("duration_ms", 0) + event.data.duration_ms
            document["ids"] = document.get("ids", 0) + int(event.id[:8], 16)
'''


class Accepted:
    """All that was accepted, and what a newcomer makes of it, folded here from its JSON."""

    def __init__(self) -> None:
        self.count = 0
        self.documents: dict[str, dict[str, int]] = defaultdict(
            lambda: {"workouts": 0, "duration_ms": 0, "ids": 0}
        )

    def log(self, path: Path, events: int) -> None:
        """Write a history into a log that nobody has opened yet."""
        log, past = SqliteEventLog(path), history(seed=1)
        for _ in range(0, events, _AT_ONCE):
            some = list(islice(past, _AT_ONCE))
            append(log, some)
            for event in some:
                fact = json.loads(event.body)["data"]
                self._add(event.id, fact, fact["duration_ms"])
        log.close()

    def post(self, platform: Platform, label: str, events: int) -> None:
        """Bring workouts to the door, many at once; those of one label are the same each time."""
        past = workouts(label)
        for _ in range(0, events, _AT_ONCE):
            some = list(islice(past, _AT_ONCE))
            answer = platform.post("/v1/workouts/batch", posted_together(some))
            if answer.status != 202:
                raise Void(f"A batch was answered with {answer.status}: {answer.body}")
            for workout, item in zip(some, answer.body["items"], strict=True):
                self._add(item["event_id"], workout, workout["duration_s"] * 1_000)

    def add(self, posts: list[Post]) -> None:
        """Note posts, all of which must have been accepted."""
        for post in posts:
            if post.event_id is None:
                raise Void(f"A post was answered with {post.status}.")
            self._add(post.event_id, post.workout, post.workout["duration_s"] * 1_000)

    def _add(self, event_id: str, workout: Workout, duration_ms: int) -> None:
        self.count += 1
        document = self.documents[f"{workout['user_id']}/{workout['started_at'][:7]}"]
        document["workouts"] += 1
        document["duration_ms"] += duration_ms
        document["ids"] += int(event_id[:8], 16)


def workouts(label: str) -> Iterator[Workout]:
    """Yield workouts without end, each of another person than the one before."""
    for number in count():
        yield {
            "workout_id": f"{label}-{number}",
            "user_id": f"user-{number % USERS}",
            "sport": "running",
            "started_at": f"2025-10-{1 + number % 28:02}T07:30:00+01:00",
            "duration_s": 1_800 + number % 600,
            "distance_m": 5_000,
            "avg_heart_rate": 150,
            "athlete": {"weight_kg": 70},
        }
