"""Every command explains itself, with an example that it would understand."""

import re

import click
import pytest

from tests.integration.shell import ALL, LEAVES, run


def test_there_are_the_commands_that_people_are_promised() -> None:
    assert {" ".join(path) for path in LEAVES} >= {
        "run",
        "serve",
        "relay",
        "consume",
        "consumers list",
        "consumers pause",
        "consumers resume",
        "consumers remove",
        "consumers new",
        "consumers check",
        "what-if",
        "explain",
        "events list",
        "events show",
        "events tail",
        "events export",
        "events load",
        "config",
        "doctor",
        "import",
        "replay",
        "rebuild",
        "dead-letters list",
        "dead-letters show",
        "dead-letters redrive",
        "dead-letters discard",
        "audit",
        "operations list",
        "operations cancel",
    }


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "paceline")
@pytest.mark.parametrize("option", ["--help"])
def test_every_command_explains_itself(path: tuple[str, ...], option: str) -> None:
    text = run(*path, option).output
    assert text.startswith(f"Usage: {' '.join(('paceline', *path))} ")
    described = text.split("\n\n")[1].strip()
    assert len(described) > 20
    assert described.splitlines()[0].rstrip().endswith((".", ":")) or len(described) > 60
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, parameter.name


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_it_would_understand(
    path: tuple[str, ...],
) -> None:
    lines = run(*path, "--help").output.splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip().startswith("Example"))
    example = lines[at + 1].strip()
    match = re.fullmatch(r"(?:[A-Z_]+=\S+ )?paceline (.+)", example)
    assert match, example
    words = match[1].split()
    assert tuple(words[: len(path)]) == path
    # It parses: the right arguments are there, and every option is one of this command.
    LEAVES[path].make_context("paceline", words[len(path) :], resilient_parsing=False)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_what_lists_or_counts_can_be_read_by_machines(path: tuple[str, ...]) -> None:
    options = {option for parameter in LEAVES[path].params for option in parameter.opts}
    lists = {"list", "tail", "audit", "config", "doctor", "replay", "rebuild", "import"}
    assert ("--json" in options) or path[-1] not in lists
