"""What was measured: figures, their ratios and targets, and the one table of them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 120
_CAPTION = (
    "ratio: of the medians; pairs: the lowest and the highest of one pair, alike if undisturbed"
)
Say = Callable[[str], None]


class Void(Exception):
    """What was timed is not what was to be measured; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; `values` and `bare` were measured in turn, so they are pairs."""

    part: str
    what: str
    unit: str
    values: Sequence[float]
    against: str = ""
    bare: Sequence[float] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def ratio(self) -> float | None:
        """The medians' ratio."""
        return self.value / median(self.bare) if self.bare else None

    @property
    def ratios(self) -> list[float]:
        """Each pair's ratio: how far they are apart says how much the machine was disturbed."""
        return [value / bare for value, bare in zip(self.values, self.bare, strict=False)]

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        judged = self.value if self.ratio is None else self.ratio
        if self.at_least is not None:
            return judged >= self.at_least
        return judged <= self.at_most if self.at_most is not None else None

    def as_json(self) -> dict[str, Any]:
        """All that was measured, and what follows from it."""
        return {
            "part": self.part,
            "what": self.what,
            "unit": self.unit,
            "median": self.value,
            "values": list(self.values),
            "against": self.against or None,
            "bare_median": median(self.bare) if self.bare else None,
            "bare_values": list(self.bare),
            "ratio": self.ratio,
            "ratios": self.ratios,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "met": self.met,
        }


def show(figures: Sequence[Figure], *, title: str) -> None:
    """Print the table; `pairs` are the lowest and the highest ratio of a pair."""
    table = Table(title=title, title_justify="left", title_style="", caption=_CAPTION)
    for heading in ("part", "what", "median", "against", "ratio", "pairs", "target", ""):
        numeric = heading in ("median", "ratio", "pairs", "target")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    for place, figure in enumerate(figures):
        last = place + 1 == len(figures) or figures[place + 1].part != figure.part
        table.add_row(*_row(figure), end_section=last)
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)


def _row(figure: Figure) -> list[str]:
    against = f"{figure.against} {_number(median(figure.bare))}" if figure.bare else ""
    ratios = figure.ratios
    return [
        figure.part,
        figure.what,
        f"{_number(figure.value)} {figure.unit}".strip(),
        against,
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        f"{min(ratios):.2f}–{max(ratios):.2f}" if len(ratios) > 1 else "",
        _target(figure),
        {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met],
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _target(figure: Figure) -> str:
    if figure.at_least is not None:
        return f"≥ {figure.at_least:.2f}"
    return "" if figure.at_most is None else f"≤ {figure.at_most:g}"
