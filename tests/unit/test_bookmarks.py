"""The relay's bookmarks in a file of their own, beside an outbox whose log is on a server."""

from pathlib import Path

import pytest

from events.errors import Outage
from events.log.sqlite_bookmarks import BookmarkFile, bookmarks_in
from events.sources import Bookmark, Stuck


def test_what_the_relay_writes_is_there_for_the_next_one_and_for_readers(tmp_path: Path) -> None:
    file = tmp_path / "relay.db"
    written = BookmarkFile(file)
    written.save(Bookmark("door", 3, "an id"))
    written.save(Bookmark("other", 1, "its id"))
    written.save(Bookmark("door", 7, "a later id"))
    reader = bookmarks_in(file)
    for bookmarks in (written, reader):
        assert bookmarks.load("door") == Bookmark("door", 7, "a later id")
        assert bookmarks.load("other") == Bookmark("other", 1, "its id")
        assert bookmarks.load("nobody") is None
    reader.close()
    written.close()
    again = BookmarkFile(file)
    assert again.load("door") == Bookmark("door", 7, "a later id")
    again.close()


def test_what_is_set_aside_is_there_by_source_in_the_order_of_rows_and_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "relay.db"
    written = BookmarkFile(file)
    rows = [Stuck("door", row, f"id {row}", "too large", b"\xff") for row in (9, 2, 9)]
    for row in rows:
        written.set_aside(row)
    assert written.stuck("door") == [rows[1], rows[0]]
    assert written.stuck("other") == []
    reader = bookmarks_in(file)
    assert reader.stuck("door") == [rows[1], rows[0]]
    reader.close()
    written.close()


def test_before_the_relay_has_made_the_file_nobody_can_tell(tmp_path: Path) -> None:
    with pytest.raises(Outage):
        bookmarks_in(tmp_path / "relay.db")
    assert not (tmp_path / "relay.db").exists()


def test_a_file_that_is_no_database_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Outage, match=r"relay\.db"):
        bookmarks_in(tmp_path / "relay.db").load("door")
