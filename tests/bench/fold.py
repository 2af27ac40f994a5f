"""Events that calories folds and commits a second, against a bare loop with an inbox."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import apsw

from events.envelope import from_bytes
from events.log.sqlite import SqliteEventLog
from tests.bench.figures import Figure, Say, Void
from tests.bench.folding import CaloriesAtWork, append
from tests.bench.history import history
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_LEAST = 0.30
A_COMMIT = 200


def measure(scale: Scale, say: Say) -> list[Figure]:
    """Fold the same log into a new store, and loop over the same bytes, in turn."""
    folded, looped = [], []
    with temporary_folder() as folder:
        bodies = _logged(folder / "log.db", scale.fold_events)
        for number in range(scale.pairs):
            folded.append(_fold(folder, number, len(bodies)))
            say(f"fold: calories: {folded[-1]:,.0f}/s")
            looped.append(_loop(folder / f"inbox-{number}.db", bodies))
            say(f"fold: bare loop: {looped[-1]:,.0f}/s")
    return [
        Figure(
            part="fold",
            what="calories folds and commits",
            unit="events/s",
            values=folded,
            against=f"decode, add, insert id; {A_COMMIT} a commit",
            bare=looped,
            at_least=AT_LEAST,
        )
    ]


def _logged(path: Path, count: int) -> list[bytes]:
    log = SqliteEventLog(path)
    events = list(islice(history(seed=1), count))
    append(log, events)
    log.close()
    return [event.body for event in events]


def _fold(folder: Path, number: int, count: int) -> float:
    calories = CaloriesAtWork(folder / "log.db", folder / f"calories-{number}.db")
    took_s = calories.fold()
    calories.check_applied(count)
    return count / took_s


def _loop(path: Path, bodies: Sequence[bytes]) -> float:
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA synchronous=FULL").fetchall()
    db.execute("CREATE TABLE inbox (id TEXT PRIMARY KEY)")
    total_ms = 0
    start = time.perf_counter()
    for first in range(0, len(bodies), A_COMMIT):
        events = [from_bytes(body) for body in bodies[first : first + A_COMMIT]]
        db.execute("BEGIN IMMEDIATE")
        for event in events:
            total_ms += event.data.duration_ms
        db.executemany("INSERT INTO inbox VALUES (?)", [(event.id,) for event in events])
        db.execute("COMMIT")
    took_s = time.perf_counter() - start
    kept = db.execute("SELECT count(*) FROM inbox").get
    db.close()
    if kept != len(bodies) or not total_ms:
        raise Void(f"The bare loop kept {kept} of {len(bodies)} ids.")
    return len(bodies) / took_s
