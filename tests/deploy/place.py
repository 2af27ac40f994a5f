"""Where the files of deploy/ are, how they are read, and what prepare.py adds to them."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
INSTALLED = "/etc/paceline"
CONSUMERS = ("achievements", "calories", "leaderboard", "monthly-report")
PASSWORD = re.compile(r"[0-9a-f]{48}")


class _Strict(yaml.SafeLoader):
    """YAML as its readers take it: the same key twice is an error, not the last one."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value if key.value != "<<"]
    assert len(keys) == len(set(keys)), f"a key twice: {keys}{node.start_mark}"
    loader.flatten_mapping(node)
    return {loader.construct_object(key, True): loader.construct_object(value, True)
            for key, value in node.value}  # fmt: skip


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(name: str) -> list[Any]:
    """Every document of a YAML file of deploy/."""
    return list(yaml.load_all((DEPLOY / name).read_text(), _Strict))


def prepare(into: Path, *more: str) -> Path:
    """Run prepare.py for servers on this host, as an operator does."""
    subprocess.run(
        [
            *(sys.executable, str(DEPLOY / "prepare.py"), "--into", str(into)),
            *("--rabbitmq", "localhost", "--mongodb", "localhost", *more),
        ],
        check=True,
        capture_output=True,
    )
    return into


def settings_of(folder: Path, part: str) -> dict[str, str]:
    """The environment that prepare.py has written for a part, its files where they are here."""
    lines = (folder / f"{part}.env").read_text().replace(INSTALLED, str(folder)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def passwords(folder: Path) -> dict[str, str]:
    """Who has which."""
    known: dict[str, str] = json.loads((folder / "passwords.json").read_text())
    return known


def check_command(arguments: str | list[str]) -> None:
    """Fail where `paceline` has no such command, or not with these options."""
    words = shlex.split(arguments) if isinstance(arguments, str) else list(arguments)
    command: click.Command = main
    context = click.Context(command, info_name="paceline")
    while isinstance(command, click.Group):
        assert words, f"paceline {arguments} is not a whole command"
        name, found, words = command.resolve_command(context, words)
        assert found is not None, f"there is no {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(command.name, words, parent=context.parent)
