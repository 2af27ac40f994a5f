"""Events that calories folds and commits a second, against a bare loop with an inbox."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import apsw

from events.envelope import from_bytes
from events.log.sqlite import SqliteEventLog
from tests.bench.figures import Figure, Say, Void
from tests.bench.folding import CaloriesAtWork, Took, append, timed
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
            looped.append(_loop(folder / f"inbox-{number}.db", bodies))
            rates = [len(bodies) / took.clock_s for took in (folded[-1], looped[-1])]
            say(f"fold: calories {rates[0]:,.0f}/s, bare loop {rates[1]:,.0f}/s")
    return [
        Figure(
            part="fold",
            what="calories folds and commits",
            unit="events/s",
            values=[len(bodies) / took.clock_s for took in folded],
            against="bare loop",
            bare=[len(bodies) / took.clock_s for took in looped],
            at_least=AT_LEAST,
        ),
        Figure(
            part="fold",
            what="the same, by the core's time",
            unit="events/s",
            values=[len(bodies) / took.cpu_s for took in folded],
            against="bare loop",
            bare=[len(bodies) / took.cpu_s for took in looped],
        ),
    ]


def _logged(path: Path, count: int) -> list[bytes]:
    log = SqliteEventLog(path)
    events = list(islice(history(seed=1), count))
    append(log, events)
    log.close()
    return [event.body for event in events]


def _fold(folder: Path, number: int, count: int) -> Took:
    calories = CaloriesAtWork(folder / "log.db", folder / f"calories-{number}.db")
    took = timed(calories.fold)
    calories.check_applied(count)
    calories.close()
    return took


def _loop(path: Path, bodies: Sequence[bytes]) -> Took:
    """Decode, add, insert the id into a synced file: what no consumer can do without."""
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA synchronous=FULL").fetchall()
    db.execute("CREATE TABLE inbox (id TEXT PRIMARY KEY)")
    took = timed(lambda: _decode_add_insert(db, bodies))
    kept = db.execute("SELECT count(*) FROM inbox").get
    db.close()
    if kept != len(bodies):
        raise Void(f"The bare loop kept {kept} of {len(bodies)} ids.")
    return took


def _decode_add_insert(db: apsw.Connection, bodies: Sequence[bytes]) -> int:
    total_ms = 0
    for first in range(0, len(bodies), A_COMMIT):
        events = [from_bytes(body) for body in bodies[first : first + A_COMMIT]]
        db.execute("BEGIN IMMEDIATE")
        for event in events:
            total_ms += event.data.duration_ms
        db.executemany("INSERT INTO inbox VALUES (?)", [(event.id,) for event in events])
        db.execute("COMMIT")
    return total_ms
