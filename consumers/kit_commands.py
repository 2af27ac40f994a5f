"""Commands for plug-in authors: a new consumer with its test, and the check of a file."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import click

from consumers.conformance import Checked, examine, parts
from consumers.elsewhere import check_elsewhere
from consumers.generated import generated
from consumers.newcomer import plugin, plugin_test
from consumers.runtime.registry import NAME, Unfit, find, load, single
from events.envelope import Event, from_bytes
from events.errors import NewerVersion, PacelineError, Undecodable
from events.log import LogReader, Selection
from events.progress import progress
from events.settings import Settings


class HasPlugins(Protocol):
    """What these commands need of the platform."""

    settings: Settings

    def log(self) -> LogReader:
        """Return the event log, for reading."""


@click.command()
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to write to; the present one, where not said.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def new(platform: HasPlugins, name: str, into: Path, as_json: bool) -> None:
    """Write a consumer and its test, which passes as it is: NAME.py and test_NAME.py.

    \b
    Example:
      paceline consumers new recovery
    """
    _check_name(platform, name, into)
    texts = {into / f"{name}.py": plugin(name), into / f"test_{name}.py": plugin_test(name)}
    there = [str(path) for path in texts if path.exists()]
    if there:
        raise PacelineError(
            f"{' and '.join(there)} is there already, and nothing was written; choose another "
            "name, or another folder with --into."
        )
    for path, text in texts.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    _say_written(list(texts), as_json=as_json)


def _check_name(platform: HasPlugins, name: str, into: Path) -> None:
    if not NAME.match(name):
        raise click.UsageError(
            f"NAME is {name!r}; write 1 to 63 of a-z, 0-9 and '-', not '-' at first."
        )
    plugins = platform.settings.plugins
    if into.resolve() == plugins.resolve():
        raise PacelineError(
            f"{into} is the plug-in folder, where the test would be taken for a consumer; write "
            "to another folder, and copy the consumer alone."
        )
    known = find(plugins)
    if name in known:
        raise PacelineError(
            f"There is a consumer {name!r} already: {known[name].place}. Choose another name."
        )


def _say_written(files: Sequence[Path], *, as_json: bool) -> None:
    consumer, test = (shlex.quote(str(path)) for path in files)
    install = f"{shlex.quote(sys.executable)} -m pip install pytest"
    following = [
        *([] if find_spec("pytest") else [install]),
        f"{shlex.quote(sys.executable)} -m pytest {test}",
        f"paceline consumers check {consumer}",
    ]
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in files], "next": following}))
        return
    click.echo(f"Written: {consumer} and {test}.")
    click.echo("Edit the three lines marked EDIT: what it takes, its keys, and what it adds up.")
    if not find_spec("pytest"):
        click.echo("The test needs pytest, which is not installed here; the first line does that.")
    click.echo("Next:")
    for command in following:
        click.echo(f"  {command}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--events",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Recorded events too: a file as `paceline events export` writes it, or -.",
)
@click.option(
    "--from-log",
    type=click.IntRange(1),
    metavar="N",
    help="The last N events of this installation's log too.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def check(
    platform: HasPlugins, file: Path, recorded: Path | None, from_log: int | None, as_json: bool
) -> None:
    """Check that the consumer in FILE keeps its contract; exit code 1 where it does not.

    It is run on generated events, always the same, and on recorded ones if you give some: in any
    order, twice, in batches, in other processes. What hangs is ended with Ctrl-C.

    \b
    Example:
      paceline consumers check recovery.py --from-log 1000
    """
    if not file.is_file():
        raise click.UsageError(f"{file} is no file; give that of a consumer, such as recovery.py.")
    events = list(generated())
    events += _read(recorded) if recorded else []
    events += _logged(platform.log(), from_log) if from_log else []
    unique = list({event.id: event for event in events}.values())
    found = []
    for one in _checked(file, unique):
        found.append(one)
        if not as_json:
            click.echo(f"{'ok  ' if one.ok else 'BAD '} {one.check}: {one.detail}")
    wrong = [one.check for one in found if not one.ok]
    if as_json:
        _print(file, unique, found)
    elif wrong:
        click.echo(f"{file} does not keep its contract: {', '.join(wrong)}.", err=True)
    else:
        click.echo(f"{file.stem} keeps its contract over {len(unique)} events.")
    if wrong:
        sys.exit(1)


def _print(file: Path, events: Sequence[Event], found: Sequence[Checked]) -> None:
    report: dict[str, Any] = {
        "file": str(file),
        "events": len(events),
        "ok": all(one.ok for one in found),
        "checks": [one._asdict() for one in found],
    }
    click.echo(json.dumps(report, ensure_ascii=False))


def _checked(file: Path, events: Sequence[Event]) -> Iterator[Checked]:
    try:
        loaded = load(single(file))
    except Unfit as unfit:
        yield Checked("load", ok=False, detail=str(unfit))
        return
    yield Checked("load", ok=True, detail=f"{loaded.name}, version {loaded.version}")
    names = parts(loaded.consumer)
    well = "fold" in names
    with progress("checking") as report:
        for done, one in enumerate(examine(loaded.consumer, events), start=1):
            report(done, len(names) + 1)
            well &= one.ok
            yield one
        if well:
            yield check_elsewhere(file)


def _read(file: Path) -> list[Event]:
    """Return the events of a file, one a line; raises PacelineError that names the line."""
    events = []
    with click.open_file(str(file), "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                events.append(from_bytes(line))
            except (Undecodable, NewerVersion) as error:
                raise PacelineError(f"{file}, line {number}: {error}") from error
    return events


def _logged(log: LogReader, count: int) -> list[Event]:
    # Where places were left out, these begin a bit before the last ones.
    before_last = max(0, log.count(Selection()) - count)
    return [from_bytes(row.body) for row in log.scan(Selection(after=before_last), limit=count)]
