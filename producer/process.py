"""producer_app(): the application of the one process that accepts, as the settings say."""

from contextlib import suppress
from functools import cache

from flask import Flask

from events.errors import Outage
from events.journal import keep_journal
from events.process import die_with_supervisor, takeover_s
from events.serving import THREADS
from events.settings import REPLICATED, read_settings
from events.ways import bookmark
from producer.app import create_app
from producer.forwarding import Forwarding
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from producer.outbox_room import Bounds
from producer.replication import Replication


def producer_app() -> Flask:
    """Make the producer's application; granian calls it inside the one process that accepts."""
    die_with_supervisor()
    settings = read_settings()
    keep_journal("producer")
    # Made at its first use, because the outbox makes the file, and asks how far the relay is.
    reader = cache(lambda: OutboxReader(settings.outbox_file))

    def passed(source: str) -> int | None:
        with suppress(Outage):
            return reader().passed(bookmark(settings, source))
        return None

    outbox = Outbox(
        settings.outbox_file,
        passed=passed,
        bounds=Bounds(settings.outbox_max_mib << 20, settings.disk_reserve_mib << 20),
        wait_s=takeover_s(),
    )
    replicated = Replication(reader(), passed) if settings.accept == REPLICATED else None
    return create_app(
        outbox,
        reader(),
        passed=passed,
        forward=Forwarding(settings.query_url, seats=THREADS - 4).forward,
        host=settings.host,
        kept=replicated.wait if replicated else None,
    )
