"""An app that does not give up: it posts until it has its 202, and checks what it was told."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Lock, Semaphore
from time import monotonic, sleep
from typing import Any

import urllib3

from tests.acceptance.crowd import Workout, posted
from tests.acceptance.platform import Platform

TRIED_FOR_S = 90.0


class Door:
    """Posts a crowd's workouts with several threads, some of them twice, or changed."""

    def __init__(self, platform: Platform, *, threads: int, seed: int) -> None:
        self._platform, self._threads = platform, threads
        self._random = Random(seed)
        self._lock = Lock()
        self._let_through = Semaphore(0)
        self.event_ids: dict[str, str] = {}  # workout -> event, for every 202
        self.repeats = self.conflicts = self.failures = 0

    def let_through(self, count: int) -> None:
        """Allow so many more workouts to be posted."""
        self._let_through.release(count)

    def post_all(self, workouts: Iterable[Workout]) -> None:
        """Post each, as they are let through; return when all were accepted."""
        with ThreadPoolExecutor(self._threads) as threads:
            for _ in threads.map(self._post_when_let, workouts):
                pass

    def _post_when_let(self, workout: Workout) -> None:
        self._let_through.acquire()
        with self._lock:
            twice, changed = self._random.random() < 0.1, self._random.random() < 0.02
            shuffled = Random(self._random.random())
        event_id, duplicate, at_once = self.accepted(posted(workout))
        assert not (duplicate and at_once), f"{workout['workout_id']} was never posted before"
        with self._lock:
            self.event_ids[workout["workout_id"]] = event_id
        if twice:
            again, duplicate, _ = self.accepted(posted(workout, shuffled=shuffled))
            assert (again, duplicate) == (event_id, True)
            self.repeats += 1
        if changed:
            other = {**workout, "duration_s": workout["duration_s"] - 1, "elapsed_s": 20_000}
            assert self._answered(posted(other))[0] == 409
            self.conflicts += 1

    def accepted(self, body: bytes) -> tuple[str, bool, bool]:
        """The event's id, whether it was a duplicate, whether the first attempt was answered."""
        status, answer, at_once = self._answered(body)
        assert status == 202, answer
        return answer["event_id"], answer["duplicate"], at_once

    def _answered(self, body: bytes) -> tuple[int, Any, bool]:
        at_once, deadline = True, monotonic() + TRIED_FOR_S
        while monotonic() < deadline:
            try:
                status, answer, _ = self._platform.post("/v1/workouts", body)
            except urllib3.exceptions.HTTPError:
                status, answer = 503, None
            if status != 503:
                return status, answer, at_once
            at_once = False
            self.failures += 1
            sleep(0.05)
        raise AssertionError(f"the door did not open within {TRIED_FOR_S} s: {body[:200]!r}")
