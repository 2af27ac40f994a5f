"""`python -m tests.bench`: measures, and prints one table; a target that is missed fails nothing.

All ratios are of one run, of measurements that alternate with what they are compared with. Load of
others on the machine changes both, and shows as a spread of the pairs.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType

from tests.bench import arrival, delay, fold, growth, idle, posts, rebuild
from tests.bench.figures import Figure, Say, Void, show
from tests.bench.scale import FULL, QUICK, Scale

PARTS: dict[str, Callable[[Scale, Say], list[Figure]]] = {
    "posts": posts.measure,
    "fold": fold.measure,
    "growth": growth.measure,
    "delay": delay.measure,
    "idle": idle.measure,
    "arrival": arrival.measure,
    "rebuild": rebuild.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for; 1 where a measurement is void, 130 where it was stopped."""
    asked = _asked(arguments)
    signal.signal(signal.SIGTERM, _stop)
    for name in [name for name in os.environ if name.startswith("PACELINE_")]:
        del os.environ[name]  # what is measured are the defaults
    scale = QUICK if asked.quick else FULL
    if asked.pairs:
        scale = replace(scale, pairs=asked.pairs)
    title = _machine(quick=asked.quick)
    try:
        figures = [figure for part in asked.parts or PARTS for figure in PARTS[part](scale, _say)]
    except Void as void:
        _say(f"Void: {void}")
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
        return 130
    if asked.json:
        print(json.dumps({"title": title, "figures": [one.as_json() for one in figures]}))
    else:
        show(figures, title=title)
    return 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--pairs", type=int, help="how often each comparison is measured; 5")
    parser.add_argument("--quick", action="store_true", help="to try it; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="every single figure")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"There is no part {', '.join(sorted(unknown))}; parts: {', '.join(PARTS)}.")
    return asked


def _machine(*, quick: bool) -> str:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    note = "; QUICK, these figures mean nothing" if quick else ""
    return f"{os.cpu_count()} cores, {python}, load average at the start {load}{note}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
