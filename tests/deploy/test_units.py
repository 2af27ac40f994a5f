"""The systemd units: commands that there are, settings that there are, and no more rights."""

import shlex
from collections import defaultdict
from pathlib import Path

import pytest

from events.settings import described, read_settings
from tests.deploy.place import DEPLOY, check_command

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PARTS = {"paceline-producer", "paceline-relay", "paceline-query", "paceline-consume@"}
PROGRAM = "/opt/paceline/.venv/bin/paceline"
CONFINED = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "CapabilityBoundingSet": "",
    "StateDirectory": "paceline",
    "UMask": "0077",
    "SystemCallFilter": "@system-service",
}


def read(unit: Path) -> dict[str, list[str]]:
    """Every setting of a unit: it may be given several times, and keeps its case."""
    given: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            given[name].append(value)
    return given


def one(unit: Path, name: str) -> str:
    (value,) = read(unit)[name]
    return value


unit_by_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def test_each_part_has_one() -> None:
    assert {unit.stem for unit in UNITS} == PARTS


@unit_by_unit
def test_it_runs_a_command_that_there_is(unit: Path) -> None:
    program, *arguments = shlex.split(one(unit, "ExecStart").replace("%i", "calories"))
    assert program == PROGRAM
    check_command(arguments)


@unit_by_unit
def test_it_gives_only_settings_that_there_are(unit: Path) -> None:
    names = {setting.name for setting in described(read_settings(), environment={})}
    for value in read(unit)["Environment"]:
        assert value.partition("=")[0] in names
    assert read(unit)["Environment"] == ["PACELINE_DATA_DIR=/var/lib/paceline"]


@unit_by_unit
def test_its_data_are_where_it_may_write(unit: Path) -> None:
    state = f"/var/lib/{one(unit, 'StateDirectory')}"
    assert f"PACELINE_DATA_DIR={state}" in read(unit)["Environment"]


@unit_by_unit
def test_it_takes_what_prepare_has_written_for_this_part_alone(unit: Path, prepared: Path) -> None:
    file = one(unit, "EnvironmentFile").replace("%i", "calories")
    # The dash: in the embedded way there is none.
    assert file.startswith("-/etc/paceline/")
    assert (prepared / Path(file).name).is_file()
    part = unit.stem.removeprefix("paceline-").replace("consume@", "calories")
    assert Path(file).stem == part


@unit_by_unit
def test_it_is_always_started_again(unit: Path) -> None:
    assert one(unit, "Restart") == "always"
    assert one(unit, "StartLimitIntervalSec") == "0"


@unit_by_unit
def test_it_can_do_no_more_than_its_work(unit: Path) -> None:
    assert one(unit, "User") == "paceline"
    for name, value in CONFINED.items():
        assert one(unit, name) == value
