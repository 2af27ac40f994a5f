"""Leading: what one of a consumer's workers does for all of them."""

from collections.abc import Callable, Iterator

import structlog

from consumers.runtime.building import Building
from consumers.runtime.carrying import Carrying
from consumers.runtime.control import Request
from consumers.runtime.desk import Desk
from consumers.runtime.healing import Healing
from consumers.runtime.operations import operation, replay_to_handler, set_paused
from consumers.runtime.parts import Parts
from consumers.runtime.retries import take_due
from consumers.runtime.starting import wake_waiting
from consumers.runtime.store import Generation, Phase
from consumers.runtime.sweep import check_restored
from consumers.runtime.worker import Worker
from events.errors import LogRestored, PacelineError

logger = structlog.get_logger(__name__)


def stands_still(parts: Parts, live: Generation) -> bool:
    """Say whether live events wait: paused, other code than the state's, or beyond the log."""
    return (
        parts.store.mark("paused") is not None
        or parts.store.mark("problem") is not None
        or live.version != parts.loaded.version
    )


class Leading:
    """Sweeps, retries, builds, carries facts on, and does what is asked."""

    def __init__(self, parts: Parts, worker_of: Callable[[Generation], Worker]) -> None:
        self._parts, self._store = parts, parts.store
        self._name = parts.loaded.name
        self._desk = Desk(parts.control, self._name)
        self._building = Building(parts, worker_of)
        self._healing = Healing(parts, worker_of)
        self._carrying = Carrying(parts)

    def new_generation(self) -> Generation:
        """Make an empty generation for the code that is loaded."""
        return self._building.new_generation()

    def begin(self, live: Generation, worker: Worker, *, suspects: int) -> None:
        """Do it for this live generation from now on; a former worker's work is taken up."""
        self._live, self._worker = live, worker
        wake_waiting(self._store, live.number, by=self._parts.guard.place)
        self._desk.begin_again()
        self._carrying.stop()  # a relay of its own for each generation, as for each process
        self._building.resume(live, suspects=suspects)
        if self._parts.queue is not None:
            self._healing.begin(live, suspects=suspects)

    def stop(self) -> None:
        """Another worker leads."""
        self._desk.begin_again()
        self._building.stop()
        self._healing.stop()
        self._carrying.stop()

    def step(self, *, busy: bool, swapped: Callable[[], None]) -> bool:
        """Do some of everything; say whether there was anything to do."""
        moved = self._carrying.step()
        if not stands_still(self._parts, self._live):
            moved |= self._take_due()
            moved |= self._healing.step(busy=busy)
        moved |= self._building.step(self._live, swapped=swapped)
        return self._desk.serve(self._start) or moved

    def _take_due(self) -> bool:
        parts, live = self._parts, self._live

        def still() -> bool:
            return parts.patience.stopped or stands_still(parts, live)

        return take_due(
            parts.log, self._store, self._worker, live.number, guard=parts.guard, still=still
        )

    def check(self) -> None:
        """Stop the consumer where the log is older than what it has seen."""
        try:
            for generation in self._store.generations():
                if generation.phase is not Phase.OLD:
                    check_restored(self._parts.log, self._store.highest(generation.number))
        except LogRestored as restored:
            if self._store.mark("problem") is None:
                logger.error(str(restored), action="log_restored", consumer=self._name)
                self._store.set_mark("problem", str(restored))

    def _start(self, request: Request) -> Iterator[None]:
        logger.info("asked", action=request.verb, consumer=self._name, operation=request.id)
        control = self._parts.control
        if request.verb == "rebuild" and self._parts.loaded.handles:
            raise PacelineError(
                f"{self._name} is a handler, and never begins anew: it would send all of it again. "
                f"What it was never called for: `paceline replay --consumer {self._name} --act`."
            )
        if request.verb == "rebuild":
            return self._building.rebuild(request, self._live)
        if request.verb in ("pause", "resume"):
            return set_paused(request, control, self._store)
        if request.verb == "replay" and stands_still(self._parts, self._live):
            raise PacelineError(
                f"{self._name} stands still, and would count some events twice: "
                f"{self._store.mark('problem') or 'it is paused, or being rebuilt'}"
            )
        acts = request.verb == "replay" and self._parts.loaded.handles
        make = replay_to_handler if acts else operation(request.verb)
        return make(request, control, self._parts.log, self._store, self._worker, self._live)
