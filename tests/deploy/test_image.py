"""The Dockerfile: pinned, with hashes, without tools, not root, and made of what is there."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.place import DEPLOY, ROOT, documents

Stage = list[tuple[str, str]]


def stages() -> Iterator[Stage]:
    """The instructions of each stage, continued lines joined, comments dropped."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    stage: Stage = []
    for line in filter(None, text.splitlines()):
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM" and stage:
            yield stage
            stage = []
        stage.append((instruction, re.sub(r"\s+", " ", rest).strip()))
    yield stage


BUILD, FINAL = stages()
PARTS = {"cli.py", "events", "producer", "consumers"}


def of(stage: Stage, instruction: str) -> list[str]:
    return [rest for name, rest in stage if name == instruction]


def copied() -> set[str]:
    return {source for rest in of(BUILD, "COPY") for source in rest.split()[:-1]}


@pytest.mark.parametrize("stage", [BUILD, FINAL])
def test_a_base_is_pinned_to_one_release_and_small(stage: Stage) -> None:
    (base,) = of(stage, "FROM")
    assert re.match(r"python:3\.\d+\.\d+-slim-\w+( AS build)?$", base)


def test_what_is_installed_is_pinned_by_hash_and_never_built() -> None:
    (install, _ours) = (run for run in of(BUILD, "RUN") if "pip install" in run)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    assert install.endswith("--requirement requirements/runtime.txt")


def test_our_own_code_brings_nothing_along() -> None:
    (_pinned, ours) = (run for run in of(BUILD, "RUN") if "pip install" in run)
    assert "--no-deps --no-build-isolation ." in ours


def test_no_tool_is_left_in_it() -> None:
    tools = "setuptools wheel pip"
    assert [run for run in of(BUILD, "RUN") if f"uninstall --yes {tools}" in run]
    assert [run for run in of(FINAL, "RUN") if "pip uninstall" in run and tools in run]
    assert not [run for run in of(BUILD, "RUN") + of(FINAL, "RUN") if "apt" in run]


def test_only_what_was_built_comes_from_the_first_stage() -> None:
    assert of(FINAL, "COPY") == ["--from=build /opt/paceline /opt/paceline"]
    assert not of(FINAL, "ADD")


def test_it_ends_as_a_user_that_is_not_root() -> None:
    (user,) = of(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"--uid {user.partition(':')[0]}" in " ".join(of(FINAL, "RUN"))


def test_it_is_the_command() -> None:
    assert of(FINAL, "ENTRYPOINT") == ['["paceline"]']


def test_every_source_is_there() -> None:
    assert copied() >= PARTS
    assert not [source for source in copied() if not (ROOT / source).exists()]


def test_the_context_holds_what_is_copied_and_nothing_secret() -> None:
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules[1:] if rule.startswith("!")} == copied()
    assert not [name for name in copied() if fnmatch(name, "deploy*")]


def test_the_image_of_compose_is_the_one_that_it_builds() -> None:
    (compose,) = documents("compose.yaml")
    build = compose["services"]["producer"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert Path(build["context"], build["dockerfile"]) == Path("../deploy/Dockerfile")
