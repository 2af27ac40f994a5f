"""Kill -9 of each process, again and again, under way: nothing is lost and nothing doubled."""

import json
from collections import Counter
from functools import partial
from random import Random
from threading import Thread
from time import sleep

from tests.acceptance.agreement import differences
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import crowd
from tests.acceptance.door import Door
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import BUILT_IN, Platform, until

SEED = 20261124
WORKOUTS, THREADS = 5_000, 8
PROCESSES = (
    *("supervisor", "producer", "producer worker", "relay", "query", "query worker"),
    *BUILT_IN,
)
ROUNDS = 3
KILLS = ROUNDS * len(PROCESSES)


def test_thirty_kills_while_workouts_are_posted_lose_nothing_and_double_nothing(
    start: Start,
) -> None:
    platform = start()
    workouts = crowd(seed=SEED, count=WORKOUTS, users=100)
    door = Door(platform, threads=THREADS, seed=SEED)
    posting = _Posting(door, workouts)
    posting.start()
    killed = _kill_all(platform, door, posting)
    posting.join()
    assert posting.accepted(WORKOUTS)
    platform.wait_until_ready()
    assert killed == dict.fromkeys(PROCESSES, ROUNDS)
    assert min(door.repeats, door.conflicts, door.failures) > 0

    until(lambda: _nothing_pending(platform), what="every event has a fate", within_s=90)
    logged = [row["event_id"] for row in json.loads(platform.command(*_EVERY_EVENT))]
    assert len(logged) == len(set(logged)) == WORKOUTS
    assert set(logged) == set(door.event_ids.values())
    assert not differences(platform, Oracle(workouts))
    _assert_audit_agrees(platform)


_EVERY_EVENT = ("events", "list", "--type", "workout.completed", "--limit", "100000", "--json")


class _Posting(Thread):
    """The crowd, in the background."""

    def __init__(self, door: Door, workouts: list[dict[str, object]]) -> None:
        super().__init__(daemon=True)
        self._door, self._workouts = door, workouts
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._door.post_all(self._workouts)
        except BaseException as error:  # noqa: BLE001  # the test raises it, in its own thread
            self._error = error

    def accepted(self, count: int) -> bool:
        """Whether so many were accepted; raises what went wrong in the background."""
        if self._error is not None:
            raise self._error
        return len(self._door.event_ids) >= count


def _kill_all(platform: Platform, door: Door, posting: _Posting) -> Counter[str]:
    """Kill each process in turn, in the midst of posting: at a random workout, and then a bit."""
    random, killed = Random(SEED), Counter[str]()
    order = [name for _ in range(ROUNDS) for name in random.sample(PROCESSES, len(PROCESSES))]
    part = WORKOUTS // (KILLS + 1)
    for place, name in enumerate(order):
        door.let_through(part)
        moment = place * part + random.randrange(part - THREADS)
        until(partial(posting.accepted, moment), what="workouts are accepted", every_s=0.002)
        sleep(random.uniform(0, 0.03))
        platform.kill(name)
        killed[name] += 1
        if name == "supervisor":
            platform.supervisor.wait(timeout=10)
            platform.assert_nothing_left()
            platform.start()
    door.let_through(WORKOUTS)
    return killed


def _nothing_pending(platform: Platform) -> bool:
    """Whether nothing is on its way; the command fails where something has lost its way."""
    if any(one["lag"] or one["retrying"] for one in platform.consumers().values()):
        return False
    (audit,) = json.loads(platform.command("audit", "--json"))
    accepting, *consumers = audit["audited"]
    return not any([accepting["in_outbox"], *(one["pending"] for one in consumers)])


def _assert_audit_agrees(platform: Platform) -> None:
    (audit,) = json.loads(platform.command("audit", "--json"))
    accepting, *consumers = audit["audited"]
    assert audit["faults"] == []
    assert (accepting["accepted"], accepting["logged"]) == (WORKOUTS, WORKOUTS)
    assert [one["audited"] for one in consumers] == list(BUILT_IN)
    for one in consumers:
        fates = {name: count for name, count in one.items() if count and name != "audited"}
        fates["logged"] -= fates.pop("not-for-it", 0)  # badges, which none of these takes
        assert fates == {"logged": WORKOUTS, "applied": WORKOUTS}
