"""Commands that make a consumer's worker do something: replay, rebuild, and their operations."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isnan
from typing import Any

import click

from consumers.runtime.asking import ask, state_of, with_state
from consumers.runtime.control import Request
from consumers.runtime.selecting import chosen_ids, not_before, readable, selection_of
from events.commands import moment
from events.envelope import is_id
from events.errors import PacelineError
from events.log.walk import counted, parts
from events.progress import progress, show


def _number(_context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and isnan(value):
        raise click.BadParameter("nan is no number.", param=option)
    return value


@click.command()
@click.option("--consumer", "names", multiple=True, help="This one only; may be repeated.")
@click.option("--from", "start", help="Accepted at or after this time.")
@click.option("--to", "end", help="Accepted before this time.")
@click.option("--user", help="Of this user only.")
@click.option("--type", "kind", help="Of this type only.")
@click.option("--id", "ids", multiple=True, help="This event only; may be repeated.")
@click.option("--ids-from", metavar="FILE", help="Only events whose ids stand there, one a line.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    callback=_number,
    help="So many events a second at most.",
)
@click.option("--act", is_flag=True, help="Let handlers act on what they had no fate for.")
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
    ids_from: str | None,
    rate: float | None,
    act: bool,
    queue: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Deliver a part of the log to consumers again.

    What a consumer has applied already stays as it is: nothing can be counted twice. A handler is
    called only with --act, and only for what it was never called for. Ctrl-C leaves it resumable.

    \b
    Example:
      paceline replay --consumer calories --user ada --from 2026-11-01T00:00:00+01:00
    """
    arguments: dict[str, Any] = {
        "from": _text(start, "--from"),
        "to": _text(end, "--to"),
        "user": user,
        "type": kind,
        "rate": rate,
        "act": act or None,
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if ids or ids_from is not None:
        arguments |= chosen_ids(list(dict.fromkeys([*ids, *_listed_in(ids_from)])))
    if queue is not None:
        if names or rate or act:
            raise click.UsageError(
                "--to-queue goes to that queue alone, as fast as it takes it; leave --consumer, "
                "--rate and --act out."
            )
        show([_to_queue(platform, queue, arguments, dry_run=dry_run)], as_json=as_json, empty="")
        return
    rows = []
    for name in names or with_state(platform):
        if dry_run:
            rows.append({"consumer": name, "selected": _selected(platform, name, arguments)})
        else:
            rows.append({"consumer": name, **ask(platform, name, "replay", arguments).answer})
    show(rows if as_json else _aligned(rows), as_json=as_json, empty="There is no consumer.")


def _listed_in(file: str | None) -> Iterator[str]:
    """Yield the ids of a file, one a line; - is stdin."""
    if file is None:
        return
    # The mark that some editors write at the start is no part of the first id.
    with click.open_file(file, encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip().lower()
            if text and not is_id(text):
                raise PacelineError(f"{file}, line {number}: {text!r:.80} is no event's id.")
            if text:
                yield text


def _aligned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that all have all columns: handlers and projections tell different counts."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]


def _to_queue(
    platform: Any, queue: str, arguments: dict[str, Any], *, dry_run: bool
) -> dict[str, Any]:
    selection, log = selection_of(arguments, ("#",)), platform.log()
    total = counted(log, selection)
    if dry_run:
        return {"queue": queue, "selected": total}
    before = sent = 0
    with progress(f"to {queue}") as report:
        for part in parts(selection):
            for sent in platform.to_queue(queue).send(log, part):
                report(before + sent, max(total, before + sent))
            before, sent = before + sent, 0
    return {"queue": queue, "sent": before}


def _text(value: str | None, option: str) -> str | None:
    found = moment(value, option)
    return found.isoformat() if found else None


def _selected(platform: Any, name: str, arguments: dict[str, Any]) -> int:
    _, live = state_of(platform, name)
    selection = selection_of(arguments, live.bindings)
    since = None if arguments.get("act") else live.since
    return counted(platform.log(), not_before(selection, since))


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
    arguments = readable(one.arguments)
    return {
        "id": one.id,
        "consumer": one.consumer,
        "verb": one.verb,
        "state": str(one.state),
        "done": one.done,
        "total": one.total,
        "asked_at": datetime.fromtimestamp(one.asked_at, UTC).isoformat(timespec="seconds"),
        "arguments": arguments if as_json else json.dumps(arguments),
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
