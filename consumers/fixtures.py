"""The pytest plug-in of the kit: it gives tests a platform in memory, under the name `paceline`."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from consumers.memory_platform import MemoryPlatform


@pytest.fixture
def paceline() -> "MemoryPlatform":
    """An empty platform in memory: add consumers, post workouts, look at what they make of them."""
    # Whoever runs tests of something else in this environment does not wait for our imports.
    from consumers.memory_platform import MemoryPlatform

    return MemoryPlatform()
