"""GPX: points with times; one workout for each track.

A GPX file has no timer, so its moving time is made here: the recorded time. It is the time from
the first point to the last, without what lies between two segments (the receiver was off, and no
distance is counted either) and without pauses: more than a minute between two points, at less
than 1 km/h. gpxpy's own moving time judges each step by its speed and takes a slow climb, or two
points at one place, for a rest: 9,600 of 13,743 s in one real track. Elapsed time is certain, and
stands beside the recorded time.

The XML is read once, by defusedxml; gpxpy does the geometry. Distance is along the slope.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from gpxpy.gpx import GPXTrackPoint, GPXTrackSegment

from producer.importing import sports
from producer.importing.errors import UnreadableRecording
from producer.importing.recorded import Session, known, moment, offset, positive

PAUSE_S = 60
PAUSE_M_PER_S = 1 / 3.6

_Point = tuple[GPXTrackPoint, float | None]


@dataclass(frozen=True, slots=True)
class _Step:
    """The way from one timed point to the next; the heart rate is the one at its end."""

    seconds: float
    metres: float
    heart_rate: float | None

    @property
    def is_pause(self) -> bool:
        return self.seconds > PAUSE_S and self.metres < self.seconds * PAUSE_M_PER_S


def sessions(path: Path, root: Element) -> list[Session]:
    """Read every track that has times, in the file's order."""
    tracks = root.findall("trk")
    found = [_session(track, creator=root.get("creator")) for track in tracks]
    timed = [session for session in found if session]
    if not timed:
        raise UnreadableRecording(path, "has no track with times: nobody can say when it was")
    if len(timed) < len(tracks):
        left_out = f"left out, without times: {len(tracks) - len(timed)} of {len(tracks)} tracks"
        for session in timed:
            session.notes.append(left_out)
    return timed


def _session(track: Element, *, creator: str | None) -> Session | None:
    segments = [list(_points(segment)) for segment in track.findall("trkseg")]
    times = [point.time for segment in segments for point, _ in segment if point.time]
    steps = [step for segment in segments for step in _steps(segment) if not step.is_pause]
    start = min(times, default=None)
    recorded_s = sum(step.seconds for step in steps)
    if start is None or not recorded_s:
        return None
    elapsed_s = (max(times) - start).total_seconds()
    sport, notes = sports.from_name(track.findtext("type"))
    return Session(
        sport=sport,
        start=start,
        offset=offset(start),
        duration_s=min(recorded_s, elapsed_s),
        elapsed_s=elapsed_s,
        distance_m=known(sum(_line(segment).length_3d() or 0 for segment in segments)),
        ascent_m=_ascent(segments),
        avg_heart_rate=_average_heart_rate(steps),
        max_heart_rate=max(
            (rate for segment in segments for _, rate in segment if rate), default=None
        ),
        recording={"provider": creator} if creator else {},
        notes=[*notes, *_note(recorded_s, elapsed_s)],
    )


def _points(segment: Element) -> Iterator[_Point]:
    for node in segment.findall("trkpt"):
        latitude, longitude = known(node.get("lat")), known(node.get("lon"))
        if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
            continue
        elevation, time = _on_earth(node.findtext("ele")), moment(node.findtext("time"))
        rate = next((positive(found.text) for found in node.iter("hr")), None)
        yield GPXTrackPoint(latitude, longitude, elevation=elevation, time=time), rate


def _steps(segment: list[_Point]) -> Iterator[_Step]:
    """Go from time to later time; a point whose clock jumped back is no step."""
    last: GPXTrackPoint | None = None
    for point, rate in segment:
        if point.time is None or (last and last.time and point.time <= last.time):
            continue
        if last and last.time:
            metres = point.distance_2d(last) or 0
            yield _Step((point.time - last.time).total_seconds(), metres, rate)
        last = point


def _line(segment: list[_Point]) -> GPXTrackSegment:
    return GPXTrackSegment([point for point, _ in segment])


def _on_earth(text: str | None) -> float | None:
    """Give an elevation in m, from the Dead Sea to above Everest; others are a sensor's error."""
    elevation = known(text)
    return elevation if elevation is not None and -500 <= elevation <= 10_000 else None


def _ascent(segments: list[list[_Point]]) -> float | None:
    """Give the metres of climbing, where there are elevations; gpxpy smooths them a little."""
    if all(point.elevation is None for segment in segments for point, _ in segment):
        return None
    return known(sum(_line(segment).get_uphill_downhill().uphill for segment in segments))


def _average_heart_rate(steps: list[_Step]) -> float | None:
    beating = [(step.heart_rate, step.seconds) for step in steps if step.heart_rate]
    seconds = sum(weight for _, weight in beating)
    return sum(rate * weight for rate, weight in beating) / seconds if seconds else None


def _note(recorded_s: float, elapsed_s: float) -> list[str]:
    if recorded_s >= elapsed_s:
        return []
    return [
        f"GPX has no timer: of {elapsed_s:.0f} s, the {elapsed_s - recorded_s:.0f} s "
        "in pauses and between segments are taken for rest"
    ]
