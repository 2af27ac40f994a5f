"""Events that calories folds and commits from its queue, against a consumer that only acks."""

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from tests.bench.figures import Figure, Say
from tests.bench.history import history
from tests.bench.real.bare import BareConsumer, BarePublisher, messages
from tests.bench.real.cost import Cost, figures
from tests.bench.real.installation import CONSUMER, Installation
from tests.bench.real.profiling import show_profiles
from tests.bench.real.queues import Queues
from tests.bench.real.servers import Servers
from tests.bench.real.workers import WARM, Emptied, emptied
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale

AT_LEAST = {"SQLite": 0.20, "MongoDB": 0.13}


class Consuming:
    """Measures one after the other, each on a queue and a state that are new."""

    def __init__(self, servers: Servers, folder: Path, scale: Scale) -> None:
        self._servers, self._folder = servers, folder
        self._events = list(islice(history(seed=1), WARM + scale.real_events))

    @property
    def count(self) -> int:
        """How many events one measurement takes from a queue."""
        return len(self._events) - WARM

    def work(self, state: str, *, workers: int = 1, profiles: Path | None = None) -> Emptied:
        """Real workers' processes."""
        store_url = self._servers.new_store_url() if state == "MongoDB" else ""
        broker_url = self._servers.rabbitmq.new_vhost()
        folder = Path(mkdtemp(dir=self._folder)) / "installation"
        with closing(Installation(folder, broker_url, store_url)) as installation:
            return emptied(installation, self._events, workers=workers, profiles=profiles)

    def bare(self) -> Cost:
        """Pika alone."""
        url = self._servers.rabbitmq.new_vhost()
        queues = Queues(url, CONSUMER)
        BarePublisher(url, messages(self._events[WARM:])).run()
        queues.check_held(self.count)
        cost = BareConsumer(url, CONSUMER, self.count).run()
        queues.check_held(0)
        return cost


def measure(servers: Servers, scale: Scale, say: Say) -> list[Figure]:
    """Measure one worker with its state in SQLite and in MongoDB, and the bare one, in turn."""
    worked: dict[str, list[Cost]] = {state: [] for state in AT_LEAST}
    bare = []
    with temporary_folder() as folder:
        consuming = Consuming(servers, folder, scale)
        for _ in range(scale.pairs):
            for state, costs in worked.items():
                found = consuming.work(state)
                costs.append(found.cost)
                say(f"worker: state in {state}, {found}")
            bare.append(consuming.bare())
            say(f"worker: bare, {bare[-1]}")
    return [figure for state, costs in worked.items() for figure in _figures(state, costs, bare)]


def _figures(state: str, worked: Sequence[Cost], bare: Sequence[Cost]) -> list[Figure]:
    what = f"calories, state in {state}"
    return figures(worked, bare, part="worker", what=what, at_least=AT_LEAST[state])


def profile(servers: Servers, scale: Scale) -> None:
    """Print where a worker's threads spend their time."""
    with temporary_folder() as folder:
        consuming = Consuming(servers, folder, scale)
        for state in AT_LEAST:
            profiles = folder / state
            profiles.mkdir()
            consuming.work(state, profiles=profiles)
            show_profiles(profiles, f"calories, state in {state}")
