"""Workouts and events to test with: one by hand, random ones by seed, and Hypothesis strategies.

- `event(sport=Sport.RUNNING, distance_mm=5_000_000)`: one event, as a consumer sees it
- `random_history(seed=1, count=500)`: many of them, fast, the same for the same seed
- `histories(max_size=20)`: a strategy of lists of events that collide
- `years_of(user_id="ada", years=10)`: three workouts a day
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

from hypothesis import strategies as st

from events.envelope import Event, from_bytes, seal
from events.workouts import Athlete, Origin, Sex, Source, Sport, Visibility, WorkoutCompleted

USERS = ("ada", "bob", "B.o_b-2", "0")
SPORTS = (Sport.RUNNING, Sport.CYCLING, Sport.WALKING, Sport.SWIMMING, Sport.YOGA, Sport.OTHER)
OFFSETS = (0, 60, -480, 345, -210, 840, -720)  # minutes, from one edge of the world to the other
ACCEPTED_AFTER = (0, 5, 86_400, 9 * 86_400, 40 * 86_400, 1_100 * 86_400)  # s after the end
# From it on, 75 days hold a year boundary, ISO week 1, three ends of months and all of a February.
FIRST_DAY = datetime(2024, 12, 20)  # noqa: DTZ001 - a local day; its offset is drawn


def workout(**changes: Any) -> WorkoutCompleted:
    """A plain run of 5 km in 30 min, in the morning of 2026-11-24 at UTC+1, with these changes."""
    plain = WorkoutCompleted(
        workout_id="w-1",
        user_id="ada",
        sport=Sport.RUNNING,
        started_at=datetime(2026, 11, 24, 7, 30, tzinfo=timezone(timedelta(hours=1))),
        duration_ms=1_800_000,
        distance_mm=5_000_000,
    )
    return replace(plain, **changes)


def as_event(fact: WorkoutCompleted, *, accepted_at: datetime | None = None) -> Event:
    """The fact as a consumer sees it: through the bytes of the wire; accepted 5 s after its end."""
    return from_bytes(
        seal(fact, accepted_at=accepted_at or fact.ended_at + timedelta(seconds=5)).body
    )


def event(*, accepted_at: datetime | None = None, **changes: Any) -> Event:
    """The event of `workout(**changes)`."""
    return as_event(workout(**changes), accepted_at=accepted_at)


def random_history(
    *, seed: int, count: int, users: tuple[str, ...] = USERS, days: int = 75
) -> list[Event]:
    """Events of several users in some weeks, in random order; the same for the same seed."""
    random = Random(seed)
    history = []
    for number in range(count):
        fact = _random_workout(random, f"w{number}", random.choice(users), days)
        accepted_at = fact.ended_at + timedelta(seconds=random.choice(ACCEPTED_AFTER))
        history.append(as_event(fact, accepted_at=accepted_at))
    return history


def _random_workout(random: Random, workout_id: str, user_id: str, days: int) -> WorkoutCompleted:
    def maybe(low: int, high: int) -> int | None:
        return random.randint(low, high) if random.random() < 0.6 else None

    duration_ms = random.randint(60_000, 10_000_000)
    local = FIRST_DAY + timedelta(milliseconds=random.randrange(days * 86_400_000))
    return WorkoutCompleted(
        workout_id=workout_id,
        user_id=user_id,
        sport=random.choice(SPORTS),
        started_at=local.replace(tzinfo=_offset(random.choice(OFFSETS))),
        duration_ms=duration_ms,
        elapsed_ms=duration_ms + random.randint(0, 900_000) if random.random() < 0.5 else None,
        distance_mm=maybe(100_000, 45_000_000),
        ascent_mm=maybe(0, 900_000),
        avg_heart_rate_mbpm=maybe(80_000, 180_000),
        avg_power_mw=maybe(0, 300_000) if random.random() < 0.3 else None,
        energy_cal=maybe(10_000, 1_500_000),
        athlete=Athlete(
            maybe(45_000, 130_000), maybe(1950, 2010), random.choice([None, Sex.FEMALE, Sex.MALE])
        ),
        visibility=random.choice(list(Visibility)),
        origin=random.choice(list(Origin)),
    )


def years_of(
    *, user_id: str = "ada", years: int = 10, a_day: int = 3, seed: int = 1
) -> Iterator[Event]:
    """`a_day` workouts on each of 365 days for `years` years from 2016 on, oldest first."""
    random = Random(seed)
    for day in range(365 * years):
        morning = datetime(2016, 1, 1, 6, tzinfo=_offset(60)) + timedelta(days=day)
        for number in range(a_day):
            fact = _random_workout(random, f"d{day}-{number}", user_id, 1)
            yield as_event(replace(fact, started_at=morning + timedelta(hours=4 * number)))


def _offset(minutes: int) -> timezone:
    return timezone(timedelta(minutes=minutes))


def starts(*, days: int = 75) -> st.SearchStrategy[datetime]:
    """Starts in a few weeks from FIRST_DAY, at offsets all around the world."""
    return st.builds(
        lambda day, ms, minutes: (FIRST_DAY + timedelta(days=day, milliseconds=ms)).replace(
            tzinfo=_offset(minutes)
        ),
        st.integers(0, days - 1),
        st.sampled_from((0, 1, 43_200_000, 86_399_999)) | st.integers(0, 86_399_999),
        st.sampled_from(OFFSETS),
    )


def workouts(**fixed: Any) -> st.SearchStrategy[WorkoutCompleted]:
    """Workouts with few distinct values, so that totals, days and records collide.

    `fixed` replaces fields, by values or by strategies. `elapsed_ms` is drawn as what is above
    `duration_ms`, so that it never is below it.
    """

    def known(*values: int) -> st.SearchStrategy[int | None]:
        return st.none() | st.sampled_from(values) | st.integers(min(values), max(values))

    fields: dict[str, Any] = {
        "workout_id": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,5}\Z"),
        "user_id": st.sampled_from(USERS),
        "sport": st.sampled_from(SPORTS) | st.sampled_from(Sport),
        "started_at": starts(),
        "duration_ms": st.sampled_from((1, 600_000, 1_800_000)) | st.integers(1, 604_800_000),
        "elapsed_ms": known(0, 1, 60_000),
        "distance_mm": known(0, 1_000_000, 5_000_000, 42_195_000, 100_000_000),
        "ascent_mm": known(0, 100_000, 2_000_000),
        "avg_heart_rate_mbpm": known(30_000, 120_500, 150_000, 220_000),
        "max_heart_rate_mbpm": known(150_000, 220_000),
        "avg_power_mw": known(0, 201_000, 2_500_000),
        "energy_cal": known(0, 300_000, 516_000),
        "athlete": st.none()
        | st.builds(
            Athlete,
            weight_g=known(20_000, 70_000, 200_000),
            birth_year=known(1930, 1990, 2015),
            sex=st.none() | st.sampled_from(Sex),
        ),
        "source": st.none() | st.sampled_from(Source),
        "visibility": st.sampled_from(Visibility),
        "origin": st.sampled_from(Origin),
    }
    for name, value in fixed.items():
        fields[name] = value if isinstance(value, st.SearchStrategy) else st.just(value)
    return st.builds(WorkoutCompleted, **fields).map(_end_after_moving)


def _end_after_moving(fact: WorkoutCompleted) -> WorkoutCompleted:
    if fact.elapsed_ms is None:
        return fact
    return replace(fact, elapsed_ms=fact.duration_ms + fact.elapsed_ms)


def events(**fixed: Any) -> st.SearchStrategy[Event]:
    """Events of `workouts(**fixed)`, accepted at once, days or years later."""
    return st.builds(
        lambda fact, after: as_event(fact, accepted_at=fact.ended_at + timedelta(seconds=after)),
        workouts(**fixed),
        st.sampled_from(ACCEPTED_AFTER),
    )


def histories(*, max_size: int = 12, **fixed: Any) -> st.SearchStrategy[list[Event]]:
    """Lists of events with an id each, in the order in which they were accepted, which is any."""
    return st.lists(events(**fixed), max_size=max_size, unique_by=lambda event: event.id)
