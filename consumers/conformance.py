"""The conformance suite: whether a consumer keeps its contract, and the few events that show it."""

import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from consumers import Projection
from consumers.growing import check_growth
from consumers.purity import watched
from consumers.runtime.query.templates import parsed
from consumers.runtime.shape import problems
from consumers.timing import check_time
from consumers.trying import NotConforming, Tried, tried
from events.envelope import Event
from events.topology import wanted

Events = Sequence[Event]


class Checked(NamedTuple):
    """One thing that was looked at; `events` are the ids of the few that show what is wrong."""

    check: str
    ok: bool
    detail: str
    events: tuple[str, ...] = ()


def examine(consumer: Any, events: Events) -> Iterator[Checked]:
    """Look at one part of the contract after the other; what rests on a part that fails is left.

    `events` are folded as if each id came once. Growth is looked at with two years of workouts.
    """
    for name, look in _checks(consumer).items():
        try:
            detail = look(consumer, events)
        except NotConforming as flaw:
            yield Checked(name, ok=False, detail=str(flaw), events=tuple(flaw.events))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the author's code raises
            yield Checked(name, ok=False, detail=_raised(consumer, error))
        else:
            yield Checked(name, ok=True, detail=detail)
            continue
        if name in _ALL_REST_ON:
            return


def check_all(consumer: Projection, events: Events) -> None:
    """Raise NotConforming with the first part of the contract that does not hold."""
    for name, look in _checks(consumer).items():
        if name not in ("growth", "time"):
            look(consumer, events)


def parts(consumer: Any) -> list[str]:
    """Return the names of the parts of the contract that are looked at, in their order."""
    return list(_checks(consumer))


def _checks(consumer: Any) -> dict[str, Callable[[Any, Events], str]]:
    if hasattr(consumer, "handle"):
        return {"shape": _shape}  # to call it would be to act
    return {
        "shape": _shape,
        "fold": _fold,
        "purity": _purity,
        **{name: partial(_ways, of=name) for name in _WAYS},
        "growth": check_growth,
        "time": check_time,
    }


_ALL_REST_ON = ("shape", "fold")


def _shape(consumer: Any, events: Events) -> str:
    name = getattr(consumer, "name", None)
    wrong = list(problems(str(name), consumer))
    for path in getattr(consumer, "reads", {}) if not wrong else ():
        try:
            parsed(path)
        except ValueError as error:
            wrong.append(f"read {error}")
    if wrong:
        raise NotConforming(f"{name}: {'; '.join(wrong)}.")
    what = "a handler, which is not called here" if hasattr(consumer, "handle") else "a projection"
    return f"{name} is {what}, version {consumer.version}"


def _fold(consumer: Projection, events: Events) -> str:
    mine = [event for event in events if wanted(consumer.bindings, event.routing_key)]
    if events and not mine:
        bindings = ", ".join(consumer.bindings)
        raise NotConforming(
            f"{consumer.name} is bound to {bindings}, which none of {len(events)} events matches."
        )
    found = tried(consumer, mine)
    if not found.documents and not found.told and any(list(consumer.keys(event)) for event in mine):
        raise NotConforming(
            f"{consumer.name}: {len(mine)} events leave every document empty. Change the one that "
            'you are given (document["n"] = 1), and assign nothing to its name; for an event that '
            "changes nothing give no key."
        )
    facts = f" and {len(found.told)} facts" if hasattr(consumer, "react") else ""
    return f"{len(mine)} events make {len(found.documents)} documents{facts}"


def _purity(consumer: Projection, events: Events) -> str:
    if not _asked(consumer, events):
        return "no clock, no chance, no file, no network"
    few = fewest(events, lambda some: bool(_asked(consumer, some)))
    asked = "; ".join(_asked(consumer, few))
    raise NotConforming(
        f"{consumer.name} asks more than the event and its documents: {asked}.", few
    )


def _asked(consumer: Projection, events: Events) -> list[str]:
    with watched() as asked:
        tried(consumer, events)
    return asked


def _halves(consumer: Projection, events: Events) -> Tried:
    return tried(consumer, events, batch=math.ceil(len(events) / 2) or 1, restarts=True)


Way = Callable[[Projection, Events], Tried]
_WAYS: dict[str, dict[str, Way]] = {
    "order": {
        "in the opposite order": lambda consumer, events: tried(consumer, events[::-1]),
        **{f"in random order {seed}": partial(tried, seed=seed) for seed in range(1, 6)},
    },
    # A delivery that comes twice, or a commit that lost a race, is folded twice; one fold counts.
    "duplicates": {
        "with every event twice": lambda consumer, events: tried(
            consumer, [*events, *events], tries=2
        )
    },
    "batches": {
        "in batches of 3": partial(tried, batch=3),
        "as one batch": partial(tried, batch=sys.maxsize),
    },
    "rebuild": {"in two halves with a restart between": _halves},
}


def _ways(consumer: Projection, events: Events, *, of: str) -> str:
    given = list({event.id: event for event in events}.values())
    expected = tried(consumer, given)
    for how, way in _WAYS[of].items():
        if _differ(way(consumer, given), expected):
            raise _difference(consumer, given, how, way)
    return f"the same {', '.join(_WAYS[of])}"


def _differ(one: Tried, other: Tried) -> bool:
    return one.documents != other.documents or one.told != other.told


def _difference(consumer: Projection, events: Events, how: str, way: Way) -> NotConforming:
    def differs(some: Events) -> bool:
        return _differ(way(consumer, some), tried(consumer, some))

    few = fewest(events, differs)
    expected, found = tried(consumer, few), way(consumer, few)
    for key in expected.documents | found.documents:
        now, then = found.documents.get(key), expected.documents.get(key)
        if now != then:
            return NotConforming(
                f"{consumer.name}: document {key!r} is {now} when folded {how}, and "
                f"{then} when folded as given.",
                few,
            )
    now_told, then_told = (sorted(key for _, key in one.told) for one in (found, expected))
    return NotConforming(
        f"{consumer.name} tells the facts {now_told} when folded {how}, and {then_told} when "
        "folded as given.",
        few,
    )


def fewest(events: Events, shows: Callable[[Events], bool]) -> list[Event]:
    """Return a smallest part of the events that still shows it: of these, none can be left out."""
    few, size = list(events), max(1, len(events) // 2)
    while True:
        before, at = len(few), 0
        while at < len(few):
            fewer = few[:at] + few[at + size :]
            if fewer and _shows(shows, fewer):
                few = fewer
            else:
                at += size
        if size == 1 and len(few) == before:
            return few
        size = max(1, size // 2)


def _shows(shows: Callable[[Events], bool], events: Events) -> bool:
    try:
        return shows(events)
    except Exception:  # noqa: BLE001  # another fault of the same code, and not the one looked for
        return False


def _raised(consumer: Any, error: BaseException) -> str:
    """Say in a sentence what the author's code raised, where, and with which event."""
    file = getattr(sys.modules.get(type(consumer).__module__), "__file__", None)
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if step.filename == file] or steps
    where = f"{own[-1].filename}, line {own[-1].lineno}"
    notes = " ".join(getattr(error, "__notes__", ()))
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{where}, in {own[-1].name}(): {said}. {notes}".strip()
