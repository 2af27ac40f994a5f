"""Plug-ins that fail on one event in 500, side by side: it is dead, and nothing else is hurt."""

import json
from collections import Counter
from typing import Any, NamedTuple

from tests.acceptance.agreement import differences
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import Workout, crowd, posted_together
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import BUILT_IN, Platform, until

WORKOUTS = 1_000
BAD_IDS = ("w-137", "w-637")  # one in 500; the second one is not in the first batch
DEADLINE = "The fold took longer than its deadline."
MEMORY = "The fold took more memory than it may."
ENDED = "The process ended during the fold."


class Misdeed(NamedTuple):
    """What a plug-in does, and how its dead letter tells of it."""

    code: str
    reason: str
    attempts: int = 0
    strikes: int = 0
    traced: bool = True


MISDEEDS = {
    "raises": Misdeed('raise LookupError("no such shoe")', "LookupError: no such shoe", attempts=3),
    "exits": Misdeed("os._exit(9)", ENDED, strikes=3, traced=False),
    "quits": Misdeed("sys.exit(4)", "SystemExit: 4", attempts=3),
    "hangs": Misdeed("while True: pass", DEADLINE, strikes=3),
    "leaks": Misdeed("while True: HOARD.append(bytearray(1 << 20))", MEMORY, strikes=3),
    "crashes": Misdeed("ctypes.string_at(0)", "Fatal Python error: Segmentation fault", strikes=3),
}
SETTINGS = {"ladder_s": "0.1,0.1", "fold_alone_s": 1, "fold_batch_s": 2, "memory_mib": 64}


def plugin(name: str, misdeed: str) -> str:
    """The source of a consumer that counts workouts, and does this for the bad ones."""
    return f'''
"""Counts everybody's workouts, in a way."""

import ctypes, os, sys

HOARD = []


class Counting:
    name = "{name}"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        if event.data.workout_id in {BAD_IDS}:
            {misdeed}
        for document in documents.values():
            document["workouts"] = document.get("workouts", 0) + 1
'''


def test_a_bad_plugin_costs_its_own_bad_events_and_nobody_anything_else(start: Start) -> None:
    sources = {name: plugin(name, misdeed.code) for name, misdeed in MISDEEDS.items()}
    platform = start(plugins=sources, **SETTINGS)
    until(lambda: MISDEEDS.keys() <= platform.running(), what="every plug-in runs")
    built_in = {name: platform.pids()[name] for name in BUILT_IN}

    workouts = crowd(seed=5, count=WORKOUTS, users=20)
    posted = platform.post("/v1/workouts/batch", posted_together(workouts))
    assert posted.status == 202, posted
    event_ids = [item["event_id"] for item in posted.body["items"]]
    bad = {event_ids[int(workout_id[2:])] for workout_id in BAD_IDS}

    until(lambda: _settled(platform), what="every event has its last fate", within_s=240)
    for name, misdeed in MISDEEDS.items():
        assert _counted(platform, name) == _good_ones(workouts), name
        _assert_dead(platform, name, misdeed, bad)
    failed = Counter(one["process"] for one in _told(platform) if one["action"] == "event_failed")
    tries = {name: misdeed.attempts * len(BAD_IDS) for name, misdeed in MISDEEDS.items()}
    assert failed == +Counter(tries), "an event failed that is good"
    assert not differences(platform, Oracle(workouts))
    assert {name: platform.pids()[name] for name in BUILT_IN} == built_in
    _assert_audit_agrees(platform)
    for event_id in bad:
        _assert_fates(platform, event_id)


def _settled(platform: Platform) -> bool:
    found = {
        name: (one["applied"], one["dead"], one["retrying"], one["lag"])
        for name, one in platform.consumers().items()
    }
    good = WORKOUTS - len(BAD_IDS)
    return found == dict.fromkeys(BUILT_IN, (WORKOUTS, 0, 0, 0)) | dict.fromkeys(
        MISDEEDS, (good, len(BAD_IDS), 0, 0)
    )


def _told(platform: Platform) -> list[dict[str, Any]]:
    """What the processes have logged."""
    lines = platform.journal().splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"')]


def _counted(platform: Platform, name: str) -> dict[str, int]:
    listed = platform.read(f"/v1/consumers/{name}/documents?limit=200")["items"]
    return {item["key"]: item["document"]["workouts"] for item in listed}


def _good_ones(workouts: list[Workout]) -> dict[str, int]:
    return Counter(one["user_id"] for one in workouts if one["workout_id"] not in BAD_IDS)


def _assert_dead(platform: Platform, name: str, misdeed: Misdeed, bad: set[str]) -> None:
    letters = json.loads(platform.command("dead-letters", "show", name, "--json"))
    assert {letter["event_id"] for letter in letters} == bad
    assert len(letters) == len(bad)
    file = platform.plugins / f"{name}.py"
    line = file.read_text().splitlines().index(f"            {misdeed.code}") + 1
    for letter in letters:
        assert letter["reason"] == misdeed.reason
        assert (letter["attempts"], letter["strikes"]) == (misdeed.attempts, misdeed.strikes)
        traced = f'File "{file}", line {line} in fold' in letter["traceback"].replace(", in", " in")
        assert traced == misdeed.traced, letter


def _assert_audit_agrees(platform: Platform) -> None:
    (audit,) = json.loads(platform.command("audit", "--json"))
    assert audit["faults"] == []
    fates = {one["audited"]: (one.get("applied"), one.get("dead")) for one in audit["audited"][1:]}
    good = WORKOUTS - len(BAD_IDS)
    assert fates == dict.fromkeys(BUILT_IN, (WORKOUTS, 0)) | dict.fromkeys(
        MISDEEDS, (good, len(BAD_IDS))
    )


def _assert_fates(platform: Platform, event_id: str) -> None:
    fates: dict[str, Any] = platform.read(f"/v1/events/{event_id}")["consumers"]
    for name in BUILT_IN:
        assert fates[name] == {"fate": "applied"}
    for name, misdeed in MISDEEDS.items():
        assert (fates[name]["fate"], fates[name]["reason"]) == ("dead", misdeed.reason)
