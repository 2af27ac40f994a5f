"""The door: marshmallow schemas, strict, one per type and version of a fact, for posted JSON."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from marshmallow import ValidationError

from events.errors import PacelineError
from events.schema_fields import (
    Id,
    Line,
    Moment,
    OneOf,
    Part,
    StrictSchema,
    Thousandths,
    Whole,
    shown,
)
from events.workouts import (
    Athlete,
    Origin,
    Recording,
    Sex,
    Source,
    Sport,
    Visibility,
    WorkoutCompleted,
)


class Fault(NamedTuple):
    """One thing that is wrong with a posted document."""

    pointer: str
    code: str
    detail: str


class InvalidWorkout(PacelineError):
    """The workout is not valid; `faults` name each field."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


class AthleteV1(StrictSchema):
    """What was known of the person."""

    weight_g = Thousandths(20, 500, data_key="weight_kg")
    birth_year = Whole(1900, 2100)
    sex = OneOf(Sex)


class RecordingV1(StrictSchema):
    """Where the recording came from."""

    provider = Line(128)
    device = Line(128)
    external_id = Line(128)


class WorkoutCompletedV1(StrictSchema):
    """A finished workout as it is posted: seconds, metres, kcal, kg."""

    workout_id = Id(required=True)
    user_id = Id(required=True)
    sport = OneOf(Sport, required=True)
    started_at = Moment(required=True)
    zone = Line(64)
    duration_ms = Thousandths(1, 604_800, data_key="duration_s", required=True)
    elapsed_ms = Thousandths(1, 2_592_000, data_key="elapsed_s")
    distance_mm = Thousandths(0, 5_000_000, data_key="distance_m")
    ascent_mm = Thousandths(0, 100_000, data_key="ascent_m")
    avg_heart_rate_mbpm = Thousandths(20, 300, data_key="avg_heart_rate")
    max_heart_rate_mbpm = Thousandths(20, 300, data_key="max_heart_rate")
    avg_power_mw = Thousandths(0, 5_000, data_key="avg_power_w")
    energy_cal = Thousandths(0, 100_000, data_key="energy_kcal")
    athlete = Part(AthleteV1)
    source = OneOf(Source)
    recording = Part(RecordingV1)
    visibility = OneOf(Visibility, load_default=Visibility.PUBLIC)
    origin = OneOf(Origin, load_default=Origin.LIVE)


class AchievementUnlockedV1(StrictSchema):
    """A badge as a consumer tells it."""

    badge = Id(required=True)
    workout_id = Id(required=True)
    day = Line(10, required=True)


_schema = WorkoutCompletedV1()
_REACTIONS = {"achievement.unlocked": AchievementUnlockedV1()}


def load_reaction(told: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return type and fields of what a consumer tells; raises ValueError that names every fault."""
    kind = told.get("type")
    if not isinstance(kind, str) or kind not in _REACTIONS:
        known = ", ".join(_REACTIONS)
        raise ValueError(f"type is {shown(kind)}; facts that may be told are: {known}")
    fields = {str(name): value for name, value in told.items() if name != "type"}
    try:
        return kind, _REACTIONS[kind].load(fields)
    except ValidationError as error:
        faults = _faults(error.messages, "")
        raise ValueError(" ".join(fault.detail for fault in faults)) from error


def load_workout(posted: object) -> WorkoutCompleted:
    """Return the fact of a posted document; raises InvalidWorkout that names every fault."""
    try:
        known = _schema.load(posted)
    except ValidationError as error:
        raise InvalidWorkout(list(_faults(error.messages, ""))) from error
    if "athlete" in known:
        known["athlete"] = Athlete(**known["athlete"])
    if "recording" in known:
        known["recording"] = Recording(**known["recording"])
    fact = WorkoutCompleted(**known)
    if faults := list(_disagreements(fact)):
        raise InvalidWorkout(faults)
    return fact


def _faults(messages: Any, pointer: str) -> Iterator[Fault]:
    if isinstance(messages, dict):
        for name, below in messages.items():
            escaped = name.replace("~", "~0").replace("/", "~1")
            safe = escaped.encode("ascii", "backslashreplace").decode()[:80]
            yield from _faults(below, f"{pointer}/{safe}")
        return
    for code, detail in messages:
        yield Fault(pointer, code, detail)


def _disagreements(fact: WorkoutCompleted) -> Iterator[Fault]:
    if fact.elapsed_ms is not None and fact.elapsed_ms < fact.duration_ms:
        detail = "elapsed_s is shorter than duration_s; it is the time from start to end."
        yield Fault("/elapsed_s", "inconsistent", detail)
    if fact.zone is not None:
        yield from _zone_faults(fact.zone, fact.started_at)


def _zone_faults(zone: str, started_at: datetime) -> Iterator[Fault]:
    try:
        there = started_at.astimezone(ZoneInfo(zone)).utcoffset()
    except (ValueError, OSError, KeyError):
        detail = f"zone is {shown(zone)}; it must be an IANA zone such as Europe/Berlin."
        yield Fault("/zone", "unknown-zone", detail)
        return
    if there != started_at.utcoffset():
        detail = f"zone {zone} has offset {there} then, and started_at says {started_at:%z}."
        yield Fault("/zone", "inconsistent", detail)
