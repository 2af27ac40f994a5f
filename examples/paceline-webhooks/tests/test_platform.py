"""On the real platform: what people earn is told to the receiver, whatever fails or is killed."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import httpx2
import pytest
from history import Workout, badges, history
from running_platform import Platform, until
from standardwebhooks import Webhook
from webhook_receiver import SECRET, Mood, Receiver, answer

pytestmark = pytest.mark.timeout(300)
GROUPS, ROUNDS = 10, 8


@pytest.fixture
def platform(tmp_path: Path, receiver: Receiver) -> Iterator[Platform]:
    running = Platform(
        tmp_path,
        WEBHOOKS_URL=receiver.url,
        WEBHOOKS_SECRET=SECRET,
        WEBHOOKS_ALLOW_PRIVATE="1",
        WEBHOOKS_LADDER_S=",".join(["0.2"] * 8),
        BATCH="10",  # more moments between which something can be killed
    )
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.close()


def post(client: httpx2.Client, workout: Workout, *, origin: str = "live") -> None:
    answered = client.post("/v1/workouts", json=workout.posted(origin))
    assert answered.status_code == 202, answered.text


def client_of(platform: Platform) -> httpx2.Client:
    return httpx2.Client(base_url=platform.url, timeout=30, trust_env=False)


def told_badges(receiver: Receiver) -> set[tuple[str, str]]:
    """The (user, badge) of everything that has come; each signature is verified."""
    return {
        (told["user_id"], told["badge"])
        for got in list(receiver.got)
        for told in [Webhook(SECRET).verify(got.body, got.headers)["data"]]
    }


def all_is_told(platform: Platform, receiver: Receiver, last: str) -> dict[str, object]:
    """Return what `webhooks` is doing, once it has nothing left to do.

    Facts go one way in one order: what is told of `last`, whose first workout is posted now,
    comes behind all that there was before.
    """
    with client_of(platform) as client:
        post(client, Workout("w-last", last, "yoga", "2025-06-01T07:00:00Z", 0))
    until(lambda: (last, "first-workout") in told_badges(receiver), what=f"{last} is told of")

    def idle() -> dict[str, object] | None:
        now = platform.consumer("webhooks")
        return now if now["lag"] == now["retrying"] == 0 else None

    return until(idle, what="nothing is left to send")


def test_every_badge_is_told_under_one_id_in_any_order_whatever_is_killed(platform, receiver):
    receiver.does(mood := Mood(lambda: platform.kill("consume", "webhooks")))
    groups = [history(f"g{number}") for number in range(GROUPS)]
    for number, workouts in enumerate(groups):
        Random(number).shuffle(workouts)
    workouts = [one for group in groups for one in group]
    assert len(workouts) == 2_000

    post_all(platform, groups)
    expected = badges(workouts) | {("last", "first-workout")}
    status = all_is_told(platform, receiver, "last")

    assert told_badges(receiver) == expected
    assert (status["applied"], status["dead"]) == (len(expected), 0)
    assert mood.kills == len(Mood.KILLS_AT)
    assert set(mood.done) == {"well", "error", "hang-up", "slow"}

    ids: dict[tuple[str, str], set[str]] = {}
    bodies: dict[str, set[bytes]] = {}
    for got in receiver.got:
        told = json.loads(got.body)["data"]
        ids.setdefault((told["user_id"], told["badge"]), set()).add(got.headers["webhook-id"])
        bodies.setdefault(got.headers["webhook-id"], set()).add(got.body)
    assert [pair for pair, under in ids.items() if len(under) != 1] == []
    assert [one for one, said in bodies.items() if len(said) != 1] == []
    assert len(bodies) == len(expected)
    assert mood.taken == set(bodies)
    assert set(bodies) == {one["event_id"] for one in unlocked(platform)}

    days = {(one.user, one.id): one.day.isoformat() for one in workouts}
    for (said,) in bodies.values():
        told = json.loads(said)["data"]
        if told["user_id"] != "last":
            assert told["day"] == days[told["user_id"], told["workout_id"]]
            assert told["origin"] == "live"
    platform.command("audit")
    assert platform.stop() == 0


def post_all(platform: Platform, groups: list[list[Workout]]) -> None:
    """Post each group in its own order; each round something is killed that is at work."""
    size = len(groups[0]) // ROUNDS
    with ThreadPoolExecutor(len(groups)) as threads:
        for part in range(ROUNDS):
            process, done = KILLED[part % len(KILLED)]
            before, middle = done(platform), threading.Barrier(GROUPS + 1, timeout=60)
            parts = [group[part * size :][:size] for group in groups]
            posts = [threads.submit(post_part, platform, one, middle) for one in parts]
            middle.wait()
            wait_for_more(platform, done, before)
            platform.kill(*process)
            for one in posts:
                one.result()


def logged(platform: Platform) -> int:
    """How many workouts are in the log; `calories` wants each of them, and is never killed."""
    calories = platform.consumers()["calories"]
    return int(calories["applied"] + calories["lag"])


def folded(platform: Platform) -> int:
    """How many workouts `achievements` has taken."""
    return int(platform.consumers()["achievements"]["applied"])


KILLED = ((("consume", "achievements"), folded), (("relay",), logged))


def wait_for_more(platform: Platform, done: Callable[[Platform], int], before: int) -> None:
    until(lambda: done(platform) > before, what=f"{done.__name__} is more than {before}")


def post_part(platform: Platform, workouts: list[Workout], middle: threading.Barrier) -> None:
    with client_of(platform) as client:
        for number, workout in enumerate(workouts):
            if number == len(workouts) // 2:
                middle.wait()
            post(client, workout)


def unlocked(platform: Platform) -> list[dict[str, str]]:
    """The badges in the log."""
    kind = ("--type", "achievement.unlocked", "--limit", "10000")
    return list(platform.told("events", "list", *kind))


def test_what_is_history_is_in_the_log_and_the_receiver_hears_nothing_of_it(platform, receiver):
    imported = history("imported")
    with client_of(platform) as client:
        for workout in imported:
            post(client, workout, origin="history")
    expected = badges(imported)

    status = all_is_told(platform, receiver, "last")

    assert told_badges(receiver) == {("last", "first-workout")}
    logged = Counter(one["user"] for one in unlocked(platform))
    assert logged == Counter(user for user, _ in expected) + Counter(["last"])
    assert (status["applied"], status["discarded"]) == (1, len(expected))
    with client_of(platform) as client:
        for one in unlocked(platform):
            event = client.get(f"/v1/events/{one['event_id']}").json()["event"]
            assert event["data"]["origin"] == ("live" if one["user"] == "last" else "history")


def test_a_receiver_that_wants_no_more_pauses_it_until_it_is_resumed(platform, receiver):
    receiver.does(answer(410))
    people = [f"user-{number}" for number in range(20)]
    with client_of(platform) as client:
        for user in people[:10]:
            post(client, Workout("w-1", user, "yoga", "2025-06-01T07:00:00Z", 0))
        until(lambda: platform.consumer("webhooks")["state"] == "paused", what="it is paused")
        heard = len(receiver.got)
        receiver.does(answer(204))
        for user in people[10:]:
            post(client, Workout("w-1", user, "yoga", "2025-06-01T07:00:00Z", 0))
    until(lambda: len(unlocked(platform)) == len(people), what="all badges are in the log")
    paused = platform.consumer("webhooks")

    assert paused["state"] == "paused"
    assert paused["reason"].endswith(
        f"127.0.0.1:{receiver.port} answered 410 Gone: it wants no more webhooks. Set "
        "PACELINE_WEBHOOKS_URL to one that does and start again, then: paceline consumers resume "
        "webhooks"
    )
    assert (paused["applied"], paused["dead"]) == (0, 0)
    assert len(receiver.got) == heard

    platform.command("consumers", "resume", "webhooks")
    until(lambda: platform.consumer("webhooks")["applied"] == len(people), what="all are told")
    del receiver.got[:heard]
    assert told_badges(receiver) == {(user, "first-workout") for user in people}
    assert platform.consumer("webhooks")["state"] == "live"


def test_without_its_settings_it_is_unfit_and_says_what_to_do(tmp_path):
    running = Platform(tmp_path)
    try:
        until(lambda: running.consumers().get("webhooks", {}).get("reason"), what="it says why")
        told = running.consumer("webhooks")
        assert told["state"] == "unfit"
        assert "PACELINE_WEBHOOKS_URL is not set; write it like https://" in told["reason"]
    finally:
        running.close()
