"""Workers as real processes: what a fold can do to one, and what the next one makes of it."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.runtime.control.sqlite import SqliteControl
from consumers.runtime.fates import State
from consumers.runtime.query.reading import READ_HANGS
from consumers.runtime.store import Phase
from events.log.sqlite import SqliteEventLog
from tests.integration.place import ROOT, Place
from tests.integration.world import append, facts, tallied, until, without

DEADLINES = {"fold_batch_s": 1, "fold_alone_s": 0.5, "memory_mib": 64, "ladder_s": "0.05,0.05"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "place", **DEADLINES)
    yield place
    place.close()


def lives(place: Place, condition: Callable[[], object], *, at_most: int = 20) -> list[int]:
    """Start the worker whenever it has ended, as a supervisor does; return how each life ended."""
    ends: list[int] = []
    process = place.start("consume", "tally")

    def restarted() -> bool:
        nonlocal process
        if process.poll() is not None:
            ends.append(process.returncode)
            assert len(ends) <= at_most, f"{ends}: {place.journal()[-3000:]}"
            process = place.start("consume", "tally")
        return bool(condition())

    until(restarted, what="the worker gets through", within_s=90)
    process.terminate()
    # One that has just begun, or is ending by itself just now, has nobody who hears the signal.
    assert process.wait(30) in (0, -signal.SIGTERM), place.journal()[-3000:]
    return ends


def test_an_event_that_ends_the_process_is_dead_after_three_strikes_and_its_neighbours_applied(
    place: Place,
) -> None:
    misdeeds = {
        "w-5": ("os._exit(9)", "The process ended during the fold."),
        "w-6": ("while True: pass", "The fold took longer than its deadline."),
        "w-16": ("while True: HOARD.append(bytearray(1 << 20))", "The fold took more memory"),
        "w-17": ("ctypes.string_at(0)", "Fatal Python error: Segmentation fault"),
    }
    acts = {name: f"exec({code!r})" for name, (code, _) in misdeeds.items()}
    branches = [f'event.data.workout_id == "{name}" and {act}' for name, act in acts.items()]
    place.plug_in(misdeed="; ".join(branches))
    append(place.log, facts(40))

    ends = lives(place, lambda: len(place.fates()) == 40 and all_final(place))
    # One for the batch, and for each of the four its first two strikes; the third is not folded.
    assert len(ends) == 1 + 4 * 2
    assert set(ends) == {9, 1, 70, -signal.SIGSEGV}
    dead = {name: fate for name, fate in place.fates().items() if fate.state is State.DEAD}
    file = place.plugins / "tally.py"
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "exec(" in text)
    assert set(dead) == set(misdeeds)
    for name, (_, reason) in misdeeds.items():
        assert dead[name].reason.startswith(reason)
        assert (dead[name].strikes, dead[name].attempts) == (3, 0)
        exited = name == "w-5"  # which leaves no time for last words
        where = f'File "{file}", line {line} in fold'
        assert (where in dead[name].trace.replace(", in", " in")) == (not exited)
    assert place.documents() == tallied(without(facts(40), *misdeeds))


def all_final(place: Place) -> bool:
    return not any(fate.state is State.RETRYING for fate in place.fates().values())


def test_a_consumer_that_leaks_with_every_event_gets_through_and_no_event_is_blamed(
    place: Place,
) -> None:
    place.plug_in(misdeed="HOARD.append(bytearray(8 << 20))")
    append(place.log, facts(16))
    ends = lives(place, lambda: len(place.fates()) == 16)
    assert ends[0] == 70  # its first batch met the bound; then it ends itself in time
    assert set(ends[1:]) == {0}
    assert place.documents() == tallied(facts(16))
    assert {fate.state for fate in place.fates().values()} == {State.APPLIED}


def test_a_rebuild_that_is_killed_goes_on_where_it_was(place: Place) -> None:
    place.plug_in()
    append(place.log, facts(600))
    lives(place, lambda: len(place.fates()) == 600)
    folded = place.folder / "folded"
    note = f"open({str(folded)!r}, 'a').write(event.data.workout_id + '\\n'); time.sleep(0.005)"
    place.plug_in(misdeed=note, version=2)
    place.environment["PACELINE_BATCH"] = "20"
    process = place.start("consume", "tally")
    until(lambda: applied_in(place, Phase.BUILDING) >= 60, what="a part of it is rebuilt")
    process.kill()
    process.wait()
    had = applied_in(place, Phase.BUILDING)
    assert 60 <= had < 600
    assert place.documents() == tallied(facts(600))
    assert [one.version for one in place.generations() if one.phase is Phase.LIVE] == [1]

    before = len(folded.read_text().split())
    append(place.log, facts(5, first=600))
    lives(place, lambda: [one.version for one in place.generations()] == [1, 2] and swapped(place))
    assert place.documents() == tallied(facts(605))
    again = folded.read_text().split()[before:]
    assert len(again) == len(set(again)) == 605 - had


def applied_in(place: Place, phase: Phase) -> int:
    return sum(one.applied for one in place.generations() if one.phase is phase)


def swapped(place: Place) -> bool:
    return applied_in(place, Phase.LIVE) == 605


def test_a_worker_that_is_asked_to_end_ends_well_and_leaves_nobody_suspect(place: Place) -> None:
    place.plug_in()
    append(place.log, facts(5))
    for number in (signal.SIGTERM, signal.SIGINT):
        process = place.start("consume", "tally")
        until(lambda: running(place) == str(process.pid), what="it says that it runs")  # noqa: B023
        until(lambda: len(place.fates()) == 5, what="they are applied")
        process.send_signal(number)
        assert process.wait(30) == 0
        assert running(place) is None
    assert "Traceback" not in place.journal()


def test_a_worker_whose_file_was_replaced_ends_so_that_the_next_one_runs_the_new_code(
    place: Place,
) -> None:
    place.plug_in()
    append(place.log, facts(5))
    process = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 5, what="they are applied")
    place.plug_in(version=2)
    assert process.wait(30) == 0
    assert running(place) is None
    lives(place, lambda: [one.version for one in place.generations()] == [1, 2])
    assert place.documents() == tallied(facts(5))


def running(place: Place) -> str | None:
    store = place.store()
    return store.mark("running") if store else None


def test_a_running_worker_ends_when_the_log_is_replaced_and_the_next_says_so(place: Place) -> None:
    place.plug_in()
    append(place.log, facts(20))
    place.log.close()
    shutil.copy(place.folder / "log.db", place.folder / "copy.db")
    place.log = SqliteEventLog(place.folder / "log.db")
    append(place.log, facts(10, first=20))
    process = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 30, what="they are applied")
    place.log.close()
    for beside in ("log.db-wal", "log.db-shm"):
        (place.folder / beside).unlink(missing_ok=True)
    (place.folder / "copy.db").replace(place.folder / "log.db")
    place.log = SqliteEventLog(place.folder / "log.db")
    append(place.log, facts(5, first=100))
    assert process.wait(30) == 0, place.journal()[-3000:]
    next_one = place.start("consume", "tally")
    until(lambda: place.store().mark("problem"), what="the next one says that it must be rebuilt")
    next_one.terminate()
    assert next_one.wait(30) == 0, place.journal()[-3000:]


def test_redriving_what_ends_the_process_is_done_once_and_not_begun_again(place: Place) -> None:
    place.plug_in(misdeed="event.data.workout_id == 'w-3' and os._exit(9)")
    append(place.log, facts(5))
    lives(place, lambda: len(place.fates()) == 5 and all_final(place))
    control = SqliteControl(place.folder / "control.db")
    asked = control.ask("tally", "redrive", {})
    lives(place, lambda: control.get(asked.id).ended and all_final(place))
    assert control.get(asked.id).answer == {"changed": 1}
    assert place.fates()["w-3"].state is State.DEAD
    control.close()


def test_code_that_hangs_while_it_is_loaded_ends_and_is_said_to(place: Place) -> None:
    (place.plugins / "tally.py").write_text("while True: pass")
    assert place.start("consume", "tally").wait(30) == 1
    process = place.start("consume", "tally")
    until(lambda: place.store().mark("problem"), what="the next start says so")
    assert "ends or hangs when it is loaded" in (place.store().mark("problem") or "")
    assert process.wait(30) == 1
    place.plug_in()
    append(place.log, facts(3))
    mended = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 3, what="the mended one runs")
    assert place.store().mark("problem") is None
    mended.terminate()
    assert mended.wait(30) == 0


def test_a_read_that_hangs_ends_the_query_process_and_not_the_disk(place: Place) -> None:
    place.plug_in()
    file = place.plugins / "tally.py"
    read = "\n    def stuck(documents, query):\n        while True: pass\n"
    file.write_text(file.read_text() + read + '    reads = {"/stuck": stuck}\n')
    append(place.log, facts(1))
    worker = place.start("consume", "tally")
    until(lambda: len(place.fates()) == 1, what="the consumer runs")
    source = (
        "from consumers.runtime.query import reading\n"
        "reading.LONGEST_READ_S = 0.5\n"
        "from consumers.runtime.query.app import query_app\n"
        "query_app().test_client().get('/v1/stuck')\n"
    )
    asked = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=place.environment, timeout=30, check=False
    )
    assert asked.returncode == READ_HANGS
    worker.terminate()
    assert worker.wait(30) == 0
