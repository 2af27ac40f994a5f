"""The doctor: what would go wrong on this machine, looked for before it does."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from typing import NamedTuple

from consumers.runtime.registry import Unfit, find, load
from events.errors import PacelineError
from events.settings import Settings
from events.sqlite import check_version

OURS = ("cli", "consumers", "events", "producer")


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def findings(settings: Settings) -> list[Finding]:
    """Look at everything, and change nothing."""
    return [*_names(), _sqlite(), _folder(settings), _disk(settings), *_consumers(settings)]


def _names() -> Iterator[Finding]:
    owners = packages_distributions()
    for name in OURS:
        others = set(owners.get(name, ())) - {"paceline"}
        detail = f"also installed by {', '.join(sorted(others))}" if others else "ours alone"
        yield Finding(f"import name {name}", not others, detail)


def _sqlite() -> Finding:
    try:
        check_version()
    except PacelineError as error:
        return Finding("SQLite", False, str(error))
    return Finding("SQLite", True, "a version that is safe with several processes")


def _folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    writable = os.access(folder, os.W_OK)
    return Finding("data folder", writable, f"{settings.data_dir}, under {folder}")


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    enough = free > 2 * settings.disk_reserve_mib
    return Finding(
        "free disk", enough, f"{free} MiB, and {settings.disk_reserve_mib} are kept free"
    )


def _consumers(settings: Settings) -> Iterator[Finding]:
    for name, found in find(settings.plugins).items():
        try:
            loaded = load(found)
        except Unfit as error:
            yield Finding(f"consumer {name}", False, str(error))
        else:
            yield Finding(f"consumer {name}", True, f"version {loaded.version}, {found.place}")
