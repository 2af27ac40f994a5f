"""The command that rebuilds a consumer: at once, within a bound, or when somebody has looked."""

import sys
from typing import Any

import click

from consumers.runtime.asking import ask, state_of
from consumers.runtime.comparing import ASK, DROP, SWAP
from consumers.runtime.control import Request
from consumers.runtime.deciding import rebuild_decided
from consumers.runtime.differences import Figures, bound, rows
from events.log import Selection
from events.progress import show


@click.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say how many events it would fold.")
@click.option("--diff", is_flag=True, help="Show what would change, and ask before it is live.")
@click.option("--max-change", metavar="5%|100", help="Refuse it where more documents differ.")
@click.option("--yes", is_flag=True, help="With --diff: do not ask, let it go live.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def rebuild(
    platform: Any,
    name: str,
    dry_run: bool,
    diff: bool,
    max_change: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Fold the whole log into a new generation of a consumer, and swap.

    Readers see the old one until then. Ctrl-C leaves it resumable. With --diff nothing goes live
    before somebody has said yes; without a terminal it is thrown away.

    \b
    Example:
      paceline rebuild calories --diff --max-change 5%
    """
    if yes and not diff:
        raise click.UsageError("--yes answers --diff; without it nothing is asked.")
    if dry_run:
        _, live = state_of(platform, name)
        events = platform.log().count(Selection(bindings=live.bindings, accepted_from=live.since))
        show([{"consumer": name, "events": events}], as_json=as_json)
        return
    arguments = {} if max_change is None else {"max_change": _checked_bound(max_change)}
    if diff:
        arguments["then"] = SWAP if yes else ASK if _can_ask(as_json) else DROP
        _show_decided(name, rebuild_decided(platform, name, arguments, _chosen), as_json=as_json)
        return
    if arguments:
        arguments["then"] = SWAP
    answer = ask(platform, name, "rebuild", arguments).answer
    told = {key: value for key, value in answer.items() if as_json or key != "difference"}
    show([{"consumer": name, **told}], as_json=as_json)


def _show_decided(name: str, request: Request, *, as_json: bool) -> None:
    answer = request.answer
    if as_json:
        show([{"consumer": name, **answer}], as_json=True)
        return
    if request.arguments["then"] != ASK:
        _show_difference(answer["difference"])
    live_now = f"generation {answer['generation']} is live now."
    click.echo(f"{name}: {live_now if answer['swapped'] else 'nothing was changed.'}")


def _checked_bound(text: str) -> str:
    try:
        bound(text)
    except ValueError as error:
        raise click.UsageError(f"--max-change: {error}.") from error
    return text


def _can_ask(as_json: bool) -> bool:
    return sys.stdin.isatty() and not as_json


def _chosen(difference: dict[str, Any]) -> bool:
    _show_difference(difference)
    try:
        return click.confirm("let it go live?", err=True)
    except click.Abort as aborted:
        click.echo(err=True)  # the question ends no line
        raise KeyboardInterrupt from aborted


def _show_difference(difference: dict[str, Any]) -> None:
    figures = Figures(**difference)
    if figures.examples:
        show(rows(figures.examples), as_json=False)
    more = figures.differing - len(figures.examples)
    if more > 0:
        click.echo(f"… and {more} more.")
    click.echo(figures.sentence())
