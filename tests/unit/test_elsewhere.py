"""Commands that are imported when somebody asks for them."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from events.commands import PacelineGroup

ROOT = Path(__file__).resolve().parents[2]
LATE = '''
import click

@click.command()
def hum():
    """Hum a tune."""
    click.echo("hummed")
'''


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PacelineGroup:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "late_room", raising=False)
    (tmp_path / "late_room.py").write_text(LATE)

    @click.command()
    def walk() -> None:
        """Walk a mile."""

    return PacelineGroup("test", commands=[walk], elsewhere={"hum": "late_room:hum"})


def run(group: PacelineGroup, *words: str) -> str:
    return CliRunner().invoke(group, words).output


def test_a_command_is_imported_when_it_is_asked_for_and_no_sooner(group: PacelineGroup) -> None:
    assert run(group, "walk") == ""
    assert group.list_commands(click.Context(group)) == ["hum", "walk"]
    assert "late_room" not in sys.modules
    assert run(group, "hum") == "hummed\n"


def test_help_tells_what_all_of_them_do(group: PacelineGroup) -> None:
    told = run(group, "--help")
    assert "hum   Hum a tune." in told
    assert "walk  Walk a mile." in told


def test_the_nearest_of_all_is_proposed_for_a_name_that_is_none(group: PacelineGroup) -> None:
    assert "No such command 'humm'. Did you mean 'hum'?" in run(group, "humm")


def test_a_process_of_the_platform_loads_no_server_no_kit_and_no_parser_of_recordings() -> None:
    rooms = ("flask", "granian", "pika", "pymongo", "consumers.conformance", "producer.importing")
    source = f"import sys, cli; print([name for name in {rooms} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
