"""What the whole platform costs when nothing happens, after something had happened."""

import json
import time

import psutil

from tests.acceptance.platform import BUILT_IN, Platform, until
from tests.bench.figures import Figure, Say, Void
from tests.bench.running import running
from tests.bench.scale import Scale

_BATCHES, _A_BATCH = 2, 1_000


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Let it fold some workouts and settle, then look at its processes."""
    with running("run") as platform:
        for number in range(_BATCHES):
            _post_batch(platform, number)
        until(lambda: _done(platform), what="every consumer has applied them")
        time.sleep(scale.settle_s)
        processes = _processes(platform)
        before_s = _cpu_s(processes)
        start = time.monotonic()
        time.sleep(scale.idle_s)
        cpu = (_cpu_s(processes) - before_s) / (time.monotonic() - start) * 100
        memory = [process.memory_full_info() for process in processes]
        if _processes(platform) != processes:
            raise Void("Processes ended or were started while nothing happened.")
    pss, rss = (sum(getattr(one, of) for one in memory) / 2**20 for of in ("pss", "rss"))
    count = len(processes)
    say(f"idle: {count} processes: {cpu:.1f} % of a core, PSS {pss:.0f} MiB, RSS {rss:.0f} MiB")
    return [
        Figure(part="idle", what="CPU of the whole platform", unit="% of a core", values=[cpu]),
        Figure(part="idle", what=f"memory, PSS of {count} processes", unit="MiB", values=[pss]),
        Figure(part="idle", what="memory, RSS", unit="MiB", values=[rss]),
    ]


def _post_batch(platform: Platform, number: int) -> None:
    workouts = [
        {
            "workout_id": f"b{number}-{place}",
            "user_id": f"user-{place}",
            "sport": "running",
            "started_at": f"2025-10-{1 + place % 28:02}T07:30:00+01:00",
            "duration_s": 1800,
        }
        for place in range(_A_BATCH)
    ]
    answer = platform.post("/v1/workouts/batch", json.dumps({"items": workouts}).encode())
    if answer.status != 202:
        raise Void(f"A batch was answered with {answer.status}: {answer.body}")


def _done(platform: Platform) -> bool:
    consumers = platform.consumers()
    return all(
        name in consumers and consumers[name]["applied"] == _BATCHES * _A_BATCH for name in BUILT_IN
    )


def _processes(platform: Platform) -> list[psutil.Process]:
    supervisor = psutil.Process(platform.supervisor.pid)
    return [supervisor, *sorted(supervisor.children(recursive=True), key=lambda one: one.pid)]


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)
