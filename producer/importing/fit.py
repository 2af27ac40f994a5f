"""FIT: the binary format of sports watches; one workout for each session of an activity.

A file is taken whole or not at all: a session record that was read before the broken place, or
under a checksum that does not match, proves nothing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fitdecode

from producer.importing import sports
from producer.importing.errors import UnreadableRecording
from producer.importing.recorded import Session, known, positive

Message = dict[str, Any]
Messages = dict[str, list[Message]]

_WANTED = ("file_id", "user_profile", "session", "activity")
_EPOCH = datetime(1989, 12, 31, tzinfo=UTC)
# Below this, a FIT time counts the seconds since the device was switched on (FIT SDK, date_time).
_FIRST_TIME = 0x10000000


def sessions(path: Path, content: bytes) -> list[Session]:
    """Read every session of the file, in its order; a chain of FIT files is read through."""
    files = [file for file in _files(path, content) if file["file_id"] or file["session"]]
    activities = [file for file in files if _kind(file) == "activity"]
    if not activities:
        kinds = ", ".join(sorted({_kind(file) for file in files})) or "empty"
        raise UnreadableRecording(path, f"is a FIT file but no activity (its type: {kinds})")
    found = [_session(path, file, said) for file in activities for said in file["session"]]
    if not found:
        raise UnreadableRecording(path, "has no session: the recording was never finished")
    return found


def _files(path: Path, content: bytes) -> list[Messages]:
    files: list[Messages] = []
    try:
        for frame in _frames(content):
            if frame.frame_type == fitdecode.FIT_FRAME_HEADER:
                files.append({name: [] for name in _WANTED})
            elif frame.frame_type == fitdecode.FIT_FRAME_DATA and frame.name in _WANTED:
                files[-1][frame.name].append(_message(frame))
    except fitdecode.FitCRCError as error:
        reason = "its checksum does not match: it was changed or cut after it was written"
        raise UnreadableRecording(path, reason) from error
    except fitdecode.FitEOFError as error:
        raise UnreadableRecording(path, f"ends too early ({error})") from error
    except Exception as error:
        # Hostile bytes also meet the decoder's asserts, struct and key errors; all mean the same.
        reason = f"is a damaged FIT file ({type(error).__name__}: {error})"
        raise UnreadableRecording(path, reason) from error
    return files


def _frames(content: bytes) -> Iterator[Any]:
    # No processor: it would turn `local_timestamp` into a time that claims to be UTC.
    with fitdecode.FitReader(
        content,
        processor=None,
        check_crc=fitdecode.CrcCheck.RAISE,
        error_handling=fitdecode.ErrorHandling.RAISE,
    ) as reader:
        yield from reader


def _message(frame: Any) -> Message:
    return {field.name: field.value for field in frame.fields if _is_standard(field)}


def _is_standard(field: Any) -> bool:
    # A developer's own field may bear a standard name and mean it in another unit.
    return field.value is not None and not (field.field_def and field.field_def.is_dev)


def _kind(file: Messages) -> str:
    return str(_first(file, "file_id").get("type", "not said"))


def _session(path: Path, file: Messages, said: Message) -> Session:
    start = _time(said.get("start_time"))
    moving = known(said.get("total_timer_time"))
    elapsed = known(said.get("total_elapsed_time"))
    duration = elapsed if moving is None else moving
    if start is None or duration is None:
        raise UnreadableRecording(path, "has a session without a start time or a duration")
    sport, notes = sports.from_fit(said.get("sport"), said.get("sub_sport"))
    profile = _first(file, "user_profile")
    return Session(
        sport=sport,
        start=start,
        offset=_offset(_first(file, "activity")),
        duration_s=duration,
        elapsed_s=elapsed,
        distance_m=known(said.get("total_distance")),
        ascent_m=known(said.get("total_ascent")),
        avg_heart_rate=positive(said.get("avg_heart_rate")),
        max_heart_rate=positive(said.get("max_heart_rate")),
        avg_power_w=positive(said.get("avg_power")),
        energy_kcal=positive(said.get("total_calories")),
        weight_kg=positive(profile.get("weight")),
        sex=profile["gender"] if profile.get("gender") in ("female", "male") else None,
        recording=_recording(_first(file, "file_id")),
        notes=notes,
    )


def _first(file: Messages, name: str) -> Message:
    return file[name][0] if file[name] else {}


def _time(seconds: object) -> datetime | None:
    if not isinstance(seconds, int) or seconds < _FIRST_TIME:
        return None
    return _EPOCH + timedelta(seconds=seconds)


def _offset(activity: Message) -> timedelta | None:
    """Give how far local time was from UTC, to the quarter of an hour; -12 to +14 h are real."""
    here, utc = _time(activity.get("local_timestamp")), _time(activity.get("timestamp"))
    if here is None or utc is None:
        return None
    quarter = timedelta(minutes=15)
    rounded = round((here - utc) / quarter) * quarter
    return rounded if timedelta(hours=-12) <= rounded <= timedelta(hours=14) else None


def _recording(file_id: Message) -> dict[str, str]:
    """Give where it came from; serial number and time of creation make a FIT file unique."""
    product = file_id.get("product_name", file_id.get("garmin_product", file_id.get("product")))
    made = _time(file_id.get("time_created"))
    recording = {"provider": file_id.get("manufacturer"), "device": product}
    if "serial_number" in file_id and made:
        recording["external_id"] = f"{file_id['serial_number']}-{made:%Y%m%dT%H%M%SZ}"
    return {key: str(value) for key, value in recording.items() if value is not None}
