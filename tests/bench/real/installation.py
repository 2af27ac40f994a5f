"""One installation, as the settings make it: an outbox, the real relay, a log, a store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from consumers.runtime.fates import State
from consumers.runtime.healing import HEALED
from consumers.runtime.store.mongo_reader import MongoStoreReader
from consumers.runtime.store.sqlite_reader import SqliteStoreReader
from events.bus.rabbitmq_publisher import RabbitPublisher
from events.envelope import Sealed
from events.log import EventLog
from events.log.mongo import MongoEventLog
from events.log.sqlite import SqliteEventLog
from events.log.sqlite_bookmarks import BookmarkFile
from events.mongo import Client, connect, database_name
from events.patience import Patience
from events.relay import Relay
from events.sources import Bookmarks
from producer.outbox import Outbox
from producer.outbox_reader import OutboxReader
from tests.bench.figures import Void
from tests.bench.real.cost import Cost, measured

_AT_ONCE = 1_000
CONSUMER = "calories"


class Installation:
    """Accepts, and carries on what it has accepted; the log is on MongoDB if there is a URL."""

    def __init__(self, folder: Path, broker_url: str, store_url: str = "") -> None:
        folder.mkdir()
        self.folder, self.broker_url, self._store_url = folder, broker_url, store_url
        self._client: Client | None = connect(store_url) if store_url else None
        self._outbox = Outbox(folder / "outbox.db", passed=lambda source: None)
        self._source = OutboxReader(folder / "outbox.db")
        log, bookmarks = self._log()
        self._publisher = RabbitPublisher(broker_url)
        self._relay = Relay([self._source], log, self._publisher, bookmarks, patience=Patience())
        self._accepted = self._carried = 0

    def _log(self) -> tuple[EventLog, Bookmarks]:
        if self._client is None:
            log = SqliteEventLog(self.folder / "log.db")
            return log, log
        bookmarks = BookmarkFile(self.folder / "relay.db")
        return MongoEventLog(self._client, database_name(self._client)), bookmarks

    @property
    def settings(self) -> Mapping[str, str]:
        """The environment of its processes."""
        return {
            "PACELINE_DATA_DIR": str(self.folder),
            "PACELINE_BROKER_URL": self.broker_url,
            "PACELINE_STORE_URL": self._store_url,
        }

    def accept(self, events: Sequence[Sealed]) -> None:
        """Bring events into the outbox."""
        for first in range(0, len(events), _AT_ONCE):
            self._outbox.accept(events[first : first + _AT_ONCE])
        self._accepted += len(events)

    def carry(self) -> Cost:
        """Carry on all that was accepted, as the relay's process does, until it is confirmed."""
        before = self._carried
        cost = measured(self._accepted - before, self._carry_all)
        if self._carried != self._accepted:
            raise Void(f"{self._accepted} events were accepted, and {self._carried} carried on.")
        return cost

    def _carry_all(self) -> None:
        while moved := self._relay.step():
            self._carried += moved

    def store(self) -> MongoStoreReader | SqliteStoreReader:
        """Return the consumer's store; raises Outage where none is yet."""
        if self._client is None:
            return SqliteStoreReader.open(self.folder / "consumers" / f"{CONSUMER}.db")
        return MongoStoreReader(self._client, database_name(self._client, CONSUMER))

    def applied(self) -> int:
        """Return how many events the consumer has applied."""
        live = self.store().live()
        return 0 if live is None else self.store().counts(live.number)[State.APPLIED]

    def check_applied(self) -> int:
        """Raise Void unless each was applied once; return how many no queue brought."""
        store = self.store()
        live = store.live()
        days = store.documents(live.number).range("", "\U0010ffff") if live else []
        effects = sum(day["workouts"] for _, day in days)
        if not self.applied() == effects == self._accepted:
            raise Void(
                f"{self._accepted} events were accepted, {self.applied()} have the fate applied, "
                f"and {effects} are counted in documents."
            )
        return int(store.mark(HEALED) or 0)

    def close(self) -> None:
        """Let it go, and take its databases away."""
        self._publisher.close()
        self._outbox.close()
        if self._client is not None:
            self._client.drop_database(database_name(self._client))
            self._client.drop_database(database_name(self._client, CONSUMER))
            self._client.close()
