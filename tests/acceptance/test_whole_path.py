"""The whole path: what is posted is read, and what an operator asks for happens."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import Way, started
from tests.acceptance.crowd import Workout, crowd, posted, posted_together
from tests.acceptance.platform import BUILT_IN, Answer, Platform, until

HISTORY = 300


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, way: Way) -> Iterator[Platform]:
    """One for all tests of this module, with a history in it; each test has users of its own."""
    platform = started(tmp_path_factory.mktemp("whole"), ladder_s="0.05,0.05", **way())
    try:
        history = posted_together(crowd(seed=8, count=HISTORY, users=10))
        assert platform.post("/v1/workouts/batch", history).status == 202
        yield platform
        assert platform.stop() == 0
    finally:
        platform.close()


def run_of_a_half_hour(user: str, number: int = 1, **changes: Any) -> Workout:
    """160 m/min for 30 min: by ACSM's formula, 70 kg need 372.75 kcal for it."""
    return {
        "workout_id": f"run-{number}",
        "user_id": user,
        "sport": "running",
        "started_at": f"2026-03-{number:02}T23:45:00+01:00",
        "duration_s": 1800,
        "distance_m": 4800,
        "athlete": {"weight_kg": 70},
        **changes,
    }


def accept(platform: Platform, workout: Workout) -> str:
    """Post a workout and return its event's id."""
    answer = platform.post("/v1/workouts", posted(workout))
    assert answer.status == 202, answer
    assert answer.headers["Location"] == f"/v1/events/{answer.body['event_id']}"
    return str(answer.body["event_id"])


def read_after(platform: Platform, path: str, event_id: str, *, wait: float = 5) -> Answer:
    """Read one's own write."""
    return platform.get(f"{path}{'&' if '?' in path else '?'}after={event_id}&wait={wait:g}")


def documents(platform: Platform, consumer: str, prefix: str = "") -> dict[str, Any]:
    """All documents of a consumer by key."""
    path = f"/v1/consumers/{consumer}/documents?limit=200&prefix={prefix}"
    found: dict[str, Any] = {}
    answer = platform.read(path)
    while True:
        found |= {item["key"]: item["document"] for item in answer["items"]}
        if answer["next"] is None:
            return found
        answer = platform.read(f"{path}&cursor={answer['next']}")


def settle(platform: Platform, event_id: str, *names: str) -> None:
    """Return when these consumers have taken this event, and so all that was logged before it."""

    def settled() -> bool:
        fates = platform.read(f"/v1/events/{event_id}")["consumers"]
        states = platform.consumers()
        return all(
            fates.get(name) == {"fate": "applied"}
            and (states[name]["lag"], states[name]["retrying"]) == (0, 0)
            for name in names
        )

    until(settled, what=f"{names} have caught up")


def test_a_posted_workout_is_read_from_all_four_consumers_at_once(platform: Platform) -> None:
    event_id = accept(platform, run_of_a_half_hour("ada"))
    day, month = "2026-03-01", "2026-03"
    paths = (
        f"/v1/users/ada/calories?from={day}&to={day}",
        "/v1/users/ada/achievements",
        f"/v1/leaderboards/distance/{month}?sport=running",
        f"/v1/users/ada/reports/{month}",
    )
    answers = [read_after(platform, path, event_id) for path in paths]
    assert [answer.status for answer in answers] == [200] * 4
    assert [answer.headers["Paceline-Fate"] for answer in answers] == ["applied"] * 4
    calories, achievements, board, report = (answer.body for answer in answers)
    assert (calories["total_kcal"], calories["days"][0]["date"]) == (372.75, day)
    first = {"badge": "first-workout", "reached_on": day, "workout_id": "run-1"}
    assert first in achievements["badges"]
    (mine,) = [item for item in board["items"] if item["user_id"] == "ada"]
    assert (mine["distance_m"], mine["reached_at"]) == (4800, "2026-03-01T23:15:00+00:00")
    assert report["totals"] == {
        "workouts": 1,
        "duration_s": 1800,
        "elapsed_s": 1800,
        "distance_m": 4800,
        "ascent_m": 0,
        "energy_kcal": 372.75,
        "formula_energy_kcal": 372.75,
        "active_days": 1,
    }


def test_an_event_shows_its_fate_for_every_consumer(platform: Platform) -> None:
    event_id = accept(platform, run_of_a_half_hour("ben"))
    settle(platform, event_id, *BUILT_IN)
    shown = platform.read(f"/v1/events/{event_id}")
    assert (shown["state"], shown["event"]["id"]) == ("logged", event_id)
    assert shown["event"]["subject"] == "ben"
    assert [shown["consumers"][name] for name in BUILT_IN] == [{"fate": "applied"}] * 4


REST = '''
"""Time to rest after the day's work."""


def rest(documents, query):
    """How long a person should rest after a day."""
    document = documents.get(f"{query['user']}/{query['day']}")
    if document is None:
        raise LookupError("no work, no rest")
    return {"rest_s": document["rest_ms"] / 1000}


class Recovery:
    name = "recovery"
    bindings = ("workout.completed.#",)
    version = 1
    reads = {"/users/{user}/rest/{day}": rest}

    def keys(self, event):
        return [f"{event.user_id}/{event.data.local_date}"]

    def fold(self, event, documents):
        for document in documents.values():
            document["rest_ms"] = document.get("rest_ms", 0) + 3 * event.data.duration_ms
'''


def drop_in(platform: Platform, name: str, source: str) -> None:
    """Put a plug-in into its folder as editors do, whole or not at all."""
    draft = platform.plugins / f".{name}.new"
    draft.write_text(source)
    draft.rename(platform.plugins / f"{name}.py")


def test_a_plugin_that_is_dropped_in_is_filled_with_history(platform: Platform) -> None:
    earlier = accept(platform, run_of_a_half_hour("cleo"))
    others = {name: platform.pids()[name] for name in BUILT_IN}
    drop_in(platform, "recovery", REST)
    until(lambda: "recovery" in platform.running(), what="it runs")
    settle(platform, earlier, "recovery")
    assert platform.consumers()["recovery"]["applied"] > HISTORY
    rested = sum(one["rest_ms"] for one in documents(platform, "recovery", "user-").values())
    moved = 1000 * sum(one["duration_s"] for one in crowd(seed=8, count=HISTORY, users=10))
    assert rested == round(3 * moved)
    same_day: dict[str, Any] = {"workout_id": "later", "started_at": "2026-03-01T08:00:00Z"}
    event_id = accept(platform, run_of_a_half_hour("cleo", **same_day))
    read = read_after(platform, "/v1/users/cleo/rest/2026-03-01", event_id)
    assert read.body == {"rest_s": 2 * 3 * 1800}
    assert {name: platform.pids()[name] for name in BUILT_IN} == others


def test_a_paused_consumer_stands_still_alone_and_goes_on_where_it_was(platform: Platform) -> None:
    platform.command("consumers", "pause", "leaderboard")
    assert platform.consumers()["leaderboard"]["state"] == "paused"
    event_id = accept(platform, run_of_a_half_hour("dora", sport="golf"))
    calories = read_after(platform, "/v1/users/dora/calories", event_id)
    assert calories.headers["Paceline-Fate"] == "applied"
    board = "/v1/leaderboards/count/all?sport=golf"
    still = read_after(platform, board, event_id, wait=0.3)
    assert (still.headers["Paceline-Fate"], still.body["items"]) == ("pending", [])
    platform.command("consumers", "resume", "leaderboard")
    moved = read_after(platform, board, event_id)
    assert moved.headers["Paceline-Fate"] == "applied"
    assert [item["user_id"] for item in moved.body["items"]] == ["dora"]


def test_a_replay_says_that_everything_was_applied_already(platform: Platform) -> None:
    ids = [accept(platform, run_of_a_half_hour("ed", number)) for number in (1, 2, 3)]
    settle(platform, ids[-1], *BUILT_IN)
    before = {name: documents(platform, name) for name in BUILT_IN}
    answers = json.loads(platform.command("replay", "--user", "ed", "--json"))
    counts = {one["consumer"]: (one["applied"], one["already"], one["others"]) for one in answers}
    assert {name: counts[name] for name in BUILT_IN} == dict.fromkeys(BUILT_IN, (0, len(ids), 0))
    assert {name: documents(platform, name) for name in BUILT_IN} == before


def test_a_rebuild_swaps_to_the_same_documents(platform: Platform) -> None:
    settle(platform, accept(platform, run_of_a_half_hour("flo")), *BUILT_IN)
    for name in BUILT_IN:
        before, generation = documents(platform, name), platform.consumers()[name]["generation"]
        (said,) = json.loads(platform.command("rebuild", name, "--json"))
        status = platform.consumers()[name]
        assert said["generation"] == status["generation"] == generation + 1
        assert said["applied"] == status["applied"] > HISTORY
        assert documents(platform, name) == before


def test_dead_letters_are_redriven_once_the_plugin_is_fixed(platform: Platform) -> None:
    broken = REST.replace("recovery", "picky").replace("/rest/", "/picky/")
    fold = "        for document in documents.values():\n"
    broken = broken.replace(fold, f"        1 // (event.user_id != 'gus')\n{fold}")
    drop_in(platform, "picky", broken)
    ids = {accept(platform, run_of_a_half_hour("gus", number)) for number in (1, 2)}
    until(lambda: "picky" in platform.running(), what="it runs")
    until(lambda: platform.consumers()["picky"]["dead"] == 2, what="both are dead")
    letters = json.loads(platform.command("dead-letters", "show", "picky", "--json"))
    assert {letter["event_id"] for letter in letters} == ids
    assert all(letter["reason"].startswith("ZeroDivisionError") for letter in letters)

    drop_in(platform, "picky", broken.replace("1 //", "1 +"))
    platform.replaced("picky", after=signal.SIGTERM)
    said = platform.command("dead-letters", "redrive", "picky", "--yes")
    assert "2 dead letters" in said
    assert "2 changed" in said
    for event_id in ids:
        settle(platform, event_id, "picky")
    assert platform.consumers()["picky"]["dead"] == 0
    platform.replaced("query", after=signal.SIGKILL)
    path = "/v1/users/gus/picky/2026-03-02"
    until(lambda: platform.get(path).status != 503, what="the new query process answers")
    assert platform.read(path) == {"rest_s": 3 * 1800}
