"""Recordings of devices and apps, read into workouts that can be posted: FIT, TCX, GPX and JSON.

A file is read whole or refused whole. Which format it is, its content says and not its name.
"""

import hashlib
from pathlib import Path

from producer.importing import fit, gpx, markup, plain, tcx
from producer.importing.errors import NobodyThere, UnknownZone, UnreadableRecording
from producer.importing.recorded import ImportOptions, Recorded, Session, recorded

__all__ = [
    "ImportOptions",
    "NobodyThere",
    "Recorded",
    "UnknownZone",
    "UnreadableRecording",
    "read",
]

MOST_BYTES = 128 * 1024 * 1024


def read(path: Path, *, options: ImportOptions) -> list[Recorded]:
    """Read a file into the workouts it holds; raises UnreadableRecording with one line.

    The workouts' ids come from the content alone, so that the same file is the same workouts
    under any name and with any options.
    """
    content = _content(path)
    if not content:
        raise UnreadableRecording(path, "is empty")
    # Asked first: a FIT header may begin with bytes that are blanks and braces.
    is_fit = content[8:12] == b".FIT"
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if not is_fit and start in (b"{", b"["):
        return plain.read(path, content, options=options)
    if is_fit or (path.suffix.lower() == ".fit" and start != b"<"):
        kind, sessions = "fit", fit.sessions(path, content)
    elif start == b"<" or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        kind, sessions = _marked_up(path, content)
    else:
        raise UnreadableRecording(path, "is neither FIT, TCX, GPX nor JSON")
    if options.user is None:
        raise UnreadableRecording(path, "does not say whose workout it is; say --user")
    digest = hashlib.sha256(content).hexdigest()[:32]
    return [
        recorded(session, workout_id=f"{kind}-{digest}-{number}", options=options)
        for number, session in enumerate(sessions, start=1)
    ]


def _content(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UnreadableRecording(path, f"has {size} bytes; {MOST_BYTES} are the most")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableRecording(path, f"can not be read ({error.strerror})") from error


def _marked_up(path: Path, content: bytes) -> tuple[str, list[Session]]:
    root = markup.parse(path, content)
    if root.tag == "TrainingCenterDatabase":
        return "tcx", tcx.sessions(path, root)
    if root.tag == "gpx":
        return "gpx", gpx.sessions(path, root)
    raise UnreadableRecording(path, f"is XML but neither TCX nor GPX: <{root.tag[:64]}>")
