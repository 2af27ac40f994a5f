"""Reading what a test has written."""

from pathlib import Path
from typing import Protocol

import pytest

from producer.importing import ImportOptions, Recorded, read

ADA = ImportOptions(user="ada")


class Reading(Protocol):
    """Write the content to a file and read it."""

    def __call__(
        self, content: str | bytes, options: ImportOptions = ADA, *, name: str = "recording"
    ) -> list[Recorded]: ...


@pytest.fixture
def recording(tmp_path: Path) -> Reading:
    def reading(
        content: str | bytes, options: ImportOptions = ADA, *, name: str = "recording"
    ) -> list[Recorded]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, options=options)

    return reading
