"""The architecture, read from the imports: who may see whom, which library lives where."""

import ast
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Our packages, and which others of them each may import.
DIRECTION: dict[str, set[str]] = {
    "cli": {"console", "producer", "consumers", "events"},
    "console": {"events"},
    "producer": {"events"},
    "consumers": {"events"},
    "events": set(),
}

_HTTP = (
    "producer/app.py",
    "producer/answers.py",
    "producer/routes.py",
    "producer/forwarding.py",
    "producer/process.py",
    "consumers/runtime/query/*",
    "console/*",
)
_SQLITE = ("*/sqlite*.py", "producer/outbox*.py")
_TERMINAL = ("cli.py", "*commands.py", "events/greeting.py")
_FORMATS = ("producer/importing/*",)
_BYTES = (
    "events/envelope.py",
    "consumers/runtime/documents.py",
    "consumers/runtime/folding.py",
    "consumers/runtime/store/sqlite*.py",
    "consumers/runtime/store/mongo*.py",
)

# One library, one room: import name -> the files that may import it. A library that is not listed
# may be imported nowhere. In a pattern, `*` matches slashes too.
ROOMS: dict[str, tuple[str, ...]] = {
    "apispec": ("consumers/runtime/query/openapi.py",),
    "apsw": _SQLITE,
    "bson": ("*/mongo*.py",),
    "click": _TERMINAL,
    "defusedxml": _FORMATS,
    "environs": ("events/settings.py",),
    "fitdecode": _FORMATS,
    "flask": _HTTP,
    "gpxpy": _FORMATS,
    "granian": (*_TERMINAL, "*/serving.py"),
    "marshmallow": ("events/schemas.py", "events/schema_fields.py"),
    "msgspec": _BYTES,
    "pika": ("events/bus/rabbitmq*.py",),
    "pytest": ("consumers/fixtures.py",),
    "pymongo": ("*/mongo*.py",),
    "rich": (*_TERMINAL, "*/progress.py"),
    "sqlite3": (),  # apsw tells what the standard library hides: busy handlers, syncs, limits
    "structlog": ("*",),
    "urllib3": ("*",),
    "werkzeug": _HTTP,
}

# The built-in consumers are strangers like any plug-in: they see the formulas and no platform.
STRANGERS = {
    "consumers/achievements.py",
    "consumers/calories.py",
    "consumers/leaderboard.py",
    "consumers/monthly_report.py",
}
FORMULAS = "consumers.energy"

LONGEST_MODULE = 250  # lines

TOP_LEVEL = {
    *{".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"},
    *{"cli.py", "consumers", "deploy", "docs", "events", "producer", "pyproject.toml"},
    *{"requirements", "setup.cfg", "tests"},
}
TOP_LEVEL_LATER = {"console", "examples"}


def modules(tree: Path) -> Iterator[Path]:
    """Every module of ours under a source tree, as a path relative to it."""
    for package in DIRECTION:
        for path in sorted([*tree.glob(f"{package}.py"), *tree.glob(f"{package}/**/*.py")]):
            yield path.relative_to(tree)


def imports(module: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of all that a module imports, wherever in it, `from` resolved."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                parents = module.parent.parts
                base = [*parents[: len(parents) - level + 1]] if level else []
                base += [origin] if origin else []
                yield from ((node.lineno, ".".join([*base, name.name])) for name in names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(name)), *_],
            ) if function in {"__import__", "import_module"}:
                yield node.lineno, name


def objection(module: Path, name: str) -> str | None:
    """Why a module may not import a name, or None if it may."""
    path, imported = module.as_posix(), name.split(".")[0]
    if path in STRANGERS:
        if name == FORMULAS or name.startswith(f"{FORMULAS}."):
            return None
        if imported not in sys.stdlib_module_names:
            return f"a consumer imports the standard library and {FORMULAS} only"
    if imported in DIRECTION:
        owner = module.parts[0].removesuffix(".py")
        others = sorted(DIRECTION[owner])
        return None if imported in {owner, *others} else f"{owner} may see {others or 'nobody'}"
    if imported in ROOMS:
        rooms = ROOMS[imported]
        return None if any(fnmatch(path, room) for room in rooms) else f"its room is {rooms}"
    return None if imported in sys.stdlib_module_names else "this library has no room"


def violations(tree: Path) -> set[str]:
    """Every import under a source tree that goes against the direction or into the wrong room."""
    return {
        f"{module.as_posix()}:{line} imports {name}: {reason}"
        for module in modules(tree)
        for line, name in imports(module, (tree / module).read_text())
        if (reason := objection(module, name))
    }


def test_every_import_follows_the_direction_and_stays_in_its_room() -> None:
    assert not violations(ROOT)


def test_the_whole_house_is_read() -> None:
    read = {module.as_posix() for module in modules(ROOT)}
    assert {"cli.py", "producer/outbox.py", "events/envelope.py", *STRANGERS} <= read


def test_no_module_is_too_long() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in modules(ROOT)}
    assert not {str(path): lines for path, lines in lengths.items() if lines > LONGEST_MODULE}


def test_every_module_opens_with_a_sentence_on_what_lives_there() -> None:
    trees = {path: ast.parse((ROOT / path).read_text()) for path in modules(ROOT)}
    assert not [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)]


def test_the_top_level_holds_the_expected_names_and_no_other() -> None:
    lines = (ROOT / ".gitignore").read_text().splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line and not line.startswith("#"))]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not any(fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert found - TOP_LEVEL_LATER == TOP_LEVEL


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for module in modules(ROOT):
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / module, tmp_path / module)
    return tmp_path


def plant(tree: Path, module: str, source: str) -> set[str]:
    """What the check says more once source stands at the end of a module."""
    before, path = violations(tree), tree / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n\n{source}\n")
    return violations(tree) - before


@pytest.mark.parametrize(
    ("module", "source", "name"),
    [
        ("producer/routes.py", "import consumers.energy", "consumers.energy"),
        ("producer/routes.py", "from consumers import energy", "consumers.energy"),
        ("producer/routes.py", "from .. import consumers", "consumers"),
        ("producer/importing/fit.py", "from ...consumers import energy", "consumers.energy"),
        ("producer/routes.py", "import cli", "cli"),
        ("consumers/runtime/worker.py", "import producer.outbox", "producer.outbox"),
        ("consumers/runtime/worker.py", "import apsw", "apsw"),
        ("consumers/runtime/worker.py", "def work():\n    import apsw.ext", "apsw.ext"),
        ("consumers/runtime/worker.py", "import tests.bench", "tests.bench"),
        ("events/topology.py", "import consumers.runtime", "consumers.runtime"),
        ("events/topology.py", "from flask import Flask", "flask.Flask"),
        ("events/topology.py", "import os, producer", "producer"),
        ("events/topology.py", "class Late:\n    def go():\n        import producer", "producer"),
        ("events/topology.py", "import typing\nif typing.TYPE_CHECKING:\n    import cli", "cli"),
        ("events/topology.py", "import importlib\nimportlib.import_module('pika')", "pika"),
        ("events/log/sqlite.py", "import sqlite3", "sqlite3"),
        ("events/relay.py", "import leftpad", "leftpad"),
        ("console/pages.py", "import consumers.runtime", "consumers.runtime"),
        ("consumers/calories.py", "from events.workouts import Sport", "events.workouts.Sport"),
        ("consumers/calories.py", "from .runtime import query", "consumers.runtime.query"),
        ("consumers/calories.py", "import structlog", "structlog"),
        ("consumers/calories.py", "import sqlite3", "sqlite3"),
    ],
)
def test_a_planted_import_is_found(copy: Path, module: str, source: str, name: str) -> None:
    (found,) = plant(copy, module, source)
    assert found.startswith(f"{module}:")
    assert f" imports {name}: " in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli.py", "import click, producer.app, consumers.runtime, events.relay"),
        ("producer/routes.py", "from flask import Blueprint\nfrom events import workouts"),
        ("producer/routes.py", "from . import outbox\nfrom .outbox import Outbox"),
        ("producer/importing/fit.py", "import fitdecode"),
        ("events/log/sqlite.py", "import apsw.ext"),
        ("consumers/runtime/query/openapi.py", "import apispec, flask"),
        ("consumers/runtime/store/mongo.py", "import pymongo.errors, bson, msgspec"),
        ("consumers/calories.py", "import datetime\nfrom . import energy"),
        ("consumers/calories.py", "from consumers.energy import met\nimport consumers.energy"),
    ],
)
def test_an_import_in_its_room_is_not_reported(copy: Path, module: str, source: str) -> None:
    assert not plant(copy, module, source)
