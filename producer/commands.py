"""The command that imports recordings: it reads files, and posts to the running producer."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import urllib3

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
    files = list(_files(paths))
    rows: list[dict[str, Any]] = []
    with progress("importing") as report, urllib3.PoolManager() as pool:
        for place, file in enumerate(files):
            for row in _imported(file, options, url or platform.settings.url, pool):
                rows.append(row)
                if not as_json:
                    click.echo(_line(row))
            report(place + 1, len(files))
    if as_json:
        show(rows, as_json=True)
    elif len(rows) > 1:
        click.echo(_sum(rows), err=True)
    if not rows:
        click.echo("There is no recording there.", err=True)
    if not rows or any(row["result"] == "failed" for row in rows):
        sys.exit(1)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = (file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
            yield from sorted(file for file in found if file.is_file())
        else:
            yield path


def _imported(
    file: Path, options: ImportOptions, url: str, pool: urllib3.PoolManager
) -> Iterator[dict[str, Any]]:
    try:
        recorded = read(file, options=options)
    except UnreadableRecording as error:
        yield {"file": str(file), "result": "failed", "note": error.reason}
        return
    posted = post((one.workout for one in recorded), url=url, pool=pool)
    for one, what in zip(recorded, posted, strict=True):
        yield _told(file, one, what)


def _told(file: Path, recorded: Recorded, posted: Posted) -> dict[str, Any]:
    workout = recorded.workout
    notes = [*recorded.notes, *([posted.reason] if posted.reason else [])]
    return {
        "file": str(file),
        "result": _result(posted),
        "sport": workout.get("sport"),
        "started_at": workout.get("started_at"),
        "duration_s": workout.get("duration_s"),
        "distance_m": workout.get("distance_m"),
        "event_id": posted.event_id,
        "note": "; ".join(notes),
    }


def _sum(rows: list[dict[str, Any]]) -> str:
    counts = Counter(row["result"] for row in rows)
    return ", ".join(f"{count} {result}" for result, count in counts.items()) + "."


def _result(posted: Posted) -> str:
    if posted.duplicate or posted.conflicting:
        return "imported already"
    return "accepted" if posted.accepted else "failed"


def _line(row: dict[str, Any]) -> str:
    """Return one line: what became of it, which file, what it is, and why."""
    facts = [f"{row[name]} {unit}" for name, unit in _UNITS if row.get(name) is not None]
    told = ", ".join([*([row["sport"]] if row.get("sport") else []), *facts])
    note = f": {row['note']}" if row["result"] == "failed" else ""
    note = f"  ({row['note']})" if row["note"] and not note else note
    return f"{row['result']:16}  {row['file']}{f'  {told}' if told else ''}{note}"


_UNITS = (("duration_s", "s"), ("distance_m", "m"))
