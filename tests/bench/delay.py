"""From the post until its effect can be read, while 200 workouts a second are posted."""

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple

from tests.acceptance.platform import Platform
from tests.bench.figures import Figure, Say, Void
from tests.bench.history import USERS
from tests.bench.running import running
from tests.bench.scale import Scale

POSTS_PER_S = 200
READ_EVERY = 5  # of the posts; each read that waits polls, so reading all would be what is measured
SENDERS = READERS = 8
WARM_S = 2.0
_GIVE_UP_S = 30.0


class Delay(NamedTuple):
    """Of one post: how late it was sent, and when it could be read; seconds."""

    late_s: float
    readable_s: float | None


class Client:
    """Posts by the clock, whether or not the ones before were answered; others read."""

    def __init__(self, platform: Platform, label: str) -> None:
        self._platform, self._label = platform, label
        self._stopped = Event()

    def run(self, seconds: float) -> list[Delay]:
        """Post for so long; return when all that is sampled could be read."""
        count = int(seconds * POSTS_PER_S)
        start = time.monotonic() + 0.1
        with ThreadPoolExecutor(SENDERS) as senders, ThreadPoolExecutor(READERS) as readers:
            try:
                posts = [
                    senders.submit(self._post, number, start + number / POSTS_PER_S, readers)
                    for number in range(count)
                ]
                return [self._delay(*post.result()) for post in posts]
            finally:
                self._stopped.set()
                senders.shutdown(cancel_futures=True)

    def _delay(self, late_s: float, read: Future[float] | None) -> Delay:
        return Delay(late_s, read.result() if read else None)

    def _post(
        self, number: int, due: float, readers: ThreadPoolExecutor
    ) -> tuple[float, Future[float] | None]:
        self._stopped.wait(max(0.0, due - time.monotonic()))
        user = f"user-{number % USERS}"
        sent = time.monotonic()
        answer = self._platform.post("/v1/workouts", self._body(number, user))
        if answer.status != 202:
            raise Void(f"A post was answered with {answer.status}: {answer.body}")
        event_id = answer.body["event_id"]
        sampled = number % READ_EVERY == 0
        return sent - due, readers.submit(self._read, user, event_id, sent) if sampled else None

    def _body(self, number: int, user: str) -> bytes:
        workout = {
            "workout_id": f"{self._label}-{number}",
            "user_id": user,
            "sport": "running",
            "started_at": f"2025-10-{1 + number % 28:02}T07:30:00+01:00",
            "duration_s": 1800.5,
            "distance_m": 5000,
            "avg_heart_rate": 150,
            "athlete": {"weight_kg": 70},
        }
        return json.dumps(workout).encode()

    def _read(self, user: str, event_id: str, sent: float) -> float:
        path = f"/v1/users/{user}/calories?after={event_id}&wait=5"
        while not self._stopped.is_set() and time.monotonic() < sent + _GIVE_UP_S:
            answer = self._platform.get(path)
            if answer.status == 200 and answer.headers.get("Paceline-Fate") == "applied":
                return time.monotonic() - sent
            # Every seat for waiting was taken.
            self._stopped.wait(0.002)
        raise Void(f"Event {event_id} could not be read within {_GIVE_UP_S:.0f} s.")


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Measure on the whole platform, after it has warmed up."""
    with running("run") as platform:
        Client(platform, "warm").run(WARM_S)
        delays = Client(platform, "paced").run(scale.paced_s)
    readable = [delay.readable_s for delay in delays if delay.readable_s is not None]
    late_ms = percentile([delay.late_s for delay in delays], 99) * 1000
    figures = [
        _figure(f"readable after the post, p{percent}", percentile(readable, percent))
        for percent in (50, 99)
    ]
    figures.append(_figure("posts sent too late, p99", late_ms / 1000))
    p50, p99 = (figure.value for figure in figures[:2])
    say(f"delay: {len(readable)} reads: p50 {p50:.1f} ms, p99 {p99:.1f} ms; late {late_ms:.1f} ms")
    return figures


def _figure(what: str, seconds: float) -> Figure:
    return Figure(part="delay", what=what, unit="ms", values=[seconds * 1000])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent are not above."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
