"""Posts while the broker, then MongoDB, is away for half a minute, and how soon all catches up."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.acceptance.crowd import Workout, crowd
from tests.acceptance.load import Post
from tests.acceptance.outage import Ridden, ride_through
from tests.bench.delay import POSTS_PER_S, percentile
from tests.bench.figures import Figure, Say, Void
from tests.bench.real.servers import Servers
from tests.bench.running import running
from tests.bench.scale import Scale

P99_AT_MOST = 2.0
CAUGHT_UP_WITHIN_S = 30.0
AROUND_S, WARM_S = 10.0, 3.0
_GIVE_UP_S = 180.0
_ENDS_S = 60.0  # that a server needs to end and to start, at most


class Away(NamedTuple):
    """How a server leaves and comes back."""

    leave: Callable[[], None]
    come_back: Callable[[], None]


def measure(servers: Servers, scale: Scale, say: Say) -> list[Figure]:
    """Measure both outages once, each on a platform of its own."""
    outages = {
        "the broker": Away(servers.rabbitmq.stop, servers.rabbitmq.start),
        "MongoDB": Away(servers.mongod.kill, servers.mongod.start),
    }
    return [
        figure
        for what, away in outages.items()
        for figure in _figures(what, _ridden(servers, scale, away, say), say)
    ]


def _ridden(servers: Servers, scale: Scale, away: Away, say: Say) -> Ridden:
    seconds = scale.outage_s + 2 * AROUND_S + _ENDS_S
    workouts: Sequence[Workout] = crowd(seed=1, count=int(seconds * POSTS_PER_S), users=200)
    urls = {"broker_url": servers.rabbitmq.new_vhost(), "store_url": servers.new_store_url()}
    with running("run", **urls) as platform:
        try:
            return ride_through(
                platform,
                workouts,
                leave=away.leave,
                come_back=away.come_back,
                away_s=scale.outage_s,
                around_s=AROUND_S,
                per_s=POSTS_PER_S,
                within_s=_GIVE_UP_S,
            )
        except AssertionError as error:
            raise Void(f"Not everything was applied once: {error}") from error


def _figures(what: str, ridden: Ridden, say: Say) -> list[Figure]:
    say(f"outage: {what}: {ridden}")
    first = min(post.due_at for post in ridden.posts)
    parts: Mapping[str, list[Post]] = {
        "before": [one for one in ridden.posts if first + WARM_S <= one.due_at < ridden.away_at],
        "during": [one for one in ridden.posts if ridden.away_at <= one.due_at < ridden.back_at],
    }
    before, during = (_p99_ms(posts) for posts in parts.values())
    refused = sum(post.status != 202 for post in ridden.posts)
    return [
        Figure(
            part="outage",
            what=f"p99 of posts while {what} is away",
            unit="ms",
            values=[during],
            against="before",
            bare=[before],
            at_most=P99_AT_MOST,
        ),
        Figure(
            part="outage", what="posts that were not accepted", unit="", values=[refused], at_most=0
        ),
        Figure(
            part="outage",
            what=f"caught up after {what} is back",
            unit="s",
            values=[ridden.caught_up_s],
            at_most=CAUGHT_UP_WITHIN_S,
        ),
    ]


def _p99_ms(posts: Sequence[Post]) -> float:
    """From when a post was due, so that those that others held up count too."""
    return percentile([post.late_s + post.latency_s for post in posts], 99) * 1000
