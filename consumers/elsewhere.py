"""Folding in other processes, where Python puts sets in another order: nobody may see which."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from consumers.conformance import Checked
from consumers.generated import generated
from consumers.runtime.registry import load, single
from consumers.trying import NotConforming, tried
from events.envelope import Event
from events.topology import wanted

_SEEDS = ("1", "2")  # of the order of sets: fixed, so that what is found once is found again
_WITHIN_S = 120


def check_elsewhere(file: Path) -> Checked:
    """Fold the generated events of a file's consumer in two processes, and compare."""
    try:
        one, other = (_documents(file, seed) for seed in _SEEDS)
    except (ValueError, subprocess.TimeoutExpired) as error:
        return Checked("processes", ok=False, detail=f"{file.name} in a new process: {error}")
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            flaw = NotConforming(
                f"{file.stem}: document {key!r} is {one.get(key)} in one process and "
                f"{other.get(key)} in another; is a set in it, which has no order?",
                _behind(file, key),
            )
            return Checked("processes", ok=False, detail=str(flaw), events=tuple(flaw.events))
    return Checked("processes", ok=True, detail="the same wherever sets have another order")


def _documents(file: Path, seed: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "consumers.elsewhere", str(file)],
        env={**os.environ, "PYTHONHASHSEED": seed},
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


if __name__ == "__main__":
    made = tried(load(single(Path(sys.argv[1]))).consumer, generated()).documents
    sys.stdout.write(json.dumps(made) + "\n")
