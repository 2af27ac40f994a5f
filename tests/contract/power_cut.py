"""A disk whose power can be cut: an SQLite VFS that keeps apart what was not synced yet."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any
from uuid import uuid4

import apsw

SECTOR = 512  # bytes that a disk writes whole or not at all
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL


class Platters:
    """What a file has for good, and in order what was written since its last sync."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes | None) -> None:
        """Write for good; None ends the file at the offset."""
        if data is None:
            del self.durable[offset:]
            return
        self.durable.extend(bytes(max(0, offset - len(self.durable))))
        self.durable[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Write for good what was not synced yet."""
        for offset, data in self.unsynced:
            self.write(offset, data)
        self.unsynced.clear()

    def lose(self, random: Random, kept: float) -> None:
        """Of what was not synced, keep each sector with this probability."""
        for offset, data in self.unsynced:
            for start, sector in _sectors(offset, data):
                if random.random() < kept:
                    self.write(start, sector)
        self.unsynced.clear()


def _sectors(offset: int, data: bytes | None) -> Iterator[tuple[int, bytes | None]]:
    if data is None:
        yield offset, None
        return
    starts = [0, *range(SECTOR - offset % SECTOR, len(data), SECTOR)]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        yield offset + start, data[start:end]


class Disk(apsw.VFS):
    """The one disk of all files that are opened with `vfs=disk.name`.

    Programs see real files in the folder that `start` makes. `cut` loses all or random sectors of
    what was not synced; from then on every call on those files fails. The next `start` puts what
    has survived into another folder, without the shared memory that lay beside it. While it is
    `full`, reads go on and every write fails.
    """

    def __init__(self, seed: int) -> None:
        self.name = f"power-cut-{uuid4().hex}"
        super().__init__(self.name, "")
        self.off = True
        self.full = False
        self.starts = 0
        self.folder = Path()
        self.operations = 0
        self._cut_at: int | None = None
        self._random = Random(seed)
        self._files: dict[str, Platters] = {}
        self._removed: dict[str, Platters] = {}
        self._lock = RLock()

    def start(self, folder: Path, *, cut_at: int | None = None) -> None:
        """Turn the power on, until that write or sync, counted from 1."""
        folder.mkdir()
        for name, platters in self._files.items():
            (folder / name).write_bytes(platters.durable)
        self.starts += 1
        self.folder, self.operations, self._cut_at, self.off = folder, 0, cut_at, False

    def cut(self) -> None:
        """Turn the power off."""
        with self._lock:
            if self.off:
                return
            self.off = True
            for name, platters in self._removed.items():
                if self._random.random() < 0.5:  # its folder was not synced, so it may be back
                    self._files.setdefault(name, platters)
            self._removed.clear()
            kept = self._random.choice((0.0, 0.0, 0.5, 0.9))
            for platters in self._files.values():
                platters.lose(self._random, kept)

    def check(self, start: int) -> None:
        """Raise where the power is off, or was after that start."""
        if self.off or start != self.starts:
            raise apsw.IOError("the power is off")

    def _check_folder(self, path: Path) -> None:
        self.check(self.starts if path.parent == self.folder else 0)

    def _step(self) -> None:
        self.operations += 1
        if self.operations == self._cut_at:
            self.cut()
            raise apsw.IOError("the power is off")

    def wrote(self, start: int, platters: Platters, offset: int, data: bytes | None) -> None:
        """Keep apart what has only reached the disk's memory."""
        with self._lock:
            self.check(start)
            if self.full:
                raise apsw.FullError("the disk is full")
            platters.unsynced.append((offset, data))
            self._step()

    def synced(self, start: int, platters: Platters, *, folder_too: bool) -> None:
        """Write a file for good, unless the power goes just now."""
        with self._lock:
            self.check(start)
            self._step()
            platters.sync()
            if folder_too:
                self._removed.clear()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open a file."""
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        self._check_folder(path)
        with self._lock:
            platters = self._files.setdefault(path.name, Platters())
        return _File(self, platters, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        """Remove a file; without a sync of its folder it may be back after a cut."""
        self._check_folder(Path(filename))
        super().xDelete(filename, syncdir)
        with self._lock:
            removed = self._files.pop(Path(filename).name, Platters())
            if not syncdir:
                self._removed[Path(filename).name] = removed

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        """Say whether a file is there."""
        self._check_folder(Path(pathname))
        return super().xAccess(pathname, flags)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        """Wait for a lock, which without power nobody lets go."""
        return microseconds if self.off else super().xSleep(microseconds)


class _File(apsw.VFSFile):
    """An open file: reads and locks are the real one's, writes and syncs the disk's."""

    def __init__(
        self, disk: Disk, platters: Platters, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        super().__init__("", name, flags)
        self._disk, self._platters, self._start = disk, platters, disk.starts
        # As on the real system: the first sync of a new journal syncs its folder too.
        self._folder_too = bool(flags[0] & _JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._disk.wrote(self._start, self._platters, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.wrote(self._start, self._platters, newsize, None)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.synced(self._start, self._platters, folder_too=self._folder_too)
        self._folder_too = False

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check(self._start)
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.check(self._start)
        return super().xFileSize()

    def xLock(self, level: int) -> None:  # noqa: N802
        try:
            self._disk.check(self._start)
            super().xLock(level)
        except apsw.IOError as error:
            if level == apsw.SQLITE_LOCK_EXCLUSIVE:
                # A closing connection asks for it, and takes only a busy file for an answer.
                raise apsw.BusyError(str(error)) from error
            raise
