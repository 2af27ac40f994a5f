"""Accepted single posts a second, against a route of the same server that keeps nothing."""

import json
import subprocess
from itertools import count
from pathlib import Path
from typing import NamedTuple

from producer.outbox_reader import OutboxReader
from tests.acceptance.platform import Platform
from tests.bench.figures import Figure, Say, Void
from tests.bench.running import bare_server, running
from tests.bench.scale import Scale

CONNECTIONS = 32
AT_LEAST = 0.40
_SCRIPT = Path(__file__).with_name("post.lua")
_labels = count(1)


class Posted(NamedTuple):
    """What wrk saw."""

    answers: int
    duration_us: int
    p99_us: int
    failed: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answers / self.duration_us * 1e6


class Failures:
    """Counts answers that were none, over all measurements, and tells of each measurement."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.count = 0

    def told(self, what: str, posted: Posted) -> float:
        """Return the rate."""
        self.count += posted.failed
        failed = f", {posted.failed} FAILED" if posted.failed else ""
        p99_ms = posted.p99_us / 1000
        self._say(f"posts: {what}: {posted.per_s:,.0f}/s, p99 {p99_ms:.1f} ms{failed}")
        return posted.per_s


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Measure the producer alone and the echo in turn, then the figures that nothing judges."""
    failures = Failures(say)
    producer, echo = [], []
    for _ in range(scale.pairs):
        producer.append(failures.told("producer alone", _platform(scale, "serve", "producer")))
        echo.append(failures.told("bare route", _bare(scale, "echo")))
    times = range((scale.pairs + 1) // 2)
    whole = [failures.told("whole platform", _platform(scale, "run")) for _ in times]
    noop = [failures.told("no-op route", _bare(scale, "noop")) for _ in times]
    return [
        Figure(
            part="posts",
            what="accepted, producer alone",
            unit="posts/s",
            values=producer,
            against="echo route",
            bare=echo,
            at_least=AT_LEAST,
        ),
        Figure(
            part="posts",
            what="answers other than 2xx",
            unit="",
            values=[failures.count],
            at_most=0,
        ),
        Figure(part="posts", what="accepted, whole platform", unit="posts/s", values=whole),
        Figure(part="posts", what="no-op route", unit="posts/s", values=noop),
    ]


def _platform(scale: Scale, *arguments: str) -> Posted:
    with running(*arguments) as platform:
        warm, posted = _warm_and_post(scale, platform.port)
        _check_kept(platform, warm.answers + posted.answers - warm.failed - posted.failed)
    return posted


def _bare(scale: Scale, route: str) -> Posted:
    with bare_server(route) as port:
        return _warm_and_post(scale, port)[1]


def _warm_and_post(scale: Scale, port: int) -> tuple[Posted, Posted]:
    return _post(port, scale.warm_s), _post(port, scale.wrk_s)


def _post(port: int, seconds: int) -> Posted:
    where = [f"http://127.0.0.1:{port}/", "--", f"run{next(_labels)}"]
    how = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT)]
    done = subprocess.run([*how, *where], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Void(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    return Posted(**json.loads(done.stdout.strip().splitlines()[-1]))


def _check_kept(platform: Platform, accepted: int) -> None:
    """Each was a workout of its own and is in the outbox, and so are those cut off at the end."""
    kept = len(OutboxReader(platform.folder / "outbox.db").ids())
    if not accepted <= kept <= accepted + 2 * CONNECTIONS:
        raise Void(f"{accepted} posts were accepted, and the outbox has {kept}.")
