"""One consumer whose events come by a queue, beside a log that has them all; one worker or more."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.runtime.parts import Parts
from consumers.runtime.runner import Runner
from consumers.runtime.store import Lead
from events.bus import Delivery
from events.patience import Patience
from events.workouts import WorkoutCompleted
from tests.integration.doubles import (
    Clock,
    Killed,
    LaggingLog,
    LedStore,
    MemoryQueue,
    TickingPatience,
)
from tests.integration.world import World

TIMED = (
    "events.log.aged",
    "consumers.runtime.away",
    "consumers.runtime.desk",
    "consumers.runtime.healing",
    "consumers.runtime.runner",
)


class BrokeredWorld(World):
    """A consumer whose events come by a queue that may lose them; time goes as it is told to."""

    def __init__(
        self, folder: Path, consumer: Any, patch: pytest.MonkeyPatch, *, batch: int = 500
    ) -> None:
        super().__init__(folder, consumer, batch=batch, vfs="memdb")
        self.clock, self.queue = Clock(), MemoryQueue(size=batch)
        self.detach_at = 1_000_000
        self.lagging = LaggingLog(self.log)
        for module in TIMED:
            patch.setattr(f"{module}.time", self.clock)

    def publish(
        self, workouts: Sequence[WorkoutCompleted], *, lost: Sequence[str] = ()
    ) -> list[Delivery]:
        """Bring workouts into the log and to the queue, but for those that the queue loses."""
        at = set(self.post(workouts))
        published = [one for one in self.deliveries() if one.position in at]
        self.queue.bring(one for one in published if workout_of(one) not in lost)
        return published

    def parts(self, patience: Patience) -> Parts:
        """What the composition root puts together, with a broker."""
        return replace(
            super().parts(patience),
            log=self.lagging,
            subscribe=self.queue.subscribe,
            queue=self.queue,
            detach_at=self.detach_at,
        )

    def patience(self, condition: Callable[[], object], *, tick_s: float = 0.5) -> Patience:
        """Lets time go on while there is nothing to do, until a condition holds."""
        return TickingPatience(self.clock, condition, tick_s=tick_s)

    def run(self, condition: Callable[[], object] = lambda: True) -> None:
        """Run until there is nothing to do and the condition holds; then end cleanly.

        A process that ends otherwise loses its connection, and what it had in hand comes again.
        """
        try:
            self.runner(self.patience(condition)).run()
        except Killed:
            for one in self.queue.subscriptions:
                one.close()
            raise

    def one_of_several(self, lead: Lead, **changed: Any) -> "Several":
        """One worker of several on this store, told whether it leads."""
        store = LedStore(self.store, lead)
        parts = replace(self.parts(Patience()), store=store, **changed)
        return Several(self, store, Runner(parts))


class Several:
    """One worker of several, turn by turn."""

    def __init__(self, world: BrokeredWorld, store: LedStore, runner: Runner) -> None:
        self._world, self.store, self._runner = world, store, runner

    def turn(self) -> bool:
        """Turn once, as the loop of its process does; say whether anything was done."""
        return self._runner._turn()

    def turns(self, seconds: float) -> None:
        """Turn for so long, twice a second."""
        end = self._world.clock.now + seconds
        while self._world.clock.now < end:
            self.turn()
            self._world.clock.now += 0.5


def workout_of(delivery: Delivery) -> str:
    """Which workout a delivery brings."""
    return str(json.loads(delivery.body)["data"]["workout_id"])
