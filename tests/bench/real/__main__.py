"""`python -m tests.bench.real`: measures on real servers, and prints one table.

A target that is missed fails nothing. All ratios are of one run, of measurements that alternate
with what they are compared with; load of others shows as a spread of the pairs.
"""

import argparse
import json
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType

import structlog

from tests.bench.figures import Figure, Say, Void, show
from tests.bench.real import outage, relay, two_workers, worker
from tests.bench.real.servers import Servers, servers
from tests.bench.running import temporary_folder
from tests.bench.scale import FULL, QUICK, Scale

PARTS: dict[str, Callable[[Servers, Scale, Say], list[Figure]]] = {
    "relay": relay.measure,
    "worker": worker.measure,
    "workers": two_workers.measure,
    "outage": outage.measure,
}
PROFILES: dict[str, Callable[[Servers, Scale], None]] = {
    "relay": relay.profile,
    "worker": worker.profile,
}
_SLOW = "outage"


def main(arguments: Sequence[str]) -> int:
    """Measure what is asked for; 1 where a measurement is void, 130 where it was stopped."""
    asked = _asked(arguments)
    signal.signal(signal.SIGTERM, _stop)
    for name in [name for name in os.environ if name.startswith("PACELINE_")]:
        del os.environ[name]  # what is measured are the defaults
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    scale = QUICK if asked.quick else FULL
    if asked.pairs:
        scale = replace(scale, pairs=asked.pairs)
    title = _machine(quick=asked.quick)
    try:
        figures = _profiled(asked, scale) if asked.profile else _measured(asked, scale)
    except Void as void:
        _say(f"Void: {void}")
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
        return 130
    if asked.json:
        print(json.dumps({"title": title, "figures": [one.as_json() for one in figures]}))
    elif figures:
        show(figures, title=title)
    return 0


def _measured(asked: argparse.Namespace, scale: Scale) -> list[Figure]:
    parts = asked.parts or [name for name in PARTS if name != _SLOW or asked.outage]
    with temporary_folder() as folder, servers(folder) as running:
        return [figure for part in parts for figure in PARTS[part](running, scale, _say)]


def _profiled(asked: argparse.Namespace, scale: Scale) -> list[Figure]:
    with temporary_folder() as folder, servers(folder) as running:
        for part in asked.parts or PROFILES:
            PROFILES[part](running, scale)
    return []


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--pairs", type=int, help="how often each comparison is measured; 5")
    parser.add_argument("--quick", action="store_true", help="to try it; the figures mean nothing")
    parser.add_argument("--outage", action="store_true", help="also the outage, three minutes more")
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    parser.add_argument("--json", action="store_true", help="every single figure")
    asked = parser.parse_args(arguments)
    known = PROFILES if asked.profile else PARTS
    if unknown := set(asked.parts) - set(known):
        parser.error(f"There is no part {', '.join(sorted(unknown))}; parts: {', '.join(known)}.")
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
