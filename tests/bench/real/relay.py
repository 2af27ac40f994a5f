"""Events that the relay carries to four queues, against a bare publisher that logs nothing."""

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from tests.bench.figures import Figure, Say
from tests.bench.history import history
from tests.bench.real.bare import BarePublisher, messages
from tests.bench.real.cost import Cost, figures
from tests.bench.real.installation import Installation
from tests.bench.real.profiling import profiled, show_profiles
from tests.bench.real.queues import Queues
from tests.bench.real.servers import Servers
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_LEAST = 0.80
WARM = 500
_LOGS = ("MongoDB", "SQLite")


class Carrying:
    """Measures one after the other on the same four queues, which are emptied between."""

    def __init__(self, servers: Servers, folder: Path, scale: Scale) -> None:
        self._servers, self._folder = servers, folder
        self._queues = Queues(servers.rabbitmq.new_vhost())
        events = list(islice(history(seed=1), WARM + scale.real_events))
        self._warm, self._events = events[:WARM], events[WARM:]
        self._messages = messages(self._events)

    @property
    def count(self) -> int:
        """How many events one measurement carries."""
        return len(self._events)

    def relay(self, log: str, profiles: Path | None = None) -> Cost:
        """The real relay, from a real outbox, after some events have opened all that it needs."""
        store_url = self._servers.new_store_url() if log == "MongoDB" else ""
        folder = Path(mkdtemp(dir=self._folder)) / "installation"
        with (
            profiled(profiles),
            closing(Installation(folder, self._queues.url, store_url)) as installation,
        ):
            installation.accept(self._warm)
            installation.carry()
            installation.accept(self._events)
            cost = installation.carry()
        self._check_and_purge(WARM + self.count)
        return cost

    def bare(self) -> Cost:
        """The same bodies, from memory."""
        cost = BarePublisher(self._queues.url, self._messages).run()
        self._check_and_purge(self.count)
        return cost

    def _check_and_purge(self, expected: int) -> None:
        self._queues.check_held(expected)
        self._queues.purge()


def measure(servers: Servers, scale: Scale, say: Say) -> list[Figure]:
    """Measure the relay with either log, and the bare publisher, in turn."""
    carried: dict[str, list[Cost]] = {log: [] for log in _LOGS}
    bare = []
    with temporary_folder() as folder:
        carrying = Carrying(servers, folder, scale)
        for _ in range(scale.pairs):
            for log, costs in carried.items():
                costs.append(carrying.relay(log))
                say(f"relay: log in {log}, {costs[-1]}")
            bare.append(carrying.bare())
            say(f"relay: bare, {bare[-1]}")
    return [figure for log, costs in carried.items() for figure in _figures(log, costs, bare)]


def _figures(log: str, carried: Sequence[Cost], bare: Sequence[Cost]) -> list[Figure]:
    return figures(
        carried,
        bare,
        part="relay",
        what=f"to 4 queues, log in {log}",
        at_least=AT_LEAST if log == "MongoDB" else None,
    )


def profile(servers: Servers, scale: Scale) -> None:
    """Print where the relay's threads spend their time."""
    with temporary_folder() as folder:
        carrying = Carrying(servers, folder, scale)
        for log in _LOGS:
            profiles = folder / log
            profiles.mkdir()
            carrying.relay(log, profiles)
            show_profiles(profiles, f"relay, log in {log}")
