"""Which log and which bus the settings choose: files here, or servers elsewhere."""

from functools import cache
from typing import TYPE_CHECKING

from events.bus import Publisher
from events.bus.embedded import EmbeddedPublisher
from events.log import EventLog, LogReader
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_bookmarks import BookmarkFile, bookmarks_in
from events.log.sqlite_reader import SqliteLogReader
from events.settings import Settings
from events.sources import Bookmark, Bookmarks

if TYPE_CHECKING:
    from events.mongo import Client

# The servers' libraries are imported where they are needed, because the embedded way runs a process
# for each part, and would load them ten times for nothing.


@cache
def mongo(url: str) -> "Client":
    """Return this process's client of a store; raises Outage where nobody answers."""
    from events.mongo import connect

    return connect(url)


def reach_store(settings: Settings) -> None:
    """Ask the store whether it can serve us; raises Outage, or PacelineError that says why not."""
    mongo(settings.store_url)


def reach_broker(settings: Settings) -> None:
    """Connect to the broker once; raises Outage, or PacelineError that says why not."""
    from events.bus.rabbitmq import connected

    with connected(settings.broker_url, name="paceline doctor"):
        pass


def open_log(settings: Settings) -> tuple[EventLog, Bookmarks]:
    """Open the log and the bookmarks for the relay, which holds their lock."""
    if not settings.store_url:
        log = SqliteEventLog(settings.log_file)
        return log, log
    return shared_log(settings), BookmarkFile(settings.bookmark_file)


def shared_log(settings: Settings) -> EventLog:
    """Open the log that any number of relays may write. Raises Outage."""
    from events.log.mongo import MongoEventLog
    from events.mongo import database_name

    client = mongo(settings.store_url)
    return MongoEventLog(client, database_name(client))


def read_log(settings: Settings) -> LogReader:
    """Open the log for reading; raises Outage where there is none yet, or nobody answers."""
    if not settings.store_url:
        return SqliteLogReader.open(settings.log_file)
    from events.log.mongo_reader import MongoLogReader
    from events.mongo import database_name

    client = mongo(settings.store_url)
    return MongoLogReader(client, database_name(client))


def publisher(settings: Settings, *, wait_s: float | None = None) -> Publisher:
    """Return what a relay publishes with; `wait_s` is how long it waits for the broker."""
    if not settings.broker_url:
        return EmbeddedPublisher()
    from events.bus.rabbitmq_publisher import RabbitPublisher

    if wait_s is None:
        return RabbitPublisher(settings.broker_url)
    return RabbitPublisher(settings.broker_url, confirm_s=wait_s, ready_s=wait_s)


def bookmark(settings: Settings, source: str) -> Bookmark | None:
    """Return the relay's bookmark in a source; raises Outage where nobody can tell."""
    bookmarks = bookmarks_in(settings.bookmark_file)
    try:
        return bookmarks.load(source)
    finally:
        bookmarks.close()


def stuck_rows(settings: Settings, source: str) -> frozenset[int]:
    """Return the rows of a source that the log refused; raises Outage where nobody can tell."""
    bookmarks = bookmarks_in(settings.bookmark_file)
    try:
        return frozenset(stuck.row for stuck in bookmarks.stuck(source))
    finally:
        bookmarks.close()


def is_other_log(settings: Settings, log: LogReader) -> bool:
    """Say whether another file stands in place of the log that we read."""
    return isinstance(log, SqliteLogReader) and log.replaced()
