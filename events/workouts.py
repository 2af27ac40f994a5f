"""The facts: what a person did, frozen, in whole numbers of small units.

Adding floats depends on the order of adding; whole numbers do not. So every quantity is held in
thousandths of the unit that people post: ms, mm, cal, mW, g and thousandths of a beat a minute.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum


class Sport(StrEnum):
    """What was done; the names follow the FIT profile where it has one."""

    RUNNING = "running"
    CYCLING = "cycling"
    SWIMMING = "swimming"
    WALKING = "walking"
    HIKING = "hiking"
    ROWING = "rowing"
    STRENGTH_TRAINING = "strength_training"
    YOGA = "yoga"
    PILATES = "pilates"
    HIIT = "hiit"
    CARDIO_TRAINING = "cardio_training"
    ELLIPTICAL = "elliptical"
    STAIR_CLIMBING = "stair_climbing"
    FLEXIBILITY_TRAINING = "flexibility_training"
    FITNESS_EQUIPMENT = "fitness_equipment"
    TRAINING = "training"
    CROSS_COUNTRY_SKIING = "cross_country_skiing"
    ALPINE_SKIING = "alpine_skiing"
    SNOWBOARDING = "snowboarding"
    SNOWSHOEING = "snowshoeing"
    ICE_SKATING = "ice_skating"
    INLINE_SKATING = "inline_skating"
    MOUNTAINEERING = "mountaineering"
    ROCK_CLIMBING = "rock_climbing"
    PADDLING = "paddling"
    KAYAKING = "kayaking"
    STAND_UP_PADDLEBOARDING = "stand_up_paddleboarding"
    SURFING = "surfing"
    SAILING = "sailing"
    E_BIKING = "e_biking"
    HORSEBACK_RIDING = "horseback_riding"
    GOLF = "golf"
    SOCCER = "soccer"
    BASKETBALL = "basketball"
    TENNIS = "tennis"
    RACKET = "racket"
    BOXING = "boxing"
    DANCE = "dance"
    DIVING = "diving"
    WHEELCHAIR_PUSH_WALK = "wheelchair_push_walk"
    WHEELCHAIR_PUSH_RUN = "wheelchair_push_run"
    TRANSITION = "transition"
    MULTISPORT = "multisport"
    OTHER = "other"


class Sex(StrEnum):
    """The sex that the heart-rate formula was fitted for."""

    FEMALE = "female"
    MALE = "male"


class Source(StrEnum):
    """Who measured the workout."""

    DEVICE = "device"
    APP = "app"
    MANUAL = "manual"


class Visibility(StrEnum):
    """Who sees the workout: a private one is not on boards."""

    PUBLIC = "public"
    PRIVATE = "private"


class Origin(StrEnum):
    """Whether it was posted when it happened or imported later: history notifies nobody."""

    LIVE = "live"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Athlete:
    """What was known of the person at the time; weight in g."""

    weight_g: int | None = None
    birth_year: int | None = None
    sex: Sex | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """Where the recording came from; two devices may record one session."""

    provider: str | None = None
    device: str | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkoutCompleted:
    """A finished workout, version 1.

    `duration_ms` is moving time, `elapsed_ms` from start to end; `distance_mm` and `ascent_mm` are
    millimetres; heart rates are thousandths of a beat a minute; `avg_power_mw` is milliwatts;
    `energy_cal` is what the device said, in calories (1 kcal = 1000 cal).
    """

    workout_id: str
    user_id: str
    sport: Sport
    started_at: datetime
    zone: str | None = None
    duration_ms: int
    elapsed_ms: int | None = None
    distance_mm: int | None = None
    ascent_mm: int | None = None
    avg_heart_rate_mbpm: int | None = None
    max_heart_rate_mbpm: int | None = None
    avg_power_mw: int | None = None
    energy_cal: int | None = None
    athlete: Athlete | None = None
    source: Source | None = None
    recording: Recording | None = None
    visibility: Visibility = Visibility.PUBLIC
    origin: Origin = Origin.LIVE

    def __post_init__(self) -> None:
        if self.started_at.tzinfo is None:
            raise ValueError(f"started_at is {self.started_at}, without an offset")

    @property
    def local_date(self) -> date:
        """The civil date of the start at the offset that was written with it."""
        return self.started_at.date()

    @property
    def ended_at(self) -> datetime:
        """The instant of the end: start plus elapsed time, or plus moving time."""
        return self.started_at + timedelta(milliseconds=self.elapsed_ms or self.duration_ms)
