"""JSON: one workout, a list of them, or one a line, each in the shape of `POST /v1/workouts`.

What the file says stands; the options fill in what it leaves out. Whether a workout is valid, the
door says: here only what is no JSON is refused. Its times carry their offsets, so a zone from the
options is not used.
"""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from producer.importing.errors import UnreadableRecording
from producer.importing.recorded import ImportOptions, Recorded


def read(path: Path, content: bytes, *, options: ImportOptions) -> list[Recorded]:
    """Read every workout of the file, in its order."""
    try:
        workouts = _workouts(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableRecording(path, f"is no JSON that can be taken ({error})") from error
    for number, workout in enumerate(workouts, start=1):
        if not isinstance(workout, dict):
            raise UnreadableRecording(path, f"its workout {number} is no JSON object")
    return [Recorded(_filled(workout, options), []) for workout in workouts]


def _workouts(text: str) -> list[Any]:
    try:
        whole = _json(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        return [_line(number, line) for number, line in _lines(text)]
    return whole if isinstance(whole, list) else [whole]


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines(): JSON strings may hold line separators of Unicode.
    numbered = enumerate(text.split("\n"), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def _line(number: int, line: str) -> Any:
    try:
        return _json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _json(text: str) -> Any:
    return json.loads(
        text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_doubles
    )


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is too large a number")
    return number


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        double = next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i]))
        raise ValueError(f"{double[:64]!r} is there twice")
    return found


def _filled(workout: dict[str, Any], options: ImportOptions) -> dict[str, Any]:
    filled = {"origin": options.origin.value, **workout}
    if options.user is not None:
        filled.setdefault("user_id", options.user)
    athlete = workout.get("athlete", {})
    if isinstance(athlete, dict) and (merged := {**options.athlete(), **athlete}):
        filled["athlete"] = merged
    return filled
