"""Comparing: a built generation beside the live one, before somebody or a bound lets it go live.

What was decided is in the request's memory, so that it outlives whoever decided it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from consumers.runtime.control import Control, Request
from consumers.runtime.differences import Difference, Figures, difference, is_beyond, stretch
from consumers.runtime.fates import State
from consumers.runtime.store import Generation, StoreReader

ASK, SWAP, DROP, REFUSE = "ask", "swap", "drop", "refuse"
_LOOKS = 5
_REPORT_EVERY_S = 0.5
Remember = Callable[[dict[str, Any]], object]


def compares(request: Request) -> bool:
    """Say whether a request for a rebuild wants it compared before it is swapped."""
    return "then" in request.arguments


def decision(request: Request, generation: int) -> str | None:
    """Return what shall become of a built generation, None while nobody has said."""
    if request.memory.get("generation") != generation:
        return None  # said of another one, before the code was changed
    said = request.memory.get("decision")
    return None if said is None else str(said)


def holds(request: Request, generation: int) -> bool:
    """Say whether a generation must not go live yet, because of this request."""
    return compares(request) and decision(request, generation) != SWAP


def waits(request: Request) -> bool:
    """Say whether somebody has to decide now."""
    memory = request.memory
    return not request.ended and "difference" in memory and memory.get("decision") is None


def decide(control: Control, request: Request, said: str) -> bool:
    """Say what shall become of what was shown; False where the request has ended meanwhile."""
    memory = request.memory | {"decision": said}
    return control.report(request.id, done=request.done, total=request.total, memory=memory)


def compare_in_steps(
    request: Request, store: StoreReader, live: Generation, built: Generation, remember: Remember
) -> Iterator[None]:
    """Compare a part at each step; at the end remember the figures and what they decide."""
    mine = request.memory.get("generation") == built.number
    figures = Figures(**request.memory.get("comparing", {}) if mine else {})
    report_at = 0.0
    while figures.through is not None:
        yield from _next(store, live, built, figures)
        if time.monotonic() >= report_at:
            report_at = time.monotonic() + _REPORT_EVERY_S
            remember({"generation": built.number, "comparing": figures.told()})
        yield
    figures.failing_before, figures.failing = (failing(store, one) for one in (live, built))
    said = _decided(figures, request.arguments)
    remember({"generation": built.number, "difference": figures.told(), "decision": said})


def failing(store: StoreReader, generation: Generation) -> int:
    """Return how many events have failed in a generation, and are retried or dead."""
    counts = store.counts(generation.number)
    return counts[State.RETRYING] + counts[State.DEAD]


def _decided(figures: Figures, arguments: dict[str, Any]) -> str | None:
    most = arguments.get("max_change")
    if most is not None and is_beyond(figures, most):
        return REFUSE
    then = arguments["then"]
    return None if then == ASK else str(then)


def refusal(consumer: str, figures: Figures, most: str) -> str:
    """Return in words why a generation was not let live."""
    return (
        f"{consumer} was not changed, because --max-change allows {most}: {figures.sentence()} "
        f"Look at them with `paceline rebuild {consumer} --diff`, or allow more."
    )


def _next(
    store: StoreReader, live: Generation, built: Generation, figures: Figures
) -> Iterator[None]:
    """Compare the next stretch; what differs is looked at again after a turn.

    An event that has just come may be in one generation and on its way into the other: only what
    goes on to differ counts.
    """
    with store.moment():
        before, after = store.documents(live.number), store.documents(built.number)
        here = stretch(before, after, past=figures.through or "")
    found = list(here.differences())
    for _ in range(_LOOKS):
        if not found:
            break
        yield
        earlier, found = found, list(_again(store, live, built, found))
        if len(found) == len(earlier):
            break
    figures.passed(here)
    for one in found:
        figures.found(one)


def _again(
    store: StoreReader, live: Generation, built: Generation, found: Sequence[Difference]
) -> Iterator[Difference]:
    with store.moment():
        before, after = store.documents(live.number), store.documents(built.number)
        for one in found:
            still = difference(one.key, before.get(one.key), after.get(one.key))
            if still is not None:
                yield still
