"""Posts by the clock, some of which are awaited by reads: of each built-in consumer in turn."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from tests.acceptance.crowd import Workout
from tests.acceptance.load import Load, Post
from tests.acceptance.platform import Platform
from tests.bench.delay import READ_EVERY, SENDERS, percentile
from tests.bench.figures import Void
from tests.bench.newcomer import workouts

PER_S = 300
_GIVE_UP_S = 30.0
_READS = (
    "users/{user}/calories",
    "users/{user}/achievements",
    "leaderboards/distance/2025-10",
    "users/{user}/reports/2025-10",
)


class Seen(NamedTuple):
    """From a post until a read has its effect, and how late posts were sent; ms."""

    p50_ms: float
    p99_ms: float
    late_ms: float

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, late {self.late_ms:.1f} ms"


class Watched(Load):
    """Posts by the clock; one of some is read from one of the consumers, by threads of others."""

    def __init__(self, platform: Platform, label: str, readers: ThreadPoolExecutor) -> None:
        super().__init__(platform, workouts(label), per_s=PER_S, threads=SENDERS)
        self._readers, self._reads = readers, list[Future[float]]()

    def _post(self, workout: Workout, due_at: float) -> Post:
        post = super()._post(workout, due_at)
        which, skipped = divmod(int(workout["workout_id"].rpartition("-")[2]), READ_EVERY)
        if not skipped and post.event_id:
            read = _READS[which % len(_READS)].format(user=workout["user_id"])
            path, sent_at = f"/v1/{read}?after={post.event_id}&wait=5", due_at + post.late_s
            self._reads.append(self._readers.submit(self._readable, path, sent_at))
        return post

    def _readable(self, path: str, sent_at: float) -> float:
        while time.monotonic() < sent_at + _GIVE_UP_S:
            answer = self._platform.get(path)
            if answer.status == 200 and answer.headers.get("Paceline-Fate") == "applied":
                return time.monotonic() - sent_at
            time.sleep(0.002)  # every seat for waiting was taken
        raise Void(f"{path} did not answer within {_GIVE_UP_S:.0f} s.")

    def seen(self) -> Seen:
        """Return what was seen, once all that was sampled could be read."""
        delays_ms = [read.result() * 1000 for read in self._reads]
        late_ms = [post.late_s * 1000 for post in self.posts]
        return Seen(percentile(delays_ms, 50), percentile(delays_ms, 99), percentile(late_ms, 99))
