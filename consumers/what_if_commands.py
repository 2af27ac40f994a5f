"""The command that asks what code would make of history; it reads, and writes nothing."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from consumers.runtime.asking import check_known, state_of
from consumers.runtime.differences import Figures, compare, rows
from consumers.runtime.registry import Loaded
from consumers.runtime.selecting import not_before
from consumers.runtime.sweep import remaining
from consumers.runtime.what_if import Failure, Trial, load_file, pages
from events.commands import moment
from events.errors import PacelineError
from events.exporting import whole_file
from events.log import LogReader, Selection
from events.progress import progress, show

_LONGEST = 100


@click.command("what-if")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "start", help="Accepted at or after this time.")
@click.option("--to", "end", help="Accepted before this time.")
@click.option("--user", help="Of this user only.")
@click.option("--type", "kind", help="Of this type only, such as workout.completed.")
@click.option("--against", help="Show the difference to this consumer's live documents.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all documents to this .ndjson.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="All of it, one JSON object a line.")
@click.pass_obj
def what_if(
    platform: Any,
    file: Path,
    start: str | None,
    end: str | None,
    user: str | None,
    kind: str | None,
    against: str | None,
    out: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Fold history with code that nobody has installed, and show what it makes.

    In memory: no file and no database changes. The code runs in this process; Ctrl-C ends it. With
    a folder for --out, the file in it is called after the consumer.

    \b
    Example:
      paceline what-if calories.py --user ada --against calories
    """
    earliest, latest = moment(start, "--from"), moment(end, "--to")
    if out is not None and out.suffix != ".ndjson" and not out.is_dir():
        raise click.UsageError(
            f"--out is {str(out)!r}; name a file that ends in .ndjson, or a folder."
        )
    if against is not None:
        check_known(platform.installation, against)
    with prints_apart():
        loaded = load_file(file)
    log = platform.log()
    selection = Selection(
        bindings=loaded.bindings,
        user_id=user,
        kind=kind,
        accepted_from=earliest,
        accepted_to=latest,
    )
    if loaded.since not in (None, "now"):  # what it would miss by coming late it is given here
        selection = not_before(selection, datetime.fromisoformat(str(loaded.since)))
    trial = _folded(loaded, log, selection)
    if out is not None:
        _write(out / f"{loaded.name}.ndjson" if out.is_dir() else out, _documents(trial))
    summary = _summary(loaded, trial)
    if against is None:
        _show_documents(trial, summary, limit=limit, as_json=as_json, written=out is not None)
    else:
        partial = any(given is not None for given in (user, kind, earliest, latest))
        _show_against(
            platform, against, trial, summary, partial=partial, limit=limit, as_json=as_json
        )


def _folded(loaded: Loaded, log: LogReader, selection: Selection) -> Trial:
    trial, done, total = Trial(loaded), 0, log.count(selection)
    with progress(f"what if {loaded.name}") as report, prints_apart(), bounded_memory():
        for page in pages(log, selection):
            trial.take(page)
            done += len(page)
            report(done, max(total, done))
    return trial


@contextmanager
def prints_apart() -> Iterator[None]:
    """Let what strangers' code prints not stand among what we print."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Say in one line where all that was asked for does not fit into memory."""
    try:
        yield
    except MemoryError as error:
        raise PacelineError(
            "There is not enough memory for that; take less of the history, such as one --user."
        ) from error


def _documents(trial: Trial) -> Iterator[dict[str, Any]]:
    for key in trial.keys:
        yield {"key": key, "document": trial.get(key)}


def _write(path: Path, told: Iterable[dict[str, Any]]) -> None:
    with whole_file(path) as out:
        for one in told:
            out.write(_line(one).encode() + b"\n")


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False)


def _summary(loaded: Loaded, trial: Trial) -> dict[str, Any]:
    return {
        "consumer": loaded.name,
        "version": loaded.version,
        "folded": trial.folded,
        "failed": len(trial.failures),
        "documents": len(trial.keys),
    }


def _show_documents(
    trial: Trial, summary: dict[str, Any], *, limit: int, as_json: bool, written: bool
) -> None:
    if as_json:
        _print_lines(() if written else _documents(trial), trial.failures, summary)
        return
    some = [] if written else [*islice(_documents(trial), limit)]
    if some:
        shown = [{"key": one["key"], "document": short(one["document"])} for one in some]
        show(shown, as_json=False)
        say_more(len(trial.keys) - len(some))
    show_failures(trial.failures, limit)
    _say_summary(summary)


def _print_lines(
    told: Iterable[dict[str, Any]], failures: Iterable[Failure], summary: dict[str, Any]
) -> None:
    for one in (*told, *(failure._asdict() for failure in failures), {"summary": summary}):
        click.echo(_line(one))


def short(value: Any) -> str:
    """Return a value as JSON of one line that a table can hold."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def say_more(more: int) -> None:
    """Say that a list goes on."""
    if more > 0:
        click.echo(f"… and {more} more; --json shows all of them.")


def show_failures(failures: list[Failure], limit: int) -> None:
    """Show which events the code could not take, and why."""
    if failures:
        show([one._asdict() for one in failures[:limit]], as_json=False)
        say_more(len(failures) - limit)


def _say_summary(summary: dict[str, Any]) -> None:
    click.echo(
        f"{summary['consumer']}, version {summary['version']}: "
        f"{_counted(summary['folded'], 'event')} folded, {summary['failed']} failed, "
        f"{_counted(summary['documents'], 'document')}. Nothing was changed."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s'[: count != 1]}"


def _show_against(
    platform: Any,
    against: str,
    trial: Trial,
    summary: dict[str, Any],
    *,
    partial: bool,
    limit: int,
    as_json: bool,
) -> None:
    (store, live), figures = state_of(platform, against), Figures()
    shown: list[dict[str, Any]] = []
    with store.moment(), progress(f"against {against}") as report:
        pending = remaining(platform.log(), live.bindings, store.watermarks(live.number))
        for one in compare(store.documents(live.number), trial, figures):
            if as_json:
                click.echo(_line(one.told()))
            elif len(shown) < limit:
                shown.append(one.example())
            report(figures.after, max(len(trial.keys), 1))
    remarks = list(_remarks(against, partial=partial, pending=pending))
    if as_json:
        told = {name: getattr(figures, name) for name in _FIGURES}
        summary |= {"against": against, **told, "remarks": remarks}
        _print_lines((), trial.failures, summary)
        return
    if shown:
        show(rows(shown), as_json=False)
        say_more(figures.differing - len(shown))
    show_failures(trial.failures, limit)
    _say_summary(summary)
    click.echo(" ".join([f"Against {against}: {figures.sentence()}", *remarks]))


_FIGURES = ("before", "after", "added", "gone", "changed")


def _remarks(against: str, *, partial: bool, pending: int) -> Iterator[str]:
    if partial:
        yield (
            f"Only a part of the history was folded, and the documents of {against} are of all of "
            "it: what the other events made counts as gone or changed."
        )
    if pending:
        yield f"{against} has not looked at {pending} events yet, which were folded here."
