"""Upcasters: v1 -> v2 -> ..., one function a step, from data to data; old steps are never edited.

To add version 2 of a fact: raise its number in `CURRENT`, write the step from 1 to 2, and freeze a
sample of version 1 in the tests.
"""

from collections.abc import Callable, Mapping
from typing import Any

from events.errors import NewerVersion

Data = dict[str, Any]
Steps = Mapping[tuple[str, int], Callable[[Data], Data]]

CURRENT: Mapping[str, int] = {"workout.completed": 1, "achievement.unlocked": 1}
STEPS: Steps = {}


def upcast(
    kind: str,
    version: int,
    data: Data,
    *,
    steps: Steps = STEPS,
    current: Mapping[str, int] = CURRENT,
) -> Data:
    """Return `data` as the current version of its type has it; raises NewerVersion beyond it."""
    known = current.get(kind, 0)
    if version > known:
        raise NewerVersion(kind, version, known)
    for step in range(version, known):
        data = steps[kind, step](data)
    return data
