"""Badges are announced and handlers called: through kills, in any order, and not for history."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.acceptance.conftest import Start
from tests.acceptance.crowd import Workout, crowd, posted_together
from tests.acceptance.done import Done
from tests.acceptance.oracle_badges import badges
from tests.acceptance.platform import Platform, until

SEED = 20261126
WORKOUTS, USERS, PARTS = 300, 10, 12
LETTERS = '''
class Letters:
    """Writes a line for each badge."""

    name = "letters"
    bindings = ("achievement.unlocked.#",)
    version = 1
    concurrency = 4

    def handle(self, event):
        with open({path!r}, "a") as letters:
            letters.write(f"{{event.id}} {{event.user_id}} {{event.data.badge}}\\n")
'''
Letter = tuple[str, str, str]  # id, person, badge


def letters(path: Path) -> set[Letter]:
    """Every letter that was written; a handler may write one twice, with the same id."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = (line.split(" ") for line in lines)
    return {(event_id, user, badge) for event_id, user, badge in found}


def expected(workouts: list[Workout]) -> set[tuple[str, str]]:
    """Person and badge, found by looking at whole histories."""
    of: dict[str, list[Done]] = {}
    for one in workouts:
        of.setdefault(one["user_id"], []).append(Done(one))
    return {(user, badge) for user, done in of.items() for badge, _, _ in badges(done)}


def facts(platform: Platform) -> dict[str, Any]:
    """Every badge that is logged: its event by its id."""
    arguments = ("--type", "achievement.unlocked", "--limit", "100000", "--json")
    rows = json.loads(platform.command("events", "list", *arguments))
    ids = [row["event_id"] for row in rows]
    assert len(ids) == len(set(ids))
    return {one: platform.read(f"/v1/events/{one}") for one in ids}


def post(platform: Platform, workouts: list[Workout]) -> list[str]:
    """Bring workouts to the door; return the ids of their events."""
    answer = platform.post("/v1/workouts/batch", posted_together(workouts))
    assert answer.status == 202, answer
    return [one["event_id"] for one in answer.body["items"]]


def audit_of(platform: Platform, name: str) -> dict[str, int]:
    """What the audit counts of a consumer, where it finds no fault anywhere."""
    (audit,) = json.loads(platform.command("audit", "--json"))
    assert audit["faults"] == []
    (found,) = [one for one in audit["audited"] if one["audited"] == name]
    return {what: count for what, count in found.items() if count and what != "audited"}


def test_in_a_random_order_and_whatever_is_killed_each_badge_is_announced_under_one_id(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "letters.txt"
    platform = start(plugins={"letters": LETTERS.format(path=str(path))})
    until(lambda: "letters" in platform.running(), what="the handler runs")
    workouts = [one | {"origin": "live"} for one in crowd(seed=SEED, count=WORKOUTS, users=USERS)]
    random = Random(SEED)
    random.shuffle(workouts)
    must = expected(workouts)
    assert len(must) > 5 * USERS
    size = WORKOUTS // PARTS
    for part in range(PARTS):
        post(platform, workouts[part * size : (part + 1) * size])
        platform.kill(("achievements", "relay", "letters")[part % 3])

    def announced() -> bool:
        return {(user, badge) for _, user, badge in letters(path)} == must

    until(announced, what=f"{len(must)} badges are announced", within_s=120, every_s=0.25)
    found, logged = letters(path), facts(platform)
    assert len(found) == len(must), "a badge was announced under two ids"
    assert {event_id for event_id, _, _ in found} == set(logged)
    assert {one["event"]["data"]["origin"] for one in logged.values()} == {"live"}

    def is_settled() -> bool:
        platform_says = platform.consumers()["letters"]
        return (platform_says["lag"], platform_says["applied"]) == (0, len(must))

    until(is_settled, what="every letter has its fate")
    counted = audit_of(platform, "letters")
    counted.pop("healed", None)
    assert counted == {
        "logged": WORKOUTS + len(must),
        "applied": len(must),
        "not-for-it": WORKOUTS,
    }
    assert audit_of(platform, "achievements")["applied"] == WORKOUTS


def test_badges_of_an_imported_history_are_facts_and_are_announced_to_nobody(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "letters.txt"
    platform = start(plugins={"letters": LETTERS.format(path=str(path))})
    until(lambda: "letters" in platform.running(), what="the handler runs")
    history = [one | {"origin": "history"} for one in crowd(seed=SEED, count=60, users=4)]
    must = expected(history)
    post(platform, history)

    def discarded() -> int:
        return int(platform.consumers()["letters"]["discarded"])

    until(lambda: discarded() == len(must), what="all of them are discarded", every_s=0.25)
    logged = facts(platform).values()
    told = {(one["event"]["subject"], one["event"]["data"]["badge"]) for one in logged}
    assert (told, len(logged)) == (must, len(must))
    assert {one["event"]["data"]["origin"] for one in logged} == {"history"}
    fates = [one["consumers"]["letters"] for one in logged]
    reason = "It is of history, which notifies nobody."
    assert fates == [{"fate": "discarded", "reason": reason}] * len(must)
    assert letters(path) == set()

    # What follows of it live is announced, and what was known already is not.
    run = history[0] | {"workout_id": "live", "user_id": "newcomer", "origin": "live"}
    post(platform, [run])
    live = expected([run])
    until(lambda: {one[1:] for one in letters(path)} == live, what="a live one is announced")


BELL = '''
import os

class Closed(Exception):
    pause = True

class Bell:
    """Writes down for which workouts it was called; stands still while it is closed."""

    name = "bell"
    bindings = ("workout.completed.#",)
    version = 1
    concurrency = 2

    def handle(self, event):
        if os.path.exists({closed!r}):
            raise Closed("closed until Monday")
        with open({path!r}, "a") as rung:
            rung.write(event.data.workout_id + "\\n")
'''
LATE = '''
class Late:
    """Counts everybody's workouts from when it came."""

    name = "late"
    bindings = ("workout.completed.#",)
    version = 1
    since = "now"

    def keys(self, event):
        return ["all"]

    def fold(self, event, documents):
        for document in documents.values():
            document["count"] = document.get("count", 0) + 1
'''


def workouts_of(name: str, count: int) -> list[Workout]:
    """Plain workouts, by whose ids one sees when they were posted."""
    made = crowd(seed=SEED, count=count, users=3)
    return [
        one | {"workout_id": f"{name}-{number}", "origin": "live"}
        for number, one in enumerate(made)
    ]


class Life:
    """A platform with a handler and a projection that came late."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.path, self.closed = folder / "rung.txt", folder / "closed"

    def arrive(self) -> None:
        """Drop both in."""
        source = BELL.format(path=str(self.path), closed=str(self.closed))
        for name, text in (("bell", source), ("late", LATE)):
            (self.platform.plugins / f"{name}.py").write_text(text)
        until(lambda: {"bell", "late"} <= self.platform.running(), what="both have come")

    def rung(self) -> Counter[str]:
        """How often it was called, by the name of the posted workouts."""
        ids = self.path.read_text().split() if self.path.exists() else []
        return Counter(one.partition("-")[0] for one in set(ids))

    def status(self, name: str) -> dict[str, Any]:
        """What is said of a consumer."""
        return self.platform.consumers()[name]

    def until_applied(self, name: str, count: int) -> None:
        """Return when so many are applied, and nothing is waiting."""

        def is_so() -> bool:
            found = self.status(name)
            return (found["applied"], found["lag"], found["retrying"]) == (count, 0, 0)

        until(is_so, what=f"{name} has applied {count}; {self.status(name)}")

    def counted(self) -> dict[str, Any]:
        """The projection's document."""
        found: dict[str, Any] = self.platform.read("/v1/consumers/late/documents/all")
        return found

    def assert_not_for(self, events: list[str], *names: str) -> None:
        """Each of these events is not for these consumers, and no fault."""
        for event_id in events:
            fates = self.platform.read(f"/v1/events/{event_id}")["consumers"]
            assert {name: fates[name]["fate"] for name in names} == dict.fromkeys(
                names, "not-for-it"
            )


def test_a_handler_and_a_projection_that_want_no_history_over_their_life(
    start: Start, tmp_path: Path
) -> None:
    platform = start()
    life = Life(platform, tmp_path)
    before = post(platform, workouts_of("before", 5))
    until(lambda: life.status("calories")["applied"] == 5, what="they are logged and folded")
    life.arrive()

    # What was accepted before they came is not for them, and no lag.
    post(platform, workouts_of("after", 6))
    life.until_applied("bell", 6)
    life.until_applied("late", 6)
    assert life.rung() == {"after": 6}
    life.assert_not_for(before, "bell", "late")
    for name in ("bell", "late"):
        counted = audit_of(platform, name)
        assert counted["applied"] == 6
        assert counted["not-for-it"] == counted["logged"] - 6

    # A rebuild keeps that; and a handler never begins anew.
    document = life.counted()
    platform.command("rebuild", "late")
    assert life.status("late")["generation"] == 2
    assert life.counted() == document
    life.until_applied("late", 6)
    life.assert_not_for(before, "late")
    assert "never begins anew" in platform.refused("rebuild", "bell")
    assert life.status("bell")["generation"] == 1
    assert life.path.read_text().count("\n") == 6

    # It stands still with its words, and goes on where it was.
    life.closed.touch()
    post(platform, workouts_of("closed", 4))
    until(lambda: life.status("bell")["state"] == "paused", what="it stands still")
    assert "closed until Monday" in life.status("bell")["reason"]
    (row,) = [
        one
        for one in json.loads(platform.command("consumers", "list", "--json"))
        if one["name"] == "bell"
    ]
    assert (row["state"], row["dead"]) == ("paused", 0)
    life.closed.unlink()
    post(platform, workouts_of("waiting", 3))
    life.until_applied("late", 13)
    assert life.rung() == {"after": 6}
    platform.command("consumers", "resume", "bell")
    life.until_applied("bell", 13)
    assert life.rung() == {"after": 6, "closed": 4, "waiting": 3}

    # Only a replay that acts calls it for what it has missed.
    (looked,) = json.loads(platform.command("replay", "--consumer", "bell", "--json"))
    assert looked["due"] == 0
    assert "before" not in life.rung()
    (acted,) = json.loads(platform.command("replay", "--consumer", "bell", "--act", "--json"))
    assert acted["due"] == 5
    life.until_applied("bell", 18)
    assert life.rung()["before"] == 5

    # A raised version sends nothing again.
    lines = life.path.read_text().splitlines()
    pid = platform.pids()["bell"]
    file = platform.plugins / "bell.py"
    file.write_text(file.read_text().replace("version = 1", "version = 2"))
    until(lambda: platform.pids().get("bell", pid) != pid, what="the new code runs")
    post(platform, workouts_of("last", 2))
    life.until_applied("bell", 20)
    assert life.path.read_text().splitlines()[: len(lines)] == lines
    since = life.path.read_text().splitlines()[len(lines) :]
    assert set(since) == {"last-0", "last-1"}
