"""The installation: our names are ours alone, every requirement is pinned and hashed."""

import configparser
import re
from importlib.metadata import distribution, entry_points, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("cli", "consumers", "events", "producer")
BUILT_IN = {
    "achievements": "consumers.achievements:Achievements",
    "calories": "consumers.calories:Calories",
    "leaderboard": "consumers.leaderboard:Leaderboard",
    "monthly-report": "consumers.monthly_report:MonthlyReport",
}
# Pinned beside what the code imports, because the project is installed without build isolation.
BUILD_TOOLS = {"setuptools", "wheel"}


def entries(name: str) -> list[str]:
    """The entries of a file in requirements/, continued lines joined, comments dropped."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def pins(name: str) -> dict[str, str]:
    """Distribution -> the one version that a file in requirements/ pins it to."""
    found = [re.match(r"([\w.-]+)==(\S+) ", entry) for entry in entries(name)]
    return {canonicalize_name(pin[1]): pin[2] for pin in found if pin}


def direct() -> list[Requirement]:
    """What setup.cfg says that the project needs."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    return [Requirement(line) for line in lines if line]


# A set, because an editable install may be listed twice: in the environment and in the checkout.
@pytest.mark.parametrize("name", NAMES)
def test_a_top_level_name_belongs_to_paceline_alone(name: str) -> None:
    assert set(packages_distributions().get(name, [])) == {"paceline"}


def test_paceline_installs_these_names_and_no_other() -> None:
    owners = packages_distributions()
    assert sorted(name for name in owners if "paceline" in owners[name]) == sorted(NAMES)


def test_paceline_can_not_be_uploaded_to_an_index() -> None:
    assert "Private :: Do Not Upload" in distribution("paceline").metadata.get_all("Classifier", [])


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_every_requirement_is_pinned_with_hashes_and_names_no_host(name: str) -> None:
    pinned = r"[\w.-]+==[\w.!+]+ ( ?;[^-]+)?(\s*--hash=sha256:[0-9a-f]{64})+"
    assert len(entries(name)) > 20
    assert not [entry for entry in entries(name) if not re.fullmatch(pinned, entry)]


def test_the_tests_run_on_the_versions_that_the_platform_runs_on() -> None:
    assert pins("runtime.txt").items() <= pins("dev.txt").items()


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_pinned_at_or_above_its_lower_bound(
    requirement: Requirement,
) -> None:
    assert [bound.operator for bound in requirement.specifier] == [">="]
    assert requirement.specifier.contains(pins("runtime.txt")[canonicalize_name(requirement.name)])


def test_setup_and_requirements_name_the_same_direct_dependencies() -> None:
    assert set(entries("runtime.in")) == {need.name for need in direct()} | BUILD_TOOLS


def test_the_paceline_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="paceline")
    assert command.value == "cli:main"
    assert callable(command.load())


def test_the_built_in_consumers_are_registered_like_any_plug_in() -> None:
    ours = distribution("paceline").entry_points.select(group="paceline.consumers")
    assert {plugin.name: plugin.value for plugin in ours} == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_consumer_loads_under_its_own_name(name: str) -> None:
    (plugin,) = distribution("paceline").entry_points.select(group="paceline.consumers", name=name)
    assert plugin.load().name == name
