"""The comparison: every read of every consumer, for everybody, against the oracle."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

from tests.acceptance.crowd import DAYS, FIRST_DAY
from tests.acceptance.done import DAY
from tests.acceptance.oracle import Oracle
from tests.acceptance.platform import Platform

FIRST, LAST = FIRST_DAY.date(), FIRST_DAY.date() + DAYS * DAY
WINDOWS = ("2024-W52", "2025-W01", "2025-W08", "2024-12", "2025-02", "2024", "2025", "all")
METRICS = ("distance", "moving-time", "energy", "count")
BOARD_SPORTS = ("all", "running", "cycling", "yoga")


def differences(platform: Platform, oracle: Oracle) -> list[tuple[str, Any, Any]]:
    """Every read whose answer is not the oracle's: its path, what it answered, what it must."""
    expected = dict([*_of_people(oracle, FIRST, LAST), *_of_boards(oracle)])
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda path: _whole(platform, path), expected)
    pairs = zip(expected.items(), answers, strict=True)
    return [(path, answer, must) for (path, must), answer in pairs if answer != must]


def _of_people(oracle: Oracle, first: date, last: date) -> Iterator[tuple[str, Any]]:
    for user in oracle.users:
        yield (
            f"/v1/users/{user}/calories?from={first}&to={last}",
            oracle.calories(user, first, last),
        )
        yield f"/v1/users/{user}/achievements", oracle.achievements(user)
        for month in oracle.months(user):
            yield f"/v1/users/{user}/reports/{month}", oracle.report(user, month)
        yield f"/v1/users/{user}/workouts?limit=200", oracle.workouts(user)


def _of_boards(oracle: Oracle) -> Iterator[tuple[str, Any]]:
    for metric in METRICS:
        for window in WINDOWS:
            for sport in BOARD_SPORTS:
                path = f"/v1/leaderboards/{metric}/{window}?sport={sport}&limit=200"
                yield path, oracle.board(metric, window, sport)


def _whole(platform: Platform, path: str) -> Any:
    """The answer, with all of its pages; without what the platform adds to each workout."""
    answer = platform.read(path)
    if "items" not in answer:
        return answer
    items = list(answer["items"])
    while answer["next"] is not None:
        answer = platform.read(f"{path}&cursor={answer['next']}")
        items += answer["items"]
    if not path.partition("?")[0].endswith("/workouts"):
        return items
    added = ("event_id", "accepted_at")
    posted = [{name: one[name] for name in one if name not in added} for one in items]
    by_id = {one["workout_id"]: one for one in posted}
    assert len(by_id) == len(items), f"{path} lists a workout twice"
    return by_id
