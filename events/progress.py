"""What people see on a terminal: tables, and a bar with the time left on what takes long."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Report = Callable[[int, int], None]


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "Nothing.") -> None:
    """Print rows: JSON for machines, a table for people, `empty` where there are none."""
    # A pipe has no width: whole values there, one row a line.
    console = Console(width=None if sys.stdout.isatty() else 400)
    if as_json:
        print(json.dumps(list(rows), default=str))  # noqa: T201  # rich would wrap and colour it
    elif not rows:
        console.print(empty)
    else:
        console.print(_table(rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        right = isinstance(rows[0][name], int | float)
        table.add_column(name.replace("_", " "), justify="right" if right else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    return table


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Show a bar on stderr where that is a terminal; the block reports how much of how much."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
