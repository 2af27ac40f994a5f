"""The command that imports recordings: it reads files, and posts to the running producer."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from events.progress import progress, show
from producer.importing import ImportOptions, Recorded, UnreadableRecording, read
from producer.importing.posting import Posted, post

_SUFFIXES = {".fit", ".tcx", ".gpx", ".json", ".ndjson"}


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--user", help="Whose workouts they are.")
@click.option("--zone", help="Where they were done, such as Europe/Berlin.")
@click.option("--weight", type=click.FloatRange(20, 500), help="The person's weight in kg.")
@click.option("--sex", type=click.Choice(["female", "male"]), help="For the heart-rate formula.")
@click.option("--birth-year", type=click.IntRange(1900, 2100), help="For the heart-rate formula.")
@click.option("--live", is_flag=True, help="Not history: what follows from them notifies people.")
@click.option("--url", help="The producer's address; by default this machine's.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def import_(
    platform: Any,
    paths: tuple[Path, ...],
    user: str | None,
    zone: str | None,
    weight: float | None,
    sex: str | None,
    birth_year: int | None,
    live: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Import recordings: FIT, TCX, GPX and JSON files, or folders of them.

    Importing a file twice changes nothing. Exit code 1 if any failed, 3 if nobody answers.

    \b
    Example:
      paceline import --user ada --zone Europe/Berlin --weight 62 recordings/
    """
    options = ImportOptions(
        user=user, zone=zone, weight_kg=weight, sex=sex, birth_year=birth_year, live=live
    )
    rows = []
    files = list(_files(paths))
    with progress("importing") as report:
        for place, file in enumerate(files):
            rows += _imported(file, options, url or platform.settings.url)
            report(place + 1, len(files))
    show(rows, as_json=as_json, empty="There is no recording there.")
    if not rows or any(row["result"] == "failed" for row in rows):
        sys.exit(1)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
            yield from sorted(file for file in found if file.is_file())
        else:
            yield path


def _imported(file: Path, options: ImportOptions, url: str) -> list[dict[str, Any]]:
    try:
        recorded = read(file, options=options)
    except UnreadableRecording as error:
        return [_row(file, "failed", str(error))]
    posted = post((one.workout for one in recorded), url=url)
    return [_told(file, one, what) for one, what in zip(recorded, posted, strict=True)]


def _told(file: Path, recorded: Recorded, posted: Posted) -> dict[str, Any]:
    if not posted.accepted:
        return _row(file, "failed", posted.reason or "", workout=recorded.workout)
    result = "was imported already" if posted.duplicate else "accepted"
    notes = "; ".join(recorded.notes)
    return _row(file, result, notes, workout=recorded.workout, event_id=posted.event_id)


def _row(
    file: Path, result: str, note: str, *, workout: Any = None, event_id: str | None = None
) -> dict[str, Any]:
    workout = workout or {}
    return {
        "file": file.name,
        "result": result,
        "sport": workout.get("sport"),
        "duration_s": workout.get("duration_s"),
        "distance_m": workout.get("distance_m"),
        "event_id": event_id,
        "note": note,
    }
