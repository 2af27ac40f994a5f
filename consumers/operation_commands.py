"""Commands that make a consumer's worker do something: replay, rebuild, and their operations."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from consumers.runtime.asking import ask, state_of, with_state
from consumers.runtime.control import Request
from consumers.runtime.operations import selection_of
from events.commands import moment
from events.errors import PacelineError
from events.log import Selection
from events.progress import progress, show


@click.command()
@click.option("--consumer", "names", multiple=True, help="This one only; may be repeated.")
@click.option("--from", "start", help="Accepted at or after this time.")
@click.option("--to", "end", help="Accepted before this time.")
@click.option("--user", help="Of this user only.")
@click.option("--type", "kind", help="Of this type only.")
@click.option("--id", "ids", multiple=True, help="This event only; may be repeated.")
@click.option("--to-queue", "queue", help="To this queue of the broker alone, whoever reads it.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def replay(
    platform: Any,
    names: tuple[str, ...],
    start: str | None,
    end: str | None,
    user: str | None,
    kind: str | None,
    ids: tuple[str, ...],
    queue: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Deliver a part of the log to consumers again.

    What a consumer has applied already stays as it is: nothing can be counted twice.

    \b
    Example:
      paceline replay --consumer calories --user ada --from 2026-11-01T00:00:00+01:00
    """
    arguments: dict[str, Any] = {
        "from": _text(start, "--from"),
        "to": _text(end, "--to"),
        "user": user,
        "type": kind,
        "ids": list(ids) or None,
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if queue is not None:
        if names:
            raise click.UsageError("--to-queue goes to that queue alone; leave --consumer out.")
        show([_to_queue(platform, queue, arguments, dry_run=dry_run)], as_json=as_json, empty="")
        return
    rows = []
    for name in names or with_state(platform):
        if dry_run:
            rows.append({"consumer": name, "selected": _selected(platform, name, arguments)})
        else:
            rows.append({"consumer": name, **ask(platform, name, "replay", arguments).answer})
    show(rows, as_json=as_json, empty="There is no consumer.")


def _to_queue(
    platform: Any, queue: str, arguments: dict[str, Any], *, dry_run: bool
) -> dict[str, Any]:
    selection, log = selection_of(arguments, ("#",)), platform.log()
    total = log.count(selection)
    if dry_run:
        return {"queue": queue, "selected": total}
    sender, sent = platform.to_queue(queue), 0
    with progress(f"to {queue}") as report:
        for sent in sender.send(log, selection):
            report(sent, max(total, sent))
    return {"queue": queue, "sent": sent}


def _text(value: str | None, option: str) -> str | None:
    found = moment(value, option)
    return found.isoformat() if found else None


def _selected(platform: Any, name: str, arguments: dict[str, Any]) -> int:
    _, live = state_of(platform, name)
    return int(platform.log().count(selection_of(arguments, live.bindings)))


@click.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say how many events it would fold.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def rebuild(platform: Any, name: str, dry_run: bool, as_json: bool) -> None:
    """Fold the whole log into a new generation of a consumer, and swap.

    Readers see the old one until then. Ctrl-C leaves it resumable.

    \b
    Example:
      paceline rebuild calories --dry-run
    """
    if dry_run:
        _, live = state_of(platform, name)
        events = platform.log().count(Selection(bindings=live.bindings))
        show([{"consumer": name, "events": events}], as_json=as_json)
        return
    answer = ask(platform, name, "rebuild", {}).answer
    show([{"consumer": name, **answer}], as_json=as_json)


@click.group()
def operations() -> None:
    """Look at what workers were asked to do."""


@operations.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def list_operations(platform: Any, as_json: bool) -> None:
    """List operations, newest first.

    \b
    Example:
      paceline operations list
    """
    rows = [_row(one, as_json=as_json) for one in platform.control().listed()]
    show(rows, as_json=as_json, empty="Nothing was asked.")


def _row(one: Request, *, as_json: bool) -> dict[str, Any]:
    return {
        "id": one.id,
        "consumer": one.consumer,
        "verb": one.verb,
        "state": str(one.state),
        "done": one.done,
        "total": one.total,
        "asked_at": datetime.fromtimestamp(one.asked_at, UTC).isoformat(timespec="seconds"),
        "arguments": one.arguments if as_json else json.dumps(one.arguments),
        "answer": one.answer if as_json else json.dumps(one.answer),
    }


@operations.command()
@click.argument("number", type=int)
@click.pass_obj
def cancel(platform: Any, number: int) -> None:
    """End an operation that is still open; what it has done stays.

    \b
    Example:
      paceline operations cancel 7
    """
    if not platform.control().cancel(number):
        raise PacelineError(f"Operation {number} is not open; see `paceline operations list`.")
    click.echo(f"Operation {number} is cancelled.")
