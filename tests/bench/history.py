"""Workouts of 2,000 people in the order in which they were done: once a day each, on average."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from random import Random

from events.envelope import Sealed, seal
from events.workouts import Athlete, Sex, Source, Sport, WorkoutCompleted

USERS = 2_000
_FIRST = datetime(2025, 1, 1, 6, tzinfo=UTC)
_BETWEEN = timedelta(days=1) / USERS
_OFFSETS = tuple(timezone(timedelta(hours=hours)) for hours in (-8, 0, 1, 9))
# m/s, as far as there is a distance
_SPEEDS = {Sport.RUNNING: 2.8, Sport.CYCLING: 7.0, Sport.WALKING: 1.4, Sport.YOGA: None}


def history(*, seed: int) -> Iterator[Sealed]:
    """Yield events without end, each sealed when it is asked for; the same for the same seed."""
    random = Random(seed)
    number = 0
    while True:
        fact = _workout(random, number)
        yield seal(fact, accepted_at=fact.ended_at + timedelta(seconds=5))
        number += 1


def _workout(random: Random, number: int) -> WorkoutCompleted:
    user = random.randrange(USERS)
    sport = random.choice(list(_SPEEDS))
    speed = _SPEEDS[sport]
    duration_ms = random.randrange(600_000, 5_400_000)
    return WorkoutCompleted(
        workout_id=f"w{number}",
        user_id=f"user-{user}",
        sport=sport,
        started_at=(_FIRST + number * _BETWEEN).astimezone(_OFFSETS[user % len(_OFFSETS)]),
        duration_ms=duration_ms,
        distance_mm=None if speed is None else int(speed * duration_ms),
        avg_heart_rate_mbpm=random.choice((None, 135_000, 150_000)),
        energy_cal=random.choice((None, None, 412_000)),
        athlete=Athlete(60_000 + user * 10, 1970 + user % 35, (Sex.FEMALE, Sex.MALE)[user % 2]),
        source=Source.DEVICE,
    )
