"""An outage under load: what stands behind the door goes away for a while, and comes back."""

from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import NamedTuple

from tests.acceptance.crowd import Workout
from tests.acceptance.load import LATE_S, Load, Post
from tests.acceptance.platform import Platform
from tests.acceptance.proof import until_applied


class Ridden(NamedTuple):
    """An outage that is over: every post, when it began and ended, and how long what came took.

    `caught_up_s` is from the return until every consumer had everything, also what came after it.
    """

    posts: list[Post]
    away_at: float
    back_at: float
    caught_up_s: float

    def latencies(self) -> dict[str, list[float]]:
        """The seconds that answers took, of posts that were due before, during and after it."""
        by_part: dict[str, list[float]] = {"before": [], "during": [], "after": []}
        for post in self.posts:
            began, ended = post.due_at >= self.away_at, post.due_at >= self.back_at
            part = "after" if ended else "during" if began else "before"
            by_part[part].append(post.latency_s)
        return by_part

    def late(self) -> int:
        """How many posts went out late: then it is no open loop any more."""
        return sum(post.late_s > LATE_S for post in self.posts)

    def __str__(self) -> str:
        worst = ", ".join(
            f"{part} {len(of)} posts p50 {_at(of, 0.5)} p99 {_at(of, 0.99)} max {_at(of, 1)}"
            for part, of in self.latencies().items()
        )
        return (
            f"{worst}; {self.late()} sent late; away {self.back_at - self.away_at:.1f} s, "
            f"caught up {self.caught_up_s:.1f} s after the return"
        )


def _at(latencies: list[float], part: float) -> str:
    place = min(len(latencies) - 1, int(part * len(latencies)))
    return f"{sorted(latencies)[place] * 1000:.0f} ms" if latencies else "none"


def ride_through(
    platform: Platform,
    workouts: Iterable[Workout],
    *,
    leave: Callable[[], None],
    come_back: Callable[[], None],
    away_s: float = 8.0,
    around_s: float = 4.0,
    per_s: float = 200.0,
    within_s: float = 60.0,
) -> Ridden:
    """Post at a rate, have something leave and come back, and wait until everything is applied.

    The outage lasts `away_s` and for as long as `come_back` takes; the load goes on meanwhile, and
    for `around_s` before and after. There must be workouts enough for that.
    """
    with Load(platform, workouts, per_s=per_s) as load:
        load.go_on(around_s)
        away_at = monotonic()
        leave()
        sleep(away_s)
        come_back()
        back_at = monotonic()
        load.go_on(around_s)
    until_applied(platform, len(load.posts), within_s=within_s)
    return Ridden(load.posts, away_at, back_at, monotonic() - back_at)
