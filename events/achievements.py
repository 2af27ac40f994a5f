"""Facts that consumers find to hold: a badge is one."""

from dataclasses import dataclass

from events.workouts import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class AchievementUnlocked:
    """A badge that a person has reached, version 1; there is one for each person and badge.

    `workout_id` and `day` are of the workout with which it was seen first: in another order of
    arrival it may have been another one. With an `origin` of history it notifies nobody.
    """

    user_id: str
    badge: str
    workout_id: str
    day: str
    origin: Origin = Origin.LIVE
