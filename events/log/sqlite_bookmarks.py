"""The relay's bookmarks and stuck rows: tables of the log's file, or of a file of their own."""

from pathlib import Path

import apsw

from events.sources import Bookmark, Stuck
from events.sqlite import connect, connect_reader, make, named_errors, writing

BOOKMARKS = """
CREATE TABLE IF NOT EXISTS bookmarks (
    source TEXT PRIMARY KEY, row INTEGER NOT NULL, event_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stuck (
    source TEXT NOT NULL, row INTEGER NOT NULL, event_id TEXT NOT NULL, reason TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (source, row));
"""
_HELD_MS = 100


class BookmarksReader:
    """The tables, for those who only read them."""

    def __init__(self, connection: apsw.Connection, path: Path, *, what: str) -> None:
        self._db, self._path = connection, path
        self._what = f"{what} {path}"

    def load(self, source: str) -> Bookmark | None:
        """Return the relay's bookmark in a source."""
        with named_errors(self._what):
            row = self._db.execute("SELECT * FROM bookmarks WHERE source = ?", (source,)).fetchone()
        return Bookmark(*row) if row else None

    def stuck(self, source: str) -> list[Stuck]:
        """Return the rows of a source that the log refused."""
        with named_errors(self._what):
            rows = self._db.execute("SELECT * FROM stuck WHERE source = ? ORDER BY row", (source,))
            return [Stuck(*row) for row in rows]

    def close(self) -> None:
        """Let the file go."""
        self._db.close()


class BookmarksWriter(BookmarksReader):
    """The tables, for the relay."""

    def save(self, bookmark: Bookmark) -> None:
        """Write how far the relay is in a source."""
        with writing(self._db, self._what):
            self._db.execute("INSERT OR REPLACE INTO bookmarks VALUES (?, ?, ?)", bookmark)

    def set_aside(self, stuck: Stuck) -> None:
        """Write that the log refuses a row of a source for itself."""
        with writing(self._db, self._what):
            self._db.execute("INSERT OR REPLACE INTO stuck VALUES (?, ?, ?, ?, ?)", stuck)


class BookmarkFile(BookmarksWriter):
    """A file of their own, beside an outbox whose relay writes into a log on a server."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or make the file; the caller holds its lock."""
        super().__init__(connect(path, vfs=vfs), path, what="bookmarks")
        make(self._db, BOOKMARKS, self._what)


def bookmarks_in(path: Path, *, busy_ms: int = _HELD_MS) -> BookmarksReader:
    """Open the bookmarks for reading; raises Outage where nobody can tell.

    It does not wait long for a file that is held: whoever asks is accepting.
    """
    return BookmarksReader(connect_reader(path, busy_ms=busy_ms), path, what="bookmarks")
