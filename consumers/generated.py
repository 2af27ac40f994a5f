"""Events to try a consumer with, always the same: what is rare in a history, made to collide."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from itertools import count, cycle
from random import Random
from typing import Any

from events.envelope import Event, from_bytes, seal
from events.reactions import seal_reaction
from events.schemas import load_workout
from events.workouts import Sport, WorkoutCompleted

USERS = ("ada", "ben", "B.o_b-2", "0")
# Local starts at which something turns over: a day, an ISO week, a month, a year, a February, the
# clocks. The offset is the one that was on the wall.
EDGES = (
    ("2026-11-24T07:30:00+01:00", "Europe/Berlin"),
    ("2026-11-24T23:59:59.999+01:00", None),
    ("2026-11-25T00:00:00+01:00", None),
    ("2026-11-24T00:00:00+14:00", "Pacific/Kiritimati"),
    ("2026-11-24T23:30:00-12:00", None),
    ("2026-11-24T12:15:00+05:45", "Asia/Kathmandu"),
    ("2026-03-29T01:59:00+01:00", "Europe/Berlin"),
    ("2026-03-29T03:00:00+02:00", "Europe/Berlin"),
    ("2026-10-25T02:30:00+02:00", "Europe/Berlin"),
    ("2026-10-25T02:30:00+01:00", "Europe/Berlin"),
    ("2026-11-01T01:30:00-04:00", "America/New_York"),
    ("2026-11-01T01:30:00-05:00", "America/New_York"),
    ("2026-12-31T23:45:00+00:00", None),
    ("2027-01-01T00:00:00+00:00", None),
    ("2027-01-03T22:00:00Z", None),
    ("2027-01-04T06:00:00Z", None),
    ("2028-02-29T10:00:00-08:00", None),
    ("2028-03-01T10:00:00-08:00", None),
)
ATHLETES: tuple[dict[str, Any], ...] = (
    {},
    {"weight_kg": 61.5},
    {"weight_kg": 75, "birth_year": 1990, "sex": "male"},
)
ACCEPTED_AFTER_S = (5, 0, 86_400, 40 * 86_400, 1_100 * 86_400)
_FIRST_DAY = datetime(2024, 1, 1, 6, tzinfo=timezone(timedelta(hours=1)))
_YEARS_DAYS = 731


def event(accepted_at: datetime | None = None, **posted: Any) -> Event:
    """Return the event of a workout as a consumer gets it; fields are named as they are posted.

    What is not said is of a run of half an hour by ada. Raises InvalidWorkout, as the door would.
    """
    workout = {
        "workout_id": "w-1",
        "user_id": "ada",
        "sport": "running",
        "started_at": "2026-11-24T07:30:00+01:00",
        "duration_s": 1800,
    }
    at = accepted_at or datetime(2026, 11, 25, tzinfo=UTC)
    return from_bytes(seal(load_workout(workout | posted), accepted_at=at).body)


def badge(cause: Event, name: str = "first-workout", *, quiet: bool = False) -> Event:
    """Return the event of a badge that a workout brought; a quiet one notifies nobody."""
    told = {"type": "achievement.unlocked", "badge": name, "workout_id": cause.data.workout_id}
    told["day"] = cause.data.local_date.isoformat()
    sealed = seal_reaction(cause, told, consumer="achievements", key=name, quiet=quiet)
    return from_bytes(sealed.body)


@cache
def generated(seed: int = 1) -> tuple[Event, ...]:
    """Return some hundred events: every sport, the edges of time, ties, gaps, several people.

    Each id is there once; no two are of one workout. The same seed gives the same events.
    """
    random, numbers = Random(seed), count(1)  # noqa: S311  # that it can be foretold is the point
    edges = [
        _workout(random, next(numbers), user, started_at=start, **({"zone": zone} if zone else {}))
        for user in USERS[:2]
        for start, zone in EDGES
    ]
    sports = [_workout(random, next(numbers), "ada", sport=sport.value) for sport in Sport]
    tied = [
        event(workout_id=f"tie-{user}-{number}", user_id=user, distance_m=5000)
        for user in USERS
        for number in range(2)
    ]
    alone = [event(workout_id="bare", user_id=user) for user in USERS]
    crowd = [_workout(random, next(numbers), random.choice(USERS)) for _ in range(100)]
    posted = [*edges, *sports, *tied, *alone, *crowd]
    badges = [
        badge(cause, f"badge-{place}", quiet=place % 3 == 0) for place, cause in _some(posted)
    ]
    together = [*posted, *badges]
    random.shuffle(together)
    return tuple(together)


def _some(posted: Sequence[Event]) -> Iterator[tuple[int, Event]]:
    return enumerate(posted[::10])


def _workout(random: Random, number: int, user: str, **fixed: Any) -> Event:
    """Make a workout of which anything that may be missing is missing now and then."""

    def maybe(name: str, low: float, high: float) -> dict[str, float]:
        return {name: round(random.uniform(low, high), 3)} if random.random() < 0.6 else {}

    duration_s = random.choice((0.001 + 1, 1800, 3600, random.randint(60, 90_000)))
    day = datetime(2026, 11, 1) + timedelta(minutes=random.randrange(40 * 1440))  # noqa: DTZ001
    workout: dict[str, Any] = {
        "workout_id": f"w-{number}",
        "user_id": user,
        "sport": random.choice(("running", "running", "cycling", "swimming", "yoga")),
        "started_at": f"{day.isoformat()}{random.choice(('Z', '+01:00', '-08:00', '+13:00'))}",
        "duration_s": duration_s,
        **maybe("distance_m", 0, 60_000),
        **maybe("ascent_m", 0, 2_000),
        **maybe("avg_heart_rate", 60, 190),
        **maybe("max_heart_rate", 120, 220),
        **maybe("avg_power_w", 0, 400),
        **maybe("energy_kcal", 0, 3_000),
        **maybe("elapsed_s", duration_s, duration_s + 3_600),
        "athlete": random.choice(ATHLETES),
        "visibility": random.choice(("public", "public", "private")),
        "origin": random.choice(("live", "live", "history")),
    }
    made = event(**workout | fixed)
    after_s = random.choice(ACCEPTED_AFTER_S)
    return event(made.time.astimezone(UTC) + timedelta(seconds=after_s), **workout | fixed)


@cache
def two_years(sports: tuple[str, ...], a_day: int) -> tuple[Event, ...]:
    """Return so many workouts of one person on each day of two years, the oldest first."""
    kinds = cycle(sports)
    return tuple(
        _plain(day, number, next(kinds)) for day in range(_YEARS_DAYS) for number in range(a_day)
    )


def _plain(day: int, number: int, sport: str) -> Event:
    started_at = _FIRST_DAY + timedelta(days=day, hours=4 * number)
    fact = WorkoutCompleted(
        workout_id=f"d-{day}-{number}",
        user_id="ada",
        sport=Sport(sport),
        started_at=started_at,
        duration_ms=1_800_000 + 1000 * ((day * 7 + number) % 900),
        distance_mm=5_000_000 + 1000 * ((day * 13 + number) % 5_000),
    )
    return from_bytes(seal(fact, accepted_at=fact.ended_at).body)


@cache
def crowd(sport: str, people: int) -> tuple[Event, ...]:
    """Return one workout of each of so many people, all on one day."""
    return tuple(event(user_id=f"person-{number}", sport=sport) for number in range(people))
