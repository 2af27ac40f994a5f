"""A crowd and its workouts, as an app posts them: random by seed, from winter 2024 to spring 2025.

Efforts are drawn well inside what a formula was made for, or well outside: where exactly brisk
walking begins is no matter for an acceptance test.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

Workout = dict[str, Any]

FIRST_DAY = datetime(2024, 12, 15)  # noqa: DTZ001  # a local day; its offset is drawn
DAYS = 75  # a turn of the year, ISO week 1, three turns of months, all of February
OFFSETS = ("Z", "+01:00", "-08:00", "+05:45", "-03:30", "+14:00", "-12:00")
SPORTS = ("running", "cycling", "walking", "swimming", "strength_training", "yoga", "hiit", "other")
# m/min, in several ranges of effort for each sport.
SPEEDS = {
    "running": ((116, 128), (140, 320)),
    "cycling": ((250, 700),),
    "walking": ((20, 45), (60, 95), (105, 130)),
    "swimming": ((25, 45), (65, 90)),
    "other": ((30, 200),),
}

HEART_RATES = (85, 90.5, 125, 140.125, 160, 195)


def crowd(*, seed: int, count: int, users: int) -> list[Workout]:
    """Workouts of so many users; some of them are at it every day, others hardly ever."""
    random = Random(seed)
    names = [f"user-{number:03}" for number in range(users)]
    weights = [1 / (1 + number / 4) for number in range(users)]
    chosen = random.choices(names, weights, k=count)
    return [_workout(random, f"w-{number}", user) for number, user in enumerate(chosen)]


def _workout(random: Random, workout_id: str, user: str) -> Workout:
    sport, duration_s = random.choice(SPORTS), _thousandths(random, 600, 9_000)
    start = FIRST_DAY + timedelta(milliseconds=random.randrange(DAYS * 86_400_000))
    workout: Workout = {
        "workout_id": workout_id,
        "user_id": user,
        "sport": sport,
        "started_at": start.isoformat(timespec="milliseconds") + random.choice(OFFSETS),
        "duration_s": duration_s,
    }
    if random.random() < 0.5:
        workout["elapsed_s"] = round(duration_s + random.choice((0, 60, 0.25, 1_800)), 3)
    if sport in SPEEDS and random.random() < 0.85:
        workout["distance_m"] = _distance(random, sport, duration_s)
        if random.random() < 0.3:
            workout["ascent_m"] = _thousandths(random, 0, 800)
    workout |= _measured(random, sport)
    if random.random() < 0.15:
        workout["visibility"] = "private"
    if random.random() < 0.1:
        workout["origin"] = "history"
    return workout


def _distance(random: Random, sport: str, duration_s: float) -> float:
    low, high = random.choice(SPEEDS[sport])
    metres = round(random.uniform(low, high) * duration_s / 60, 3)
    # Round figures tie on boards; the few metres that are lost change no effort.
    return float(round(metres, -2)) if random.random() < 0.2 and metres > 20_000 else metres


def _measured(random: Random, sport: str) -> Workout:
    measured: Workout = {}
    if random.random() < 0.4:
        rates = (85, 90.5, 160, 195) if sport == "strength_training" else HEART_RATES
        measured["avg_heart_rate"] = random.choice(rates)
    if sport == "cycling" and random.random() < 0.4:
        measured["avg_power_w"] = _thousandths(random, 80, 320)
    if random.random() < 0.3:
        measured["energy_kcal"] = _thousandths(random, 50, 1_200)
    if random.random() < 0.7:
        athlete = {
            "weight_kg": _thousandths(random, 40, 130),
            "birth_year": random.randint(1955, 2008),
            "sex": random.choice(("male", "female")),
        }
        measured["athlete"] = {
            name: value for name, value in athlete.items() if random.random() < 0.8
        }
    return measured


def _thousandths(random: Random, low: int, high: int) -> float:
    return random.randint(low * 1000, high * 1000) / 1000


def posted(workout: Workout, *, shuffled: Random | None = None) -> bytes:
    """The body of a post; `shuffled` writes the same fact in another order of keys."""
    names = list(workout)
    if shuffled is not None:
        shuffled.shuffle(names)
    return json.dumps({name: workout[name] for name in names}).encode()


def posted_together(workouts: Sequence[Workout]) -> bytes:
    """The body of a batch."""
    return json.dumps({"items": list(workouts)}).encode()
