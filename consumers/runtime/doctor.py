"""The doctor: what would go wrong on this machine, looked for before it does."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

from consumers.runtime.registry import Unfit, find, load, taken
from events.errors import PacelineError
from events.settings import Settings, redacted
from events.sqlite import check_version
from events.ways import reach_broker, reach_store

OURS = ("cli", "consumers", "events", "producer")


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def findings(settings: Settings) -> Iterator[Finding]:
    """Look at one thing after the other, and change nothing."""
    yield from _names()
    yield _sqlite()
    yield _folder(settings)
    yield _disk(settings)
    yield from _servers(settings)
    yield from _consumers(settings)


def _servers(settings: Settings) -> Iterator[Finding]:
    for what, url, reach in (
        ("broker", settings.broker_url, reach_broker),
        ("store", settings.store_url, reach_store),
    ):
        if url:
            try:
                reach(settings)
            except PacelineError as error:
                yield Finding(what, False, str(error))
            else:
                yield Finding(what, True, f"{redacted(url)} answers")


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
    folder = _there(settings.data_dir)
    usable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    wrong = "" if usable else ", which is no folder that this user may write"
    return Finding("data folder", usable, f"{settings.data_dir}, under {folder}{wrong}")


def _there(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_there(settings.data_dir)).free >> 20
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
    for place, reason in taken(settings.plugins).items():
        yield Finding(f"consumer {Path(place).name}", False, reason)
