"""What the documentation says is true: its examples run, its commands, settings and links exist."""

import json
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

import click
import pytest

from cli import main
from consumers.conformance import examine
from consumers.runtime.query.operations import OPERATIONS
from consumers.runtime.registry import Unfit, find, load, single
from consumers.testing import check, generated
from events.envelope import Event, from_bytes, seal
from events.problems import PROBLEMS
from events.schemas import load_workout
from events.settings import described, read_settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDE, OPERATING, ARCHITECTURE = (
    DOCS / f"{name}.md" for name in ("writing-a-consumer", "operating", "architecture")
)
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
ENDS_A_COMMAND = {"|", "||", "&&", "&", ";", ">", ">>", "2>", "…", "..."}


class Block(NamedTuple):
    """A fenced block: its language, the word behind it, and its text without the indent."""

    language: str
    word: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    fence = r"^( *)```(\w*) ?(\w*)\n(.*?)^\1```$"
    return [
        Block(language, word, re.sub(f"^{indent}", "", text, flags=re.M))
        for indent, language, word, text in re.findall(fence, page.read_text(), re.M | re.S)
    ]


def history() -> list[Event]:
    """Workouts of one person that collide on four days; a swim, and without a distance, yoga."""
    return [
        _event(
            {
                "workout_id": f"w-{number}",
                "user_id": "ada",
                "sport": "yoga" if number % 5 == 4 else "running",
                "started_at": f"2026-11-{2 + number % 4:02}T{6 + number % 12:02}:30:00+01:00",
                "duration_s": 600 + number,
                **({} if number % 5 == 4 else {"distance_m": 2000 + number / 1000}),
            }
        )
        for number in range(24)
    ]


def _event(posted: dict[str, object]) -> Event:
    accepted_at = datetime(2026, 11, 25, tzinfo=UTC)
    return from_bytes(seal(load_workout(posted), accepted_at=accepted_at).body)


def first_consumer(page: Path) -> str:
    """The first block of Python of a page."""
    return next(block.text for block in blocks(page) if block.language == "python")


def changed(line: str) -> str:
    """The guide's first consumer with one line changed: the one that the new line stands for."""
    found = re.match(r"(name|bindings|version) =|return ", line) or re.search(r"def \w+", line)
    instead_of = found[0] if found else "document["
    lines = first_consumer(GUIDE).splitlines()
    place = next(i for i, old in enumerate(lines) if old.strip().startswith(instead_of))
    indent = lines[place][: -len(lines[place].lstrip())]
    return "\n".join([*lines[:place], indent + line.strip(), *lines[place + 1 :], ""])


def told(folder: Path, source: str) -> str:
    """What the author is told of a consumer: by the platform, or else by the kit, or nothing."""
    (folder / "recovery.py").write_text(source)
    try:
        check(load(find(folder)["recovery"]).consumer, history())
    except Unfit as unfit:
        return str(unfit).replace(f"{folder}/", "")
    except Exception as error:  # noqa: BLE001  # whatever the author's code raises
        return "".join(traceback.format_exception_only(error)).strip()
    return ""


@pytest.mark.parametrize("page", [GUIDE, ROOT / "README.md"], ids=lambda page: page.name)
def test_the_first_consumer_that_is_shown_keeps_its_contract(page: Path, tmp_path: Path) -> None:
    assert told(tmp_path, first_consumer(page)) == ""


def test_each_file_of_the_guide_runs_as_it_is_printed(tmp_path: Path) -> None:
    ran = []
    for block in blocks(GUIDE):
        if block.language == "python" and not block.word:
            name = block.text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(block.text)
            if name.startswith("test_"):
                _run_tests(tmp_path, name)
                ran.append(name)
    assert ran == ["test_recovery.py", "test_reads.py"]


def _run_tests(folder: Path, name: str) -> None:
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def mistakes() -> list[tuple[str, str]]:
    """Each wrong line of the guide with what it says that the author is told."""
    shown = blocks(GUIDE)
    return [
        (one.text.strip(), after.text.strip())
        for one, after in pairwise(shown)
        if one.word == "wrong"
    ]


@pytest.mark.parametrize(("line", "message"), mistakes())
def test_a_mistake_is_told_in_the_words_that_the_guide_prints(
    line: str, message: str, tmp_path: Path
) -> None:
    assert told(tmp_path, changed(line)) == message


def test_what_the_guide_calls_right_keeps_its_contract(tmp_path: Path) -> None:
    right = [block.text for block in blocks(GUIDE) if block.word == "right"]
    assert len(right) > 2
    assert [told(tmp_path, changed(line)) for line in right] == [""] * len(right)


def test_what_the_guide_tells_newly_holds_once_in_any_order(tmp_path: Path) -> None:
    (react,) = [block.text for block in blocks(GUIDE) if block.word == "fragment"]
    file = tmp_path / "recovery.py"
    file.write_text(first_consumer(GUIDE) + indent(f"\n{react}", " " * 4))
    looked = {one.check: one for one in examine(load(single(file)).consumer, generated())}
    assert [one.detail for one in looked.values() if not one.ok] == []
    assert looked["fold"].detail.endswith(" and 4 facts")


def commands(page: Path) -> Iterator[list[str]]:
    """Every `paceline …` of a page: in fenced blocks, and between backticks in the text."""
    text = re.sub(r"^ *```(python|json).*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    fenced = "".join(re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.M | re.S))
    inline = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    for line in [*fenced.splitlines(), *re.findall(r"`([^`]+)`", inline)]:
        for rest in re.findall(r"(?:^|[\s/=`])paceline ([a-z][^`]*)", line.strip()):
            words = shlex.split(rest, comments=True)
            yield list(takewhile(lambda word: word not in ENDS_A_COMMAND, words))


def objection(words: list[str]) -> str:
    """Why these words are no command of ours, or nothing."""
    command: click.Command = main
    parent: click.Context | None = None
    while isinstance(command, click.Group) and words:
        parent = click.Context(command, parent, info_name=command.name)
        found = command.get_command(parent, words[0])
        if found is None:
            return f"{command.name} has no {words[0]!r}"
        command, words = found, words[1:]
    try:
        _, left, _ = command.make_parser(click.Context(command, parent)).parse_args(words)
    except click.UsageError as error:
        return error.format_message()
    return f"{command.name} does not take {left}" if left else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_exists_with_its_options(page: Path) -> None:
    assert {" ".join(words): objection(words) for words in commands(page) if objection(words)} == {}


def test_commands_are_found_and_wrong_ones_are_told() -> None:
    shown = [" ".join(words) for words in commands(OPERATING)]
    assert "consumers list" in shown
    assert len(shown) > 20
    assert "has no 'consumer'" in objection(["consumer", "list"])
    assert "--agin" in objection(["relay", "--agin", "1"])
    assert "does not take" in objection(["consumers", "pause", "one", "other"])


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings are linked to."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(PACELINE_\w+)` \| (?:`([^`]+)` )?\|", OPERATING.read_text(), re.M)
    here = f"{Path.cwd()}/"
    expected = {one.name: one.value.removeprefix(here) for one in described(read_settings())}
    assert dict(rows) == expected
    assert len(rows) == len(expected)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {one.name for one in described(read_settings())}
    assert set(re.findall(r"PACELINE_[A-Z_]+", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_ours_that_is_named_exists(page: Path) -> None:
    ours = r"`((?:cli\.py|(?:events|producer|consumers|tests|docs|requirements)/)[\w./-]*)`"
    named = re.findall(ours, page.read_text())
    data = (".db", ".db.lock", ".traceback")  # in the data folder, not here
    files = [name for name in named if not name.endswith(data)]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_every_module_has_its_sentence_in_the_architecture() -> None:
    text = ARCHITECTURE.read_text()
    rooms = [ROOT / package for package in ("events", "producer", "consumers")]
    modules = [ROOT / "cli.py", *(path for room in rooms for path in room.rglob("*.py"))]
    names = [path.relative_to(ROOT).as_posix() for path in modules if path.stat().st_size]
    assert sorted(name for name in names if f"| `{name}` |" not in text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_json_is_json(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)


def test_every_address_and_every_problem_stands_among_the_examples(tmp_path: Path) -> None:
    text = (DOCS / "http.md").read_text()
    built_in = [load(one) for one in find(tmp_path).values()]
    reads = [f"GET /v1{path.partition('{?')[0]}" for one in built_in for path in one.reads]
    fixed = [f"{one.method.upper()} {one.path}" for one in OPERATIONS]
    assert [address for address in [*fixed, *reads] if f"`{address}" not in text] == []
    assert [slug for slug in PROBLEMS if f"`{slug}`" not in text] == []
