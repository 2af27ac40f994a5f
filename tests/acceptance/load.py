"""A steady load: each post goes out when it is due, however long the others take."""

import json
from collections.abc import Iterable, Iterator
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

import urllib3

from tests.acceptance.crowd import Workout, posted
from tests.acceptance.platform import Platform, until

LATE_S = 0.05


class Post(NamedTuple):
    """One post: when it was due, how late it went out, and how it was answered; 0 is nothing."""

    workout: Workout
    due_at: float
    late_s: float
    latency_s: float
    status: int
    event_id: str | None


class Load:
    """Posts workouts at a rate, open loop, until its block ends or there are no more."""

    def __init__(
        self, platform: Platform, workouts: Iterable[Workout], *, per_s: float, threads: int = 16
    ) -> None:
        self._platform, self._per_s = platform, per_s
        self._due: Iterator[tuple[int, Workout]] = enumerate(workouts)
        self._lock, self._ended = Lock(), Event()
        self._threads = [Thread(target=self._post_in_turn, daemon=True) for _ in range(threads)]
        self._started_at = 0.0
        self.posts: list[Post] = []

    def __enter__(self) -> Self:
        self._started_at = monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, seconds: float) -> None:
        """Return when so many more seconds' worth of posts were answered."""
        count = len(self.posts) + int(seconds * self._per_s)
        until(lambda: len(self.posts) >= count, what=f"{count} posts", within_s=seconds + 60)

    def _post_in_turn(self) -> None:
        while (turn := self._next()) is not None:
            number, workout = turn
            due_at = self._started_at + number / self._per_s
            if self._ended.wait(max(0.0, due_at - monotonic())):
                return
            self.posts.append(self._post(workout, due_at))

    def _next(self) -> tuple[int, Workout] | None:
        with self._lock:
            return next(self._due, None)

    def _post(self, workout: Workout, due_at: float) -> Post:
        body, sent_at = posted(workout), monotonic()
        try:
            status, answer, _ = self._platform.post("/v1/workouts", body)
        except (urllib3.exceptions.HTTPError, json.JSONDecodeError):
            status, answer = 0, None
        latency_s = monotonic() - sent_at
        event_id = answer["event_id"] if status == 202 else None
        return Post(workout, due_at, sent_at - due_at, latency_s, status, event_id)
