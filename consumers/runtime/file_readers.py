"""The files of one installation, opened for reading, by each thread for itself.

What is not there yet is normal at the start and reads as nothing. A file that was put in place of
another is noticed, and opened anew.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.log.sqlite_reader import SqliteLogReader
from events.settings import Settings

Reader = TypeVar("Reader", SqliteLogReader, SqliteStoreReader)
# A reader, and the file that it was opened on: another one may have taken its place since.
_Held = dict[Path, tuple[Reader, tuple[int, int]]]


class _Readers(threading.local):
    """SQLite connections may not be used by two threads at once."""

    def __init__(self) -> None:
        self.logs: _Held[SqliteLogReader] = {}
        self.stores: _Held[SqliteStoreReader] = {}


class FileReaders:
    """Readers of the log and of the stores."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._readers = _Readers()

    def log(self) -> SqliteLogReader | None:
        """Return this thread's reader of the event log, or None where no relay has made it yet.

        Raises Outage for a file that cannot be read, or is being made just now.
        """
        return self._reader(self._readers.logs, self._settings.log_file, SqliteLogReader.open)

    def store(self, name: str) -> SqliteStoreReader | None:
        """Return this thread's reader of a store, or None where no worker has made it yet.

        Raises Outage for a file that cannot be read, or is being made just now.
        """
        path = self._settings.store_file(name)
        return self._reader(self._readers.stores, path, SqliteStoreReader.open)

    def _reader(
        self, held: _Held[Reader], path: Path, opened: Callable[[Path], Reader]
    ) -> Reader | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            _close(held, path)
            return None
        inode = (stat.st_dev, stat.st_ino)
        if path not in held or held[path][1] != inode:
            _close(held, path)
            held[path] = (opened(path), inode)
        return held[path][0]

    def reopen(self) -> None:
        """Let this thread's readers go, after an outage; the next reads open the files again."""
        for path in list(self._readers.logs):
            _close(self._readers.logs, path)
        for path in list(self._readers.stores):
            _close(self._readers.stores, path)


def _close(held: _Held[Reader], path: Path) -> None:
    if path in held:
        held.pop(path)[0].close()
