"""The command that explains a document: the events behind it, and whether they make it again."""

import json
from collections.abc import Iterator
from typing import Any

import click

from consumers.runtime.asking import state_of
from consumers.runtime.differences import rows
from consumers.runtime.explaining import Explanation
from consumers.runtime.explaining import explain as explained
from consumers.runtime.registry import Loaded, Unfit, load
from consumers.runtime.store import Generation
from consumers.what_if_commands import bounded_memory, prints_apart, say_more, show_failures
from events.envelope import read_envelope
from events.errors import PacelineError
from events.log import Logged, Selection
from events.progress import progress, show


@click.command()
@click.argument("consumer")
@click.argument("key")
@click.option("--user", help="Only this user's events can have made it: much faster.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def explain(
    platform: Any, consumer: str, key: str, user: str | None, limit: int, as_json: bool
) -> None:
    """List the events behind a document, fold them again, and say whether it is the same.

    Nothing is written. The consumer's code runs in this process. It looks through the whole log,
    because the code alone knows whose document a key is.

    \b
    Example:
      paceline explain calories ada/2026-11-24 --user ada
    """
    store, live = state_of(platform, consumer)
    try:
        with prints_apart():
            loaded = load(platform.installation.found()[consumer])
    except Unfit as unfit:
        raise PacelineError(f"{consumer} cannot be explained without its code: {unfit}") from unfit
    if not hasattr(loaded.consumer, "keys"):
        raise PacelineError(f"{consumer} is a handler: it has no documents to explain.")
    log = platform.log()
    total = log.count(Selection(bindings=live.bindings, user_id=user))
    with progress(f"explain {consumer}") as report, prints_apart(), bounded_memory():
        found = explained(
            loaded,
            key,
            log,
            store,
            live,
            user=user,
            looked=lambda count: report(count, max(total, count)),
        )
    if not found.events and found.live is None and not found.others:
        raise PacelineError(f"{consumer} has no document {key!r}, and no event names it.")
    remarks = list(_about_code(loaded, live))
    if as_json:
        click.echo(json.dumps(_told(consumer, found, remarks), ensure_ascii=False))
    else:
        _show(consumer, found, remarks, limit=limit)


def _about_code(loaded: Loaded, live: Generation) -> Iterator[str]:
    if loaded.version != live.version:
        yield (
            f"The code here is version {loaded.version}, and the documents are of version "
            f"{live.version}."
        )
    elif loaded.code != live.code:
        yield "The code was changed since the documents were begun, and its version was not."


def _told(consumer: str, found: Explanation, remarks: list[str]) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "key": found.key,
        "events": [_event(row) for row in found.events],
        "others": found.others,
        "live": found.live,
        "document": found.document,
        "same": not found.fields,
        "fields": found.fields,
        "failures": [one._asdict() for one in found.failures],
        "remarks": remarks,
    }


def _event(row: Logged) -> dict[str, Any]:
    envelope = read_envelope(row.body)
    return {
        "number": row.place,
        "event_id": row.event_id,
        "routing_key": row.routing_key,
        "user": envelope.subject,
        "happened_at": envelope.time.isoformat(),
        "accepted_at": envelope.acceptedat.isoformat(),
    }


def _show(consumer: str, found: Explanation, remarks: list[str], *, limit: int) -> None:
    show([_event(row) for row in found.events[:limit]], as_json=False, empty="No event made it.")
    say_more(len(found.events) - limit)
    for fate, count in found.others.items():
        click.echo(f"{count} more name it and are not in it: {fate}.")
    show_failures(found.failures, limit)
    click.echo(f"live: {'none' if found.live is None else json.dumps(found.live)}")
    if found.fields:
        click.echo(
            f"made again: {'none' if found.document is None else json.dumps(found.document)}"
        )
        what = {"what": "differs", "key": found.key, "fields": found.fields}
        show(rows([what]), as_json=False)
    same = "is not what these events make" if found.fields else "is what these events make"
    told = f"{consumer}: the live document of {found.key} {same} ({len(found.events)} in all)."
    click.echo(" ".join([told, *remarks]))
