"""Installation: the files of one installation, opened for reading, by each thread for itself.

What is not there yet is normal at the start and reads as nothing. A file that was put in place of
another is noticed, and opened anew.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from consumers.runtime.registry import Found, find
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.log.sqlite import SqliteLogReader
from events.settings import Settings
from events.sqlite import connect_reader, fetch_one

# The table that is made last: where it is missing, the file's owner is still making it.
_LAST_OF_LOG, _LAST_OF_STORE = "stuck", "watermarks"
_IS_MADE = "SELECT count(*) FROM sqlite_master WHERE name = ?"


_Reader = SqliteLogReader | SqliteStoreReader


class _Opened(NamedTuple):
    reader: _Reader
    inode: tuple[int, int]


class _Readers(threading.local):
    """SQLite connections may not be used by two threads at once."""

    def __init__(self) -> None:
        self.by_path: dict[Path, _Opened] = {}


class Installation:
    """Which consumers there are, and readers of the log and of their stores."""

    def __init__(self, settings: Settings, *, rescan_s: float = 1.0) -> None:
        """Look for consumers again when `rescan_s` have passed since the last time."""
        self._settings, self._rescan_s = settings, rescan_s
        self._readers = _Readers()
        self._scanned = time.monotonic()
        self._found = find(settings.plugins)

    def found(self) -> dict[str, Found]:
        """Return every consumer by name; runs no stranger's code."""
        now = time.monotonic()
        if now - self._scanned >= self._rescan_s:
            self._scanned = now
            self._found = find(self._settings.plugins)
        return self._found

    def names(self) -> list[str]:
        """Return the names of all consumers, in order."""
        return sorted(self.found())

    def log(self) -> SqliteLogReader | None:
        """Return this thread's reader of the event log, or None where no relay has made it yet."""
        opened = self._opened(self._settings.log_file, SqliteLogReader, _LAST_OF_LOG)
        return opened if isinstance(opened, SqliteLogReader) else None

    def store(self, name: str) -> SqliteStoreReader | None:
        """Return this thread's reader of a store, or None where no worker has made it yet."""
        opened = self._opened(self._settings.store_file(name), SqliteStoreReader, _LAST_OF_STORE)
        return opened if isinstance(opened, SqliteStoreReader) else None

    def _opened(self, path: Path, kind: Callable[..., _Reader], last_table: str) -> _Reader | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            self._drop(path)
            return None
        inode = (stat.st_dev, stat.st_ino)
        held = self._readers.by_path.get(path)
        if held is not None and held.inode == inode:
            return held.reader
        self._drop(path)
        connection = connect_reader(path)
        reader = kind(connection, path)
        if not fetch_one(connection, _IS_MADE, (last_table,)):
            reader.close()
            return None
        self._readers.by_path[path] = _Opened(reader, inode)
        return reader

    def _drop(self, path: Path) -> None:
        held = self._readers.by_path.pop(path, None)
        if held is not None:
            held.reader.close()

    def reopen(self) -> None:
        """Let this thread's readers go, after an outage; the next reads open the files again."""
        for path in list(self._readers.by_path):
            self._drop(path)
