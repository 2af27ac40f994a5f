"""Commands about events: what was logged, one event whole, and what comes in just now."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Protocol

import click

from events.envelope import read_envelope, to_json
from events.errors import PacelineError
from events.log import Logged, LogReader, Selection, stretch_ahead
from events.patience import Patience
from events.process import on_stop
from events.progress import show
from events.settings import Settings, described

_AT_ONCE = 500
_UNUSABLE = (
    PermissionError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
)


class PacelineGroup(click.Group):
    """Commands whose errors are one line, and whose exit codes mean something.

    `elsewhere` has commands by name, each as the `module:attribute` that is imported when somebody
    asks for it: a consumer's process, which starts often, does not wait for what others need.
    """

    def __init__(
        self, *arguments: Any, elsewhere: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._elsewhere = elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands; imports none."""
        return sorted({*self.commands, *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, imported where that was not done yet."""
        # For a name that is none, all are: the nearest of them is proposed.
        asked = {cmd_name} if cmd_name in self.list_commands(ctx) else {*self._elsewhere}
        for name in asked - self.commands.keys():
            module, _, attribute = self._elsewhere[name].partition(":")
            self.add_command(getattr(import_module(module), attribute), name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; 1 is a failure that the line explains, 3 is nobody there."""
        try:
            return super().invoke(ctx)
        except PacelineError as error:
            click.echo(f"paceline: {error}", err=True)
            ctx.exit(getattr(error, "exit_code", 1))
        except _UNUSABLE as error:
            click.echo(f"paceline: {error.filename} cannot be used: {error.strerror}.", err=True)
            ctx.exit(1)


class HasLog(Protocol):
    """What these commands need of the platform."""

    def log(self) -> LogReader:
        """Return the event log, for reading."""


class HasSettings(Protocol):
    """What `config` needs of the platform."""

    settings: Settings


@click.group(
    cls=PacelineGroup,
    elsewhere={
        "export": "events.export_commands:export_events",
        "load": "events.export_commands:load_events",
    },
)
def events() -> None:
    """Look at the event log."""


def moment(text: str | None, option: str) -> datetime | None:
    """Return an option's time, which must have an offset; raises UsageError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        found.astimezone(UTC)  # none that UTC has no year for
    except (ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise click.UsageError(f"{option} is {text!r}; write it like 2026-11-01T00:00:00+00:00.")
    return found


@events.command("list")
@click.option("--user", help="Of this user only.")
@click.option("--type", "kind", help="Of this type only, such as workout.completed.")
@click.option("--from", "start", help="Accepted at or after this time.")
@click.option("--to", "end", help="Accepted before this time.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def list_events(
    platform: HasLog,
    user: str | None,
    kind: str | None,
    start: str | None,
    end: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List logged events, in the order of the log.

    \b
    Example:
      paceline events list --user ada --from 2026-11-01T00:00:00+01:00 --json
    """
    selection = Selection(
        user_id=user,
        kind=kind,
        accepted_from=moment(start, "--from"),
        accepted_to=moment(end, "--to"),
    )
    rows = platform.log().scan(selection, limit=limit)
    show([_line(row) for row in rows], as_json=as_json, empty="No such event is logged.")


def _line(row: Logged) -> dict[str, Any]:
    envelope = read_envelope(row.body)
    return {
        "number": row.place,
        "event_id": row.event_id,
        "routing_key": row.routing_key,
        "user": envelope.subject,
        "happened_at": envelope.time.isoformat(),
        "accepted_at": envelope.acceptedat.isoformat(),
    }


@events.command("show")
@click.argument("event_id")
@click.pass_obj
def show_event(platform: HasLog, event_id: str) -> None:
    """Print one event whole, as the CloudEvents JSON that is logged.

    \b
    Example:
      paceline events show 6f1c…
    """
    row = platform.log().get(event_id)
    if row is None:
        raise PacelineError(f"No event {event_id} is logged; was it accepted? GET /v1/events/ID.")
    click.echo(json.dumps(to_json(row.body), indent=2, ensure_ascii=False))


@events.command("tail")
@click.option("--json", "as_json", is_flag=True, help="Whole events, one a line.")
@click.pass_obj
def tail_events(platform: HasLog, as_json: bool) -> None:
    """Print events as they are logged, until Ctrl-C.

    \b
    Example:
      paceline events tail
    """
    for row in _as_they_come(platform.log()):
        if as_json:
            click.echo(row.body.decode())
        else:
            click.echo("  ".join(str(value) for value in _line(row).values()))


def _as_they_come(log: LogReader) -> Iterator[Logged]:
    patience = Patience()
    on_stop(patience.stop)
    marks = log.settled()
    while not patience.stopped:
        stretch = stretch_ahead(log, marks, ("#",), limit=_AT_ONCE)
        if stretch is None:
            patience.wait()
        else:
            patience.reset()
            marks[stretch.relay] = stretch.through
            yield from stretch.rows


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def config(platform: HasSettings, as_json: bool) -> None:
    """Show what is in force, and where it came from.

    \b
    Example:
      paceline config --json
    """
    rows = described(platform.settings)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    for row in rows:
        click.echo(f"{row.name}={row.value}  ({row.origin}: {row.meaning})")
