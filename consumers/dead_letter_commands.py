"""Commands about dead letters: what a consumer could not take, and what becomes of it."""

import sys
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import click

from consumers.runtime.asking import ask, check_known, state_of
from consumers.runtime.fates import Fate, State
from consumers.runtime.operations import dead_letters as chosen_of
from events.log import Position, row_at
from events.progress import show


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at events that a consumer could not take; redrive or discard them."""


def _dead(platform: Any, only: str | None) -> list[tuple[str, Position, Fate]]:
    if only:
        check_known(platform.installation, only)
    names = [only] if only else platform.installation.names()
    found = []
    for name in names:
        store = platform.installation.store(name)
        live = store.live() if store else None
        if live is not None:
            dead = store.open_fates(live.number, State.DEAD)
            found += [(name, position, fate) for position, fate in dead]
    return found


@dead_letters.command("list")
@click.option("--consumer", "only", help="Of this consumer only.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def list_dead(platform: Any, only: str | None, as_json: bool) -> None:
    """List dead letters, grouped by consumer and error.

    \b
    Example:
      paceline dead-letters list
    """
    groups = defaultdict(list)
    for name, _, fate in _dead(platform, only):
        # By the kind of error: its text may name a person, and no two would be of one group.
        groups[name, fate.reason.partition(":")[0]].append(fate)
    rows = [
        {
            "consumer": name,
            "events": len(fates),
            "since": _when(min(fate.first_ms or 0 for fate in fates)),
            "last": _when(max(fate.last_ms or 0 for fate in fates)),
            "reason": max(fates, key=lambda fate: fate.last_ms or 0).reason,
        }
        for (name, _), fates in sorted(groups.items())
    ]
    show(rows, as_json=as_json, empty="There is no dead letter.")


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


@dead_letters.command("show")
@click.argument("consumer")
@click.option("--reason", help="Only those whose error begins like this.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def show_dead(platform: Any, consumer: str, reason: str | None, limit: int, as_json: bool) -> None:
    """Show a consumer's dead letters one by one, with their tracebacks.

    \b
    Example:
      paceline dead-letters show calories --limit 1
    """
    log = platform.log()
    letters = []
    arguments = {"reason": reason} if reason else {}
    store, live = state_of(platform, consumer)
    for position, fate in chosen_of(log, store.open_fates(live.number, State.DEAD), arguments)[
        :limit
    ]:
        row = row_at(log, position)
        letters.append(_letter(row.event_id if row else "/".join(map(str, position)), fate))
    if as_json:
        show(letters, as_json=True)
        return
    for letter in letters:
        click.echo("\n".join(f"{name}: {value}" for name, value in letter.items()) + "\n")


def _letter(event_id: str, fate: Fate) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "reason": fate.reason,
        "attempts": fate.attempts,
        "strikes": fate.strikes,
        "first": _when(fate.first_ms or 0),
        "last": _when(fate.last_ms or 0),
        "consumer_version": fate.version,
        "traceback": fate.trace,
    }


def _act(
    platform: Any, verb: str, consumer: str, ids: tuple[str, ...], reason: str | None, yes: bool
) -> None:
    arguments: dict[str, Any] = {}
    if ids:
        arguments["ids"] = list(ids)
    if reason:
        arguments["reason"] = reason
    store, live = state_of(platform, consumer)
    chosen = chosen_of(platform.log(), store.open_fates(live.number, State.DEAD), arguments)
    if not chosen:
        click.echo(f"{consumer}: there is no such dead letter.")
        return
    click.echo(
        f"{consumer}: {verb} would change {len(chosen)} dead letter{'s'[: len(chosen) != 1]}:"
    )
    for why in sorted({fate.reason for _, fate in chosen}):
        click.echo(f"  {sum(fate.reason == why for _, fate in chosen)} x {why}")
    if not yes and not click.confirm(f"{verb} them?", err=True):
        click.echo("Nothing was changed.")
        sys.exit(1)
    answer = ask(platform, consumer, verb, arguments).answer
    click.echo(f"{answer['changed']} changed.")


@dead_letters.command()
@click.argument("consumer")
@click.option("--id", "ids", multiple=True, help="This event only; may be repeated.")
@click.option("--reason", help="Only those whose error begins like this.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def redrive(
    platform: Any, consumer: str, ids: tuple[str, ...], reason: str | None, yes: bool
) -> None:
    """Give dead letters all their attempts again; shows first what would happen.

    \b
    Example:
      paceline dead-letters redrive calories --reason ZeroDivisionError
    """
    _act(platform, "redrive", consumer, ids, reason, yes)


@dead_letters.command()
@click.argument("consumer")
@click.option("--id", "ids", multiple=True, help="This event only; may be repeated.")
@click.option("--reason", help="Only those whose error begins like this.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def discard(
    platform: Any, consumer: str, ids: tuple[str, ...], reason: str | None, yes: bool
) -> None:
    """Give dead letters up for good; shows first what would happen.

    \b
    Example:
      paceline dead-letters discard calories --id 6f1c…
    """
    _act(platform, "discard", consumer, ids, reason, yes)
