"""Commands about consumers: what each one is doing, pausing it, and the proof of promise 5."""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

import click

from consumers.runtime.asking import Check, ask, check_known
from consumers.runtime.audit import Accepting, audit_accepting, audit_consumer
from consumers.runtime.control import Control
from consumers.runtime.doctor import findings
from consumers.runtime.status import Installation, statuses
from events.commands import PacelineGroup
from events.errors import PacelineError
from events.log import LogReader
from events.progress import progress, show
from events.settings import Settings


class Platform(Protocol):
    """What these commands need."""

    settings: Settings
    installation: Installation

    def log(self) -> LogReader:
        """Return the event log, for reading."""

    def control(self) -> Control:
        """Return the requests."""

    def accepting(self) -> Sequence[Accepting]:
        """Return what each accepting host remembers."""

    def remove(self, consumer: str) -> list[str]:
        """Take a consumer's queue and state away, and return what there was."""

    def worker_for(self, consumer: str) -> AbstractContextManager[Check]:
        """Have somebody do what is asked of a consumer."""


@click.group(
    cls=PacelineGroup,
    elsewhere={"new": "consumers.kit_commands:new", "check": "consumers.kit_commands:check"},
)
def consumers() -> None:
    """Look at consumers, pause and resume them; write a new one, and check it."""


@consumers.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def list_consumers(platform: Platform, as_json: bool) -> None:
    """List consumers: state, version, lag, retrying, dead, rate.

    \b
    Example:
      paceline consumers list
    """
    found = [asdict(one) for one in statuses(platform.installation, now=datetime.now(UTC))]
    if not as_json:
        found = [{title: one[name] for name, title in _SHOWN.items()} for one in found]
    show(found, as_json=as_json, empty="There is no consumer.")


_SHOWN = {
    "name": "name",
    "state": "state",
    "version": "version",
    "lag": "lag",
    "oldest_pending_age_s": "oldest s",
    "applied": "applied",
    "retrying": "retrying",
    "dead": "dead",
    "rate_per_s": "per s",
    "caught_up_in_s": "left s",
    "reason": "why",
}


@consumers.command()
@click.argument("name")
@click.pass_obj
def pause(platform: Platform, name: str) -> None:
    """Let a consumer stand still; what comes meanwhile waits for it.

    \b
    Example:
      paceline consumers pause leaderboard
    """
    ask(platform, name, "pause", {})
    click.echo(f"{name} stands still. Go on with: paceline consumers resume {name}")


@consumers.command()
@click.argument("name")
@click.pass_obj
def resume(platform: Platform, name: str) -> None:
    """Let a paused consumer go on.

    \b
    Example:
      paceline consumers resume leaderboard
    """
    ask(platform, name, "resume", {})
    click.echo(f"{name} goes on.")


@consumers.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(platform: Platform, name: str, yes: bool) -> None:
    """Take away what a consumer has left, queue and state, once its code is gone.

    \b
    Example:
      paceline consumers remove recovery --yes
    """
    if name in platform.installation.names():
        place = platform.installation.found()[name].place
        raise PacelineError(
            f"{name} is still there: {place}. Take that away first; else it would come again."
        )
    if not yes and not click.confirm(f"Take away the queue and the state of {name}?", err=True):
        click.echo("Nothing was changed.")
        sys.exit(1)
    gone = platform.remove(name)
    click.echo(f"Gone: {name}, {' and '.join(gone)}." if gone else f"Nothing was left of {name}.")


@click.command()
@click.option("--consumer", "only", multiple=True, help="This consumer only; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def audit(platform: Platform, only: tuple[str, ...], as_json: bool) -> None:
    """Prove that every accepted event is logged and has one fate for every consumer.

    Works while traffic flows. Exit code 1, and the ids, where it does not hold.

    \b
    Example:
      paceline audit
    """
    for name in only:
        check_known(platform.installation, name)
    rows, wrong = [], []
    accepting = platform.accepting()
    log = platform.log()
    names = [name for name in platform.installation.names() if not only or name in only]
    with progress("auditing") as report:
        for host in accepting:
            accepted = audit_accepting(host, log)
            wrong += [("accepted and not logged", event_id) for event_id in accepted.missing]
            wrong += [("refused by the log", event_id) for event_id in accepted.set_aside]
            rows.append({"audited": "accepting", **_without_lists(asdict(accepted))})
        for place, name in enumerate(names):
            row, faults = _audited(platform, log, name)
            rows.append(row)
            wrong += faults
            report(place + 1, len(names))
    _say(rows, wrong, as_json=as_json)


def _audited(
    platform: Platform, log: LogReader, name: str
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    store = platform.installation.store(name)
    if store is None:
        return {"audited": name, "state": "not started"}, []
    with store.moment():
        live = store.live()
        if live is None:
            return {"audited": name, "state": "not started"}, []
        found = audit_consumer(name, store, live, log)
    faults = [(f"{name} has no fate for", event_id) for event_id in found.without_fate]
    faults += [
        (f"{name} has a fate for a position not logged,", at) for at in found.unknown_positions
    ]
    apart = {"unreadable": found.unreadable, "healed": found.healed}
    shown = {what: count for what, count in apart.items() if count}
    return {"audited": name, "logged": found.logged, **found.fates, **shown}, faults


def _without_lists(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not isinstance(value, list)}


def _say(rows: list[dict[str, Any]], wrong: list[tuple[str, str]], *, as_json: bool) -> None:
    if as_json:
        faults = [{"fault": fault, "id": event_id} for fault, event_id in wrong]
        show([{"audited": rows, "faults": faults}], as_json=True)
    else:
        for row in rows:
            click.echo("  ".join(f"{name}={value}" for name, value in row.items()))
        for fault, event_id in wrong:
            click.echo(f"WRONG: {fault} {event_id}", err=True)
        click.echo("It does not hold." if wrong else "Every event has its fate.")
    if wrong:
        sys.exit(1)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def doctor(platform: Platform, as_json: bool) -> None:
    """Look for what would go wrong on this machine; exit code 1 where something would.

    \b
    Example:
      paceline doctor
    """
    found = []
    for one in findings(platform.settings):
        found.append(one)
        if not as_json:
            click.echo(f"{'ok  ' if one.ok else 'BAD '} {one.what}: {one.detail}")
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found]))
    if not all(one.ok for one in found):
        sys.exit(1)
