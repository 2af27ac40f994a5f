"""TCX: Garmin's XML; one workout for each activity, out of its laps.

The laps are the truth: their times, distances and calories add up to the workout's, and their
heart rates and powers count by time. A TCX file has no ascent.
"""

from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

from producer.importing import sports
from producer.importing.errors import UnreadableRecording
from producer.importing.recorded import Session, known, moment, offset, positive


def sessions(path: Path, root: Element) -> list[Session]:
    """Read every activity of the file, in its order."""
    found = [_session(path, activity, root) for activity in root.iter("Activity")]
    if not found:
        raise UnreadableRecording(path, "is a TCX file without an activity (a course?)")
    return found


def _session(path: Path, activity: Element, root: Element) -> Session:
    laps = activity.findall("Lap")
    start = moment(laps[0].get("StartTime") or activity.findtext("Id")) if laps else None
    duration_s = _sum(laps, "TotalTimeSeconds")
    if start is None or duration_s is None:
        raise UnreadableRecording(path, "has an activity without a start time or a duration")
    sport, notes = sports.from_name(activity.get("Sport"))
    return Session(
        sport=sport,
        start=start,
        offset=offset(start),
        duration_s=duration_s,
        elapsed_s=_elapsed(laps, start),
        distance_m=_sum(laps, "DistanceMeters"),
        avg_heart_rate=_average(laps, "AverageHeartRateBpm/Value"),
        max_heart_rate=_greatest(laps, "MaximumHeartRateBpm/Value"),
        avg_power_w=_average(laps, "Extensions/LX/AvgWatts"),
        energy_kcal=positive(_sum(laps, "Calories")),
        recording=_recording(activity, root),
        notes=notes,
    )


def _sum(laps: list[Element], name: str) -> float | None:
    values = [known(lap.findtext(name)) for lap in laps]
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def _average(laps: list[Element], name: str) -> float | None:
    """Give the average over the time of those laps that have the value."""
    pairs = [
        (value, known(lap.findtext("TotalTimeSeconds")) or 0)
        for lap in laps
        if (value := positive(lap.findtext(name))) is not None
    ]
    seconds = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / seconds if seconds else None


def _greatest(laps: list[Element], name: str) -> float | None:
    values = [positive(lap.findtext(name)) for lap in laps]
    return max((value for value in values if value is not None), default=None)


def _elapsed(laps: list[Element], start: datetime) -> float | None:
    """Give the time from the start to the last trackpoint or the end of the last lap, in s."""
    ends = [
        _seconds(start, point.findtext("Time")) for lap in laps for point in lap.iter("Trackpoint")
    ]
    for lap in laps:
        begun, lasted = (
            _seconds(start, lap.get("StartTime")),
            known(lap.findtext("TotalTimeSeconds")),
        )
        if begun is not None and lasted is not None:
            ends.append(begun + lasted)
    return max((end for end in ends if end is not None), default=None)


def _seconds(start: datetime, text: str | None) -> float | None:
    time = moment(text)
    return (time - start).total_seconds() if time else None


def _recording(activity: Element, root: Element) -> dict[str, str]:
    texts = {
        "provider": root.findtext("Author/Name"),
        "device": activity.findtext("Creator/Name"),
        "external_id": activity.findtext("Id"),
    }
    return {key: text for key, text in texts.items() if text}
