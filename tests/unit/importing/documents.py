"""GPX and TCX documents for tests, as small as they can be."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

START = datetime(2024, 6, 1, 6, 30, tzinfo=UTC)
METRES_A_DEGREE = math.pi * 6378.137e3 / 180  # on the equator

_TCX = "http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"
_GPX = ' xmlns="http://www.topografix.com/GPX/1/1"'


def point(
    seconds: float | None,
    metres: float = 0,
    *,
    elevation: float | None = None,
    rate: int | None = None,
) -> str:
    """A point on the equator, so many metres east and seconds after the start."""
    return trackpoint("0", f"{metres / METRES_A_DEGREE:.10f}", seconds, elevation, rate)


def trackpoint(
    latitude: str,
    longitude: str,
    seconds: float | None,
    elevation: float | None = None,
    rate: int | None = None,
) -> str:
    time = START + timedelta(seconds=seconds or 0)
    inner = "" if elevation is None else f"<ele>{elevation}</ele>"
    inner += "" if seconds is None else f"<time>{time:%Y-%m-%dT%H:%M:%SZ}</time>"
    if rate is not None:
        inner += f'<extensions><x:T xmlns:x="x"><x:hr>{rate}</x:hr></x:T></extensions>'
    return f'<trkpt lat="{latitude}" lon="{longitude}">{inner}</trkpt>'


def track(*segments: Sequence[str], sport: str | None = "running") -> str:
    named = "" if sport is None else f"<type>{sport}</type>"
    inner = "".join(f"<trkseg>{''.join(segment)}</trkseg>" for segment in segments)
    return f"<trk>{named}{inner}</trk>"


def gpx(*tracks: str, namespace: str = _GPX, encoding: str = "utf-8") -> str:
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>'
    opening = f'<gpx{namespace} version="1.1" creator="Garmin Connect">'
    return f"{declaration}{opening}{''.join(tracks)}</gpx>"


def lap(
    start: str,
    *,
    seconds: float | str,
    metres: float | str | None = None,
    kcal: int | None = None,
    rate: int | None = None,
    greatest: int | None = None,
    watts: int | None = None,
    points: Sequence[str] = (),
) -> str:
    def element(tag: str, value: object) -> str:
        return "" if value is None else f"<{tag}>{value}</{tag}>"

    def heart(tag: str, value: int | None) -> str:
        return "" if value is None else element(tag, element("Value", value))

    trackpoints = "".join(
        element("Trackpoint", f"<Time>{time}</Time><DistanceMeters>7</DistanceMeters>")
        for time in points
    )
    inner = [
        element("TotalTimeSeconds", seconds),
        element("DistanceMeters", metres),
        element("Calories", kcal),
        heart("AverageHeartRateBpm", rate),
        heart("MaximumHeartRateBpm", greatest),
        element("Track", trackpoints),
    ]
    if watts is not None:
        power = f'<e:LX xmlns:e="x"><e:AvgWatts>{watts}</e:AvgWatts></e:LX>'
        inner.append(element("Extensions", power))
    return f'<Lap StartTime="{start}">{"".join(inner)}</Lap>'


def activity(*laps: str, sport: str = "Running", name: str = "2024-06-01T06:30:00Z") -> str:
    device = "<Creator><Name>vívoactive HR</Name></Creator>"
    return f'<Activity Sport="{sport}"><Id>{name}</Id>{"".join(laps)}{device}</Activity>'


def tcx(*activities: str) -> str:
    opening = f'<?xml version="1.0" encoding="UTF-8"?><TrainingCenterDatabase xmlns="{_TCX}">'
    author = "<Author><Name>Connect Api</Name></Author>"
    inner = f"<Activities>{''.join(activities)}</Activities>{author}"
    return f"{opening}{inner}</TrainingCenterDatabase>"
