"""Events a second of two workers on one queue and one state in MongoDB, against one worker."""

from tests.bench.figures import Figure, Say
from tests.bench.real.cost import Cost, figures
from tests.bench.real.servers import Servers
from tests.bench.real.worker import Consuming
from tests.bench.running import temporary_folder
from tests.bench.scale import Scale


def measure(servers: Servers, scale: Scale, say: Say) -> list[Figure]:
    """Measure two and one in turn; whatever the ratio is, it is only shown."""
    with temporary_folder() as folder:
        consuming = Consuming(servers, folder, scale)
        costs: dict[int, list[Cost]] = {2: [], 1: []}
        for _ in range(scale.pairs):
            for workers, of in costs.items():
                found = consuming.work("MongoDB", workers=workers)
                of.append(found.cost)
                say(f"workers: {workers} on MongoDB, {found}")
    return figures(
        costs[2], costs[1], part="workers", what="two on MongoDB", against="one", at_least=None
    )
