"""Commands run in the tests' own process, in an installation with one consumer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from cli import main
from consumers.runtime.fates import Ladder
from events.envelope import Event
from events.lock import FileLock
from events.patience import Patience
from tests.integration.world import Tally, World, facts

PLUGIN = """
class Tally:
    name = "tally"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        pass
"""
BAD = ("w-3", "w-7")


def fails(event: Event, documents: dict[str, Any]) -> None:
    if event.data.workout_id == "w-3":
        raise LookupError("no such shoe")
    if event.data.workout_id == "w-7":
        raise ValueError("too late")


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An installation with one consumer, which has applied 18 of 20 events; two are dead."""
    monkeypatch.setenv("PACELINE_DATA_DIR", str(folder))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [])
    (folder / "plugins").mkdir()
    (folder / "plugins" / "tally.py").write_text(PLUGIN)
    world = World(folder, Tally(fails))
    world.ladder = Ladder(())
    world.post(facts(20))
    world.run()
    yield world
    world.close()


@contextmanager
def working(world: World, consumer: Tally | None = None) -> Iterator[None]:
    """A worker of the consumer runs, as its own process would."""
    patience = Patience(most_s=0.01)

    def work() -> None:
        other = World(world.folder, consumer or Tally())
        other.runner(patience).run()
        other.close()

    # What a worker logs is its own; here it would stand among what the command prints.
    with FileLock(world.folder / "consumers" / "tally.db"), capture_logs():
        thread = Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            patience.stop()
            thread.join()


def run(*arguments: str, code: int = 0, answers: str = "") -> Result:
    """Run a command in this process; it must end with this exit code."""
    result = CliRunner().invoke(main, arguments, input=answers, prog_name="paceline")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def printed(*arguments: str, code: int = 0) -> Any:
    """What a command prints with --json."""
    return json.loads(run(*arguments, "--json", code=code).stdout)


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, by its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = dict(commands())
LEAVES = {path: one for path, one in ALL.items() if not isinstance(one, click.Group)}
