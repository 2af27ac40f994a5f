"""What a file says of a workout, and the body that is posted for it.

A reader says what its file says, a `Session`; here the options of the import are added to it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from events.workouts import Origin, Source, Sport
from producer.importing.errors import UnknownZone

LONGEST_LABEL = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the person says about the files; `weight_kg` and `sex` overrule what a file says."""

    user: str | None = None
    zone: str | None = None
    weight_kg: float | None = None
    sex: str | None = None
    birth_year: int | None = None
    live: bool = False

    def __post_init__(self) -> None:
        # Before any file is read.
        if self.zone is None:
            return
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UnknownZone(self.zone) from error

    @property
    def origin(self) -> Origin:
        """An import is history, and notifies nobody, unless it is said to be live."""
        return Origin.LIVE if self.live else Origin.HISTORY

    def athlete(
        self, *, weight_kg: float | None = None, sex: str | None = None
    ) -> dict[str, float | int | str]:
        """Give what is known of the person; the arguments are the file's word."""
        return _present(
            weight_kg=_rounded(self.weight_kg or weight_kg),
            birth_year=self.birth_year,
            sex=self.sex or sex,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One workout as its file tells it: s, m, beats a minute, W, kcal, kg.

    `start` is in UTC; `offset` is the local time's, where the file knows it. `duration_s` is
    moving time.
    """

    sport: Sport
    start: datetime
    duration_s: float
    offset: timedelta | None = None
    elapsed_s: float | None = None
    distance_m: float | None = None
    ascent_m: float | None = None
    avg_heart_rate: float | None = None
    max_heart_rate: float | None = None
    avg_power_w: float | None = None
    energy_kcal: float | None = None
    weight_kg: float | None = None
    sex: str | None = None
    recording: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The body of `POST /v1/workouts`, and what the person should know of how it came about."""

    workout: dict[str, Any]
    notes: list[str]


def recorded(session: Session, *, workout_id: str, options: ImportOptions) -> Recorded:
    """Make the body of a session; only what is known is in it."""
    started_at, notes = _local(session.start, session.offset, zone=options.zone)
    elapsed_s = session.elapsed_s
    if elapsed_s is not None and elapsed_s < session.duration_s:
        # Clocks that are rounded apart; the end is then the start and the moving time.
        elapsed_s = None
    workout = _present(
        workout_id=workout_id,
        user_id=options.user,
        sport=session.sport.value,
        started_at=_rfc3339(started_at),
        zone=options.zone,
        duration_s=_rounded(session.duration_s),
        elapsed_s=_rounded(elapsed_s),
        distance_m=_rounded(session.distance_m),
        ascent_m=_rounded(session.ascent_m),
        avg_heart_rate=_rounded(session.avg_heart_rate),
        max_heart_rate=_rounded(session.max_heart_rate),
        avg_power_w=_rounded(session.avg_power_w),
        energy_kcal=_rounded(session.energy_kcal),
        athlete=options.athlete(weight_kg=session.weight_kg, sex=session.sex),
        source=Source.DEVICE.value,
        recording=_present(**{key: label(text) for key, text in session.recording.items()}),
        origin=options.origin.value,
    )
    return Recorded(workout, [*session.notes, *notes])


def known(value: object) -> float | None:
    """Give a file's number; what is no finite number is not known."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def positive(value: object) -> float | None:
    """Give a number above zero; for a heart rate or an energy, devices write 0 for "not known"."""
    number = known(value)
    return number if number is not None and number > 0 else None


def moment(text: str | None) -> datetime | None:
    """Give an XML time; TCX and GPX define one without a zone as UTC."""
    try:
        read = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    if not MINYEAR < read.year < MAXYEAR:
        return None  # so that any zone can show it; the door says which years are real
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def offset(time: datetime) -> timedelta | None:
    """Give the offset that a time was written with; `Z` says nothing of where it was."""
    return time.utcoffset() or None


def label(text: str) -> str | None:
    """Give a name as a line of printable text."""
    printable = "".join(letter for letter in text if letter.isprintable())
    return printable.strip()[:LONGEST_LABEL].strip() or None


def _local(
    start: datetime, offset: timedelta | None, *, zone: str | None
) -> tuple[datetime, list[str]]:
    if zone is None:
        if offset is None:
            return start.astimezone(UTC), ["no zone in the file: UTC is a guess; say --zone"]
        return start.astimezone(timezone(offset)), []
    local = start.astimezone(ZoneInfo(zone))
    if offset is None or offset == local.utcoffset():
        return local, []
    written = start.astimezone(timezone(offset))
    return local, [
        f"the file says UTC{written:%z} and {zone} was at UTC{local:%z}: the zone is taken"
    ]


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds" if time.microsecond else "seconds")


def _rounded(value: float | None) -> float | None:
    return value if value is None else round(value, 3)


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {})}
