"""Folding in other processes, with other orders and another time zone: nobody may see which."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from consumers.conformance import Checked
from consumers.generated import generated
from consumers.purity import watched
from consumers.runtime.registry import load, single
from consumers.trying import NotConforming, tried
from events.envelope import Event
from events.topology import wanted


class _World(NamedTuple):
    """What differs between processes; fixed, so that what is found once is found again."""

    seed: str  # of the order of sets
    zone: str
    order: str  # of the events: what a class or a module keeps shows in the other one


_WORLDS = (_World("1", "UTC-13", "forwards"), _World("2", "UTC+11", "backwards"))
_WITHIN_S = 120
# Asked when a file is loaded, these differ from process to process; a zone's file may be read then.
_FLEETING = ("date", "time.", "random.", "os.urandom")


def check_elsewhere(file: Path) -> Checked:
    """Fold the generated events of a file's consumer in two processes, and compare."""
    try:
        one, other = (_documents(file, world) for world in _WORLDS)
    except (ValueError, subprocess.TimeoutExpired) as error:
        return Checked("processes", ok=False, detail=f"{file.name} in a new process: {error}")
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            flaw = NotConforming(
                f"{file.stem}: document {key!r} is {one.get(key)} in one process and "
                f"{other.get(key)} in another, where sets, events, addresses and the time zone are "
                "otherwise; is it of a set, which has no order, of an address (repr), of the local "
                "time zone (astimezone), or of what a class or a module keeps?",
                _behind(file, key),
            )
            return Checked("processes", ok=False, detail=str(flaw), events=tuple(flaw.events))
    return Checked("processes", ok=True, detail="the same with other orders and time zones")


def _documents(file: Path, world: _World) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "consumers.elsewhere", str(file), world.order],
        env={**os.environ, "PYTHONHASHSEED": world.seed, "TZ": world.zone},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
    )
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])  # the code may print, too
    return found


def _behind(file: Path, key: str) -> Sequence[Event]:
    consumer = load(single(file)).consumer
    mine = [event for event in generated() if wanted(consumer.bindings, event.routing_key)]
    return [event for event in mine if key in consumer.keys(event)]


def _loaded(file: Path) -> Any:
    with watched() as asked:
        consumer = load(single(file)).consumer
    own = [one for one in asked if f" in {file.name}, line " in one and one.startswith(_FLEETING)]
    if own:
        sys.exit(f"it asks while it is loaded what each process is told otherwise: {own[0]}")
    return consumer


def _main(file: Path, order: str) -> None:
    step = -1 if order == "backwards" else 1
    made = tried(_loaded(file), generated()[::step]).documents
    sys.stdout.write(json.dumps(made) + "\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
