"""Commands that take history out of an installation, and bring it into another one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Protocol

import click

from events.commands import moment
from events.envelope import is_id
from events.errors import Outage, PacelineError
from events.exporting import export, whole_file
from events.loading import Loaded, Loading, passed_in
from events.log import LogReader, Selection
from events.progress import progress, show
from events.settings import Settings
from events.sqlite_spool import Spool, SpoolReader, remove_left, spool_folder

_STDIO = "-"
_SHOWN = 20


class HasHistory(Protocol):
    """What these commands need of the platform."""

    settings: Settings

    def log(self) -> LogReader:
        """Return the event log, for reading."""


@click.command("export")
@click.option("--from", "start", help="Accepted at or after this time.")
@click.option("--to", "end", help="Accepted before this time.")
@click.option("--user", help="Of this user only.")
@click.option("--type", "kind", help="Of this type only, such as workout.completed.")
@click.option("--id", "ids", multiple=True, help="This event only; may be repeated.")
@click.option("--out", default=_STDIO, metavar="FILE", help="Where to; - is stdout, the default.")
@click.pass_obj
def export_events(
    platform: HasHistory,
    start: str | None,
    end: str | None,
    user: str | None,
    kind: str | None,
    ids: tuple[str, ...],
    out: str,
) -> None:
    """Write logged events, one CloudEvents JSON a line, in the order of the log.

    Each line has the bytes that are logged. The file is there when all of it is written, and never
    a part of it. `paceline events load` reads it.

    \b
    Example:
      paceline events export --user ada --out ada.ndjson
    """
    for event_id in ids:
        if not is_id(event_id):
            raise PacelineError(f"{event_id!r:.80} is no event's id; see `paceline events list`.")
    selection = Selection(
        user_id=user,
        kind=kind,
        ids=ids or None,
        accepted_from=moment(start, "--from"),
        accepted_to=moment(end, "--to"),
    )
    try:
        count = _exported(platform.log(), selection, out)
    except KeyboardInterrupt as stopped:
        what = "not all was written" if out == _STDIO else f"{out} was not made"
        raise PacelineError(f"Stopped; {what}.") from stopped
    click.echo(f"{count} events exported.", err=True)


def _exported(log: LogReader, selection: Selection, out: str) -> int:
    with progress("exporting") as report:
        if out == _STDIO:
            return export(log, selection, sys.stdout.buffer, report=report)
        with whole_file(Path(out)) as file:
            return export(log, selection, file, report=report)


@click.command("load")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def load_events(platform: HasHistory, file: str, as_json: bool) -> None:
    """Bring exported events into the log, each with its id, its bytes and its acceptance time.

    FILE is what `paceline events export` wrote; - is stdin. Loading it again changes nothing. Exit
    code 1 if a line was not an event, or told another fact under an id that is logged.

    \b
    Example:
      paceline events load ada.ndjson
    """
    remove_left(platform.settings, lambda left: _is_over(platform.settings, left))
    with _opened(file) as stream:
        spool = Spool(spool_folder(platform.settings))
        try:
            loaded = _loaded(platform, Loading(platform.settings, spool), stream, file)
        except KeyboardInterrupt as stopped:
            spool.close()
            raise PacelineError(
                "Stopped. What was read is carried into the log all the same; the same command "
                "again loads the rest."
            ) from stopped
        except BaseException:
            spool.close()
            raise
        spool.remove()
    _show(loaded, as_json=as_json)
    if not loaded.clean:
        sys.exit(1)


def _is_over(settings: Settings, left: SpoolReader) -> bool:
    return passed_in(settings, left) >= left.last()


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == _STDIO:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  # it is closed below
    except OSError as error:
        raise PacelineError(f"{file} cannot be read: {error.strerror}.") from error
    with stream:
        yield stream


def _loaded(platform: HasHistory, loading: Loading, stream: BinaryIO, file: str) -> Loaded:
    size = 0 if file == _STDIO else Path(file).stat().st_size
    with progress("reading") as report:
        loading.read(stream, _log_if_any(platform), size=size, report=report)
    with progress("carried on") as report:
        loading.wait(report=report)
    with progress("comparing") as report:
        return loading.compare(platform.log(), report=report)


def _log_if_any(platform: HasHistory) -> LogReader | None:
    try:
        return platform.log()
    except Outage:
        if platform.settings.store_url:
            raise
        return None  # no relay has made the file yet


def _show(loaded: Loaded, *, as_json: bool) -> None:
    row = asdict(loaded) | {"faults": [fault._asdict() for fault in loaded.faults]}
    if as_json:
        show([row], as_json=True)
        return
    faults = [f"Line {fault.line} is left out: {fault.reason}" for fault in loaded.faults]
    faults += [f"{one} is logged and tells something else." for one in loaded.conflicts]
    faults += [f"{one} was refused by the log; see `paceline audit`." for one in loaded.refusals]
    for fault in faults[:_SHOWN]:
        click.echo(fault, err=True)
    if len(faults) > _SHOWN:
        click.echo(f"… and {len(faults) - _SHOWN} more; --json tells them.", err=True)
    counts = {name: value for name, value in row.items() if isinstance(value, int)}
    show([counts], as_json=False)
