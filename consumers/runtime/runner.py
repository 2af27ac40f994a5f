"""The runner: one consumer's process, turn after turn: live events, retries, rebuild, requests."""

import os
import time
from collections.abc import Iterator

import structlog

from consumers.runtime.control import Request
from consumers.runtime.desk import Desk
from consumers.runtime.guard import Swollen
from consumers.runtime.operations import operation, set_paused
from consumers.runtime.parts import Parts
from consumers.runtime.rebuild import Rebuild
from consumers.runtime.retries import take_due
from consumers.runtime.starting import explain_strike, wake_waiting
from consumers.runtime.store import Generation, Phase
from consumers.runtime.sweep import check_restored
from consumers.runtime.worker import IN_HAND, Worker
from events.bus import Batch
from events.errors import LogRestored, Outage, PacelineError

logger = structlog.get_logger(__name__)
_CHECK_EVERY_S = 2.0
_REPORT_EVERY_S = 0.5


class Runner:
    """Runs until its patience is stopped, or it has grown too large and wants a new process."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._store, self._log = parts, parts.store, parts.log
        self._name = parts.loaded.name
        self._desk = Desk(parts.control, self._name)
        self._check_at = 0.0
        self._lost = False
        self._suspects = self._begin()
        self._rebuild: Rebuild | None = None
        self._go_live()
        self._resume_building()
        self._suspects = 0

    def _begin(self) -> int:
        """Note that we run, and return how many events the last run may have had in its hands."""
        unclean = self._store.mark("running") is not None
        self._store.set_mark("running", str(os.getpid()))
        self._store.set_mark("problem", None)
        loaded = self._parts.loaded
        self._store.set_mark("code", loaded.code)
        if self._store.live() is None:
            self._new_generation()
        if unclean:
            explain_strike(self._store, self._parts.guard.last_words)
            logger.warning(
                "the last run did not end cleanly", action="unclean", consumer=self._name
            )
        live = self._live()
        wake_waiting(self._store, live.number)
        if live.version == loaded.version and live.code != loaded.code:
            logger.warning(
                "the code changed and its version did not: raise it, and it is rebuilt",
                action="code_changed",
                consumer=self._name,
            )
        in_hand = int(self._store.mark(IN_HAND) or 0) if unclean else 0
        return min(in_hand, self._parts.batch)

    def _new_generation(self) -> Generation:
        loaded = self._parts.loaded
        return self._store.begin(
            version=loaded.version,
            code=loaded.code,
            bindings=loaded.bindings,
            indexes=loaded.indexes,
        )

    def _live(self) -> Generation:
        live = self._store.live()
        if live is None:
            raise PacelineError(f"The store of {self._name} has lost its live generation.")
        return live

    def _worker(self, generation: Generation) -> Worker:
        parts = self._parts
        return Worker(
            parts.loaded.consumer,
            self._store,
            generation.number,
            guard=parts.guard,
            limits=parts.limits,
        )

    def _go_live(self) -> None:
        live = self._live()
        self._generation, self._live_worker = live, self._worker(live)
        start = self._store.watermarks(live.number)
        self._subscription = self._parts.subscribe(live.bindings, start, self._suspects)
        self._batches: Iterator[Batch] = self._subscription.batches()

    def _resume_building(self) -> None:
        loaded = self._parts.loaded
        building = [one for one in self._store.generations() if one.phase is Phase.BUILDING]
        same = building and (building[0].version, building[0].code) == (loaded.version, loaded.code)
        if same and self._wants_building():
            self._build(building[0])
        elif self._generation.version != loaded.version:
            self._build(self._new_generation())
        elif building:
            self._store.abandon(building[0].number)

    def _wants_building(self) -> bool:
        """Say whether the code needs a new generation, or somebody asks for one, uncancelled."""
        return self._generation.version != self._parts.loaded.version or any(
            request.verb == "rebuild" for request in self._parts.control.open(self._name)
        )

    def _build(self, generation: Generation) -> None:
        worker = self._worker(generation)
        self._rebuild = Rebuild(
            self._log,
            self._store,
            worker,
            generation,
            size=self._parts.batch,
            suspects=self._suspects,
        )

    def run(self) -> None:
        """Turn until stopped; a clean end says so, so that the next start suspects nobody."""
        self._parts.guard.watch()
        patience = self._parts.patience
        try:
            while not patience.stopped and not self._parts.guard.swollen():
                if self._turn():
                    patience.reset()
                else:
                    patience.wait()
        except Swollen:
            return  # Those that were suspect and had no turn yet are so for the next process.
        self._store.set_mark(IN_HAND, None)
        self._store.set_mark("running", None)

    def _turn(self) -> bool:
        try:
            if self._lost:
                self._subscription.close()
                self._go_live()
                self._lost = False
            self._check()
            moved = self._take_live()
            moved |= self._take_retries()
            moved |= self._build_on()
            return self._desk.serve(self._start) or moved
        except Outage as outage:
            logger.warning("paused", action="paused", consumer=self._name, reason=str(outage))
            self._lost = True
        return False

    def _check(self) -> None:
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + _CHECK_EVERY_S
        if self._parts.replaced():
            logger.info("a file was replaced", action="replaced", consumer=self._name)
            self._parts.patience.stop()
        try:
            for generation in self._store.generations():
                if generation.phase is not Phase.OLD:
                    check_restored(self._log, self._store.highest(generation.number))
        except LogRestored as restored:
            if self._store.mark("problem") is None:
                logger.error("stopped", action="log_restored", consumer=self._name)
                self._store.set_mark("problem", str(restored))

    def _still(self) -> bool:
        """Say whether live events wait: paused, other code than the state's, or beyond the log."""
        return (
            self._store.mark("paused") is not None
            or self._store.mark("problem") is not None
            or self._generation.version != self._parts.loaded.version
        )

    def _take_live(self) -> bool:
        if self._still():
            return False
        batch = next(self._batches)
        if not batch.deliveries and not batch.through:
            return False
        self._live_worker.take(batch)
        self._subscription.ack(batch)
        return True

    def _take_retries(self) -> bool:
        if self._still():
            return False
        number, guard = self._generation.number, self._parts.guard
        return take_due(self._log, self._store, self._live_worker, number, guard=guard)

    def _build_on(self) -> bool:
        if self._rebuild is None:
            return False
        if not self._wants_building():
            self._store.abandon(self._rebuild.generation.number)
            self._rebuild = None
            return True
        if self._rebuild.step():
            return True
        self._rebuild.swap(self._generation)
        self._rebuild = None
        self._store.set_mark("problem", None)
        self._subscription.close()
        self._go_live()
        self._desk.begin_again()
        return True

    def _start(self, request: Request) -> Iterator[None]:
        logger.info("asked", action=request.verb, consumer=self._name, operation=request.id)
        if request.verb == "rebuild":
            return self._rebuild_steps(request)
        if request.verb in ("pause", "resume"):
            return set_paused(request, self._parts.control, self._store)
        make = operation(request.verb)
        if request.verb == "replay" and self._still():
            raise PacelineError(
                f"{self._name} stands still, and would count some events twice: "
                f"{self._store.mark('problem') or 'it is paused, or being rebuilt'}"
            )
        live = self._generation
        return make(request, self._parts.control, self._log, self._store, self._live_worker, live)

    def _rebuild_steps(self, request: Request) -> Iterator[None]:
        control = self._parts.control
        if self._rebuild is None and request.memory.get("generation") != self._generation.number:
            self._build(self._new_generation())
        building, total, report_at = self._rebuild, request.total, 0.0
        while self._rebuild is not None and self._rebuild is building:
            if time.monotonic() >= report_at:
                asked_at = time.monotonic()
                remaining = self._rebuild.remaining()
                # Counting takes its time in a long log; it shall not take more than a tenth of all.
                took_s = time.monotonic() - asked_at
                report_at = time.monotonic() + max(_REPORT_EVERY_S, 10 * took_s)
                total = max(total, remaining)
                memory = {"generation": self._rebuild.generation.number}
                done = total - remaining
                control.report(request.id, done=done, total=total, memory=memory)
            yield
        live = self._generation
        control.finish(request.id, answer={"generation": live.number, "applied": live.applied})
