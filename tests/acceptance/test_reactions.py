"""Badges are announced: each once under one id, through kills, in any order; history to nobody."""

import json
from pathlib import Path
from random import Random

from tests.acceptance.agreement import differences
from tests.acceptance.conftest import Start
from tests.acceptance.crowd import crowd, posted_together
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import BUILT_IN, Platform, until

SEED, WORKOUTS, USERS = 61, 400, 12
PARTS = 8
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


def lines(path: Path) -> set[tuple[str, str, str]]:
    """Id, person and badge of every letter; a handler may write one twice, with the same id."""
    if not path.exists():
        return set()
    return {tuple(line.split(maxsplit=2)) for line in path.read_text().splitlines()}  # type: ignore[misc]


def reached(platform: Platform) -> set[tuple[str, str]]:
    """Person and badge, as people read them."""
    found = set()
    for number in range(USERS):
        answer = platform.get(f"/v1/users/user-{number:03}/achievements")
        if answer.status == 200:
            found |= {(f"user-{number:03}", one["badge"]) for one in answer.body["badges"]}
    return found


def test_each_badge_is_announced_under_one_id_whatever_is_killed(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "letters.txt"
    platform = start(plugins={"letters": LETTERS.format(path=str(path))})
    until(lambda: "letters" in platform.running(), what="the handler runs")
    workouts = [
        {name: value for name, value in one.items() if name != "origin"}
        for one in crowd(seed=SEED, count=WORKOUTS, users=USERS)
    ]
    Random(SEED).shuffle(workouts)
    victims = ["achievements", "relay", "letters", "achievements", "relay", "letters"]
    size = WORKOUTS // PARTS
    for part in range(PARTS):
        batch = posted_together(workouts[part * size : (part + 1) * size])
        assert platform.post("/v1/workouts/batch", batch).status == 202
        if victims:
            platform.kill(victims.pop())

    def folded() -> bool:
        told = platform.consumers()
        return all(told[name]["applied"] == WORKOUTS for name in BUILT_IN if name in told)

    until(folded, what="every workout is folded", within_s=120, every_s=0.5)
    assert not differences(platform, Oracle(workouts))

    def announced() -> bool:
        expected = reached(platform)
        return bool(expected) and {line[1:] for line in lines(path)} == expected

    until(announced, what="every badge is announced", within_s=120, every_s=0.5)
    letters = lines(path)
    assert len({line[0] for line in letters}) == len(letters), "one badge under two ids"
    until(lambda: platform.command("audit").endswith("fate.\n"), what="the audit is clean")
    (audit,) = json.loads(platform.command("audit", "--json"))
    assert audit["faults"] == []


def test_imported_history_is_a_fact_and_is_announced_to_nobody(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "letters.txt"
    platform = start(plugins={"letters": LETTERS.format(path=str(path))})
    until(lambda: "letters" in platform.running(), what="the handler runs")
    history = [one | {"origin": "history"} for one in crowd(seed=5, count=60, users=4)]
    assert platform.post("/v1/workouts/batch", posted_together(history)).status == 202

    def discarded() -> int:
        return int(platform.consumers()["letters"]["discarded"])

    until(lambda: reached(platform), what="badges are reached")
    until(lambda: discarded() == len(reached(platform)), what="all are discarded", every_s=0.5)
    listed = json.loads(
        platform.command("events", "list", "--type", "achievement.unlocked", "--json")
    )
    assert len(listed) == len(reached(platform))
    assert lines(path) == set()
