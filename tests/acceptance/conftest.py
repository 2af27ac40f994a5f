"""What every acceptance test needs: the platform, started, and gone without a rest afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.acceptance.platform import Platform


class Start(Protocol):
    """Starts a platform with these settings, and plug-ins: name -> source."""

    def __call__(self, *, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
        """Return it when it is ready."""


def started(folder: Path, *, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
    """A platform that is ready, and has these plug-ins from its start."""
    platform = Platform(folder, **settings)
    for name, source in (plugins or {}).items():
        (platform.plugins / f"{name}.py").write_text(source)
    try:
        platform.start()
    except BaseException:
        platform.close()
        raise
    return platform


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    platforms: list[Platform] = []

    def start_one(*, plugins: dict[str, str] | None = None, **settings: object) -> Platform:
        platforms.append(started(tmp_path / f"p{len(platforms)}", plugins=plugins, **settings))
        return platforms[-1]

    yield start_one
    for platform in platforms:
        try:
            if platform.supervisor.poll() is None:
                assert platform.stop() == 0
            platform.assert_nothing_left()
        finally:
            platform.close()
