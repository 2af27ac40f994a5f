"""Code: which code answers for a consumer; strangers' code that nobody has run yet is not imported.

A worker writes the hash of its source into its store only once it has imported it. So code that
exits or hangs when it is imported ends a worker, and never reaches this process.
"""

import importlib.util
import sys
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path

import structlog

from consumers.runtime.installation import Installation
from consumers.runtime.registry import Found, Loaded, Unfit, load
from consumers.runtime.store import StoreReader

logger = structlog.get_logger(__name__)


class Code:
    """What was imported, by name and hash of the source; code that was replaced stays usable."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._imported: dict[tuple[str, str], Loaded | None] = {}

    def serving(self, found: Found) -> Loaded | None:
        """Return the code that fits what readers see of a consumer; None where nobody ran it yet.

        While a new version is being built, that is the code of the version before, if this process
        has it, and otherwise the new code, which does not fit yet.
        """
        store = self._installation.store(found.name)
        live = store.live() if store else None
        if store is None or live is None:
            return None
        current = self._current(found, store)
        if current is not None and current.version == live.version:
            return current
        return self._imported.get((found.name, live.code)) or current

    def _current(self, found: Found, store: StoreReader) -> Loaded | None:
        """Return the code of the file as it is now, if a worker has run just that."""
        source = _source(found)
        if source is None:
            return None
        key = (found.name, sha256(source.read_bytes()).hexdigest()[:16])
        # A worker whose source changed without a new version says so in a mark.
        proven = {one.code for one in store.generations()} | {store.mark("code")}
        if key[1] not in proven:
            return None
        if key not in self._imported:
            self._imported[key] = self._import(found, key[1])
        return self._imported[key]

    def _import(self, found: Found, code: str) -> Loaded | None:
        if found.attribute is not None and any(name == found.name for name, _ in self._imported):
            # A package that was replaced under us: the module that is in memory is the old one.
            sys.modules.pop(_module_name(found), None)
        try:
            loaded = load(found)
        except Unfit as unfit:
            logger.warning("unfit", action="consumer_unfit", consumer=found.name, reason=str(unfit))
            return None
        return loaded if loaded.code == code else None


def _source(found: Found) -> Path | None:
    """Return the file of a consumer, found without importing even the packages around it."""
    if found.attribute is None:
        return Path(found.place)
    top, *below = _module_name(found).split(".")
    spec, name = importlib.util.find_spec(top), top
    for part in below:
        if spec is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or []))
    return Path(spec.origin) if spec is not None and spec.origin else None


def _module_name(found: Found) -> str:
    return found.place.partition(":")[0].strip()
