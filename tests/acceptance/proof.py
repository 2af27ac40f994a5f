"""The proof that nothing was lost and nothing doubled: ids in the log, the audit, every read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import urllib3

from tests.acceptance.agreement import differences
from tests.acceptance.crowd import Workout
from tests.acceptance.load import Post
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import BUILT_IN, Platform, until

_LOGGED = ("events", "list", "--type", "workout.completed", "--limit", "1000000", "--json")


def applied(platform: Platform) -> dict[str, int]:
    """How many events each consumer has applied; empty where nobody can say just now."""
    try:
        return {name: int(one["applied"]) for name, one in platform.consumers().items()}
    except urllib3.exceptions.HTTPError:
        return {}


def until_applied(
    platform: Platform, count: int, *, at_least: bool = False, within_s: float = 60.0
) -> None:
    """Return when every consumer has applied so many events; more are one that came twice."""

    def reached() -> bool:
        found = applied(platform)
        assert at_least or max(found.values(), default=0) <= count, found
        return all(found.get(name, 0) >= count for name in BUILT_IN)

    what = f"every consumer has applied {count}; first {applied(platform)}"
    until(reached, what=what, within_s=within_s, every_s=0.25)


def accepted(posts: Sequence[Post]) -> tuple[list[Workout], set[str]]:
    """The workouts of posts that were all accepted, and the ids of their events."""
    statuses = Counter(post.status for post in posts)
    assert statuses == {202: len(posts)}
    ids = {post.event_id for post in posts if post.event_id is not None}
    assert len(ids) == len(posts)
    return [post.workout for post in posts], ids


def audited(platform: Platform) -> tuple[dict[str, Any], Mapping[str, dict[str, Any]]]:
    """What the audit counts, where it finds no fault: of the accepting host, of each consumer."""
    (audit,) = json.loads(platform.command("audit", "--json"))
    assert audit["faults"] == []
    accepting, *consumers = audit["audited"]
    return accepting, {one["audited"]: one for one in consumers}


def healed(platform: Platform) -> dict[str, int]:
    """How many events no queue brought, of the consumers of which that can be said."""
    _, consumers = audited(platform)
    return {name: one["healed"] for name, one in consumers.items() if "healed" in one}


def ended_by_itself(platform: Platform) -> list[str]:
    """What its supervisor has said of processes that ended before it asked them to."""
    return [line for line in platform.journal().splitlines() if '"action": "restart"' in line]


def assert_kept(platform: Platform, workouts: Sequence[Workout], ids: set[str]) -> None:
    """Every event is logged once, has one fate, and every read is what the oracle says."""
    logged = [row["event_id"] for row in json.loads(platform.command(*_LOGGED))]
    assert Counter(logged) == Counter(ids)
    assert_audited(platform, len(ids))
    assert not differences(platform, Oracle(workouts))


def assert_audited(platform: Platform, count: int) -> None:
    """The audit finds each of so many events accepted, logged, and applied by each consumer."""
    accepting, consumers = audited(platform)
    assert (accepting["accepted"], accepting["logged"]) == (count, count)
    assert set(consumers) >= set(BUILT_IN)
    for name in BUILT_IN:
        found = consumers[name]
        fates = {what: of for what, of in found.items() if of and what not in ("audited", "healed")}
        fates["logged"] -= fates.pop("not-for-it", 0)  # badges, which none of these takes
        assert fates == {"logged": count, "applied": count}, name
