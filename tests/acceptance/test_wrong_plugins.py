"""Wrong plug-ins of every kind, dropped in together: each is told what the guide says, and why."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import started
from tests.acceptance.platform import BUILT_IN, ROOT, Platform, until

GUIDE = ROOT / "docs" / "writing-a-consumer.md"
RIGHT = """
class Right:
    name = "right"
    bindings = ("workout.completed.#",)
    version = 1

    def keys(self, event):
        return [event.user_id]

    def fold(self, event, documents):
        pass
"""


def named(name: str, source: str = RIGHT) -> str:
    return source.replace('"right"', f'"{name}"')


def changed(name: str, line: str, by: str) -> str:
    """The right one under this name, with one line changed."""
    assert line in RIGHT
    return named(name, RIGHT.replace(line, by))


WRONG = {
    "unclosed": named("unclosed").replace('("workout.completed.#",)', '("workout.completed.#",'),
    "shoeless": "import shoes\n" + named("shoeless"),
    "empty": '"""Nothing yet."""\n',
    "twins": named("twins") + named("twins").replace("class Right", "class Left"),
    "Shouting": named("Shouting"),
    "calories": named("calories"),
    "keyless": changed("keyless", "def keys", "def key"),
    "waiting": changed("waiting", "def fold", "async def fold"),
    "starry": changed("starry", "completed.#", "completed.run*"),
    "texty": changed("texty", "version = 1", 'version = "1"'),
    "listing": changed("listing", "version = 1", 'version = 1\n    reads = ["/users/{user}/rest"]'),
    "quitting": "import sys\n\nsys.exit(3)\n" + named("quitting"),
    "ending": "import os\n\nos._exit(3)\n" + named("ending"),
}


def printed() -> dict[str, str]:
    """File -> what is shown of it, from the guide's table."""
    section = GUIDE.read_text().partition("## Wrong plug-ins")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+\.py)` [^|]+ \| `([^|]+)` \|$", section, re.M)
    assert len(dict(rows)) == len(rows)
    return dict(rows)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    running = started(tmp_path, plugins={"right": RIGHT, **WRONG})
    yield running
    try:
        assert running.stop() == 0
    finally:
        running.close()


def shown(platform: Platform, items: list[dict[str, str]]) -> dict[str, str]:
    """File -> reason of what is unfit, with paths as they are seen from where the reader is."""
    folders = (f"{platform.plugins}/", f"{platform.folder}/")
    found = {}
    for one in items:
        if one["state"] == "unfit":
            reason = one["reason"]
            for folder in folders:
                reason = reason.replace(folder, "")
            found[Path(one["place"]).name] = reason
    return found


def test_each_wrong_plug_in_is_told_what_the_guide_prints_and_nobody_is_disturbed(
    platform: Platform,
) -> None:
    def all_told() -> list[dict[str, str]] | None:
        items: list[dict[str, str]] = platform.read("/v1/consumers")["items"]
        return items if len(shown(platform, items)) == len(WRONG) else None

    served = until(all_told, what="every wrong plug-in is unfit", within_s=120)
    assert shown(platform, served) == printed()
    assert {f"{name}.py" for name in WRONG} == printed().keys()
    listed = json.loads(platform.command("consumers", "list", "--json"))
    assert shown(platform, listed) == printed()
    assert {*BUILT_IN, "right"} <= platform.running()
    # The one that has its name goes on, and each file is there once.
    assert [one["state"] for one in listed if one["name"] == "calories"] == ["live"]
    assert len({one["name"] for one in listed}) == len(listed)
