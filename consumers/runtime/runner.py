"""The runner: one worker's process, turn after turn: live events, and, if it leads, all else."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from consumers.runtime.acting import act_of, check_kind
from consumers.runtime.arriving import Arriving
from consumers.runtime.away import Away, Queued
from consumers.runtime.guard import Swollen
from consumers.runtime.leading import Leading, stands_still
from consumers.runtime.parts import Parts
from consumers.runtime.starting import explain_strike
from consumers.runtime.store import Generation, Lead
from consumers.runtime.worker import IN_HAND, Worker
from events.bus import Batch
from events.errors import Gone, Outage, Overtaken, PacelineError

logger = structlog.get_logger(__name__)
_CHECK_EVERY_S = 2.0
_NO_QUEUE, _BORN = "no-queue", "born"


class Runner:
    """Runs until its patience is stopped, or it has grown too large and wants a new process.

    Every worker takes live events; one of them leads.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts, self._store = parts, parts.store
        self._name = parts.loaded.name
        self._away = Away(parts)
        self._check_at = 0.0
        self._lost = self._busy = False
        self._held: Batch | None = None
        self._owed = 0
        check_kind(parts.loaded, self._store)
        lead = self._store.lead()
        # Held already: another try to begin in this process has ended in an outage.
        lead = Lead.INHERITED if lead is Lead.HELD else lead
        self._leads = lead is not Lead.NONE
        self._act = act_of(parts.loaded, born=self._born_at())
        self._leading = Leading(parts, self._worker)
        self._owed = self._begin(lead)
        self._go_live(self._owed)
        try:
            if self._leads:
                self._take_lead()
            self._arriving = Arriving(parts)
        except BaseException:
            self._subscription.close()  # it would go on taking what nobody folds
            raise

    def _born_at(self) -> datetime:
        """Return when this consumer first went live: what was accepted before is history."""
        if self._store.mark(_BORN) is None:
            self._store.set_mark(_BORN, datetime.now(UTC).isoformat())
        return datetime.fromisoformat(self._store.mark(_BORN) or "")

    def _begin(self, lead: Lead) -> int:
        """Note that we run, and return how many events the last run may have had in its hands."""
        loaded = self._parts.loaded
        self._store.set_mark("code", loaded.code)
        live = self._store.live() or self._leading.new_generation()
        guard = self._parts.guard
        if guard.last_words or lead is Lead.INHERITED:
            explain_strike(self._store, guard.last_words, by=guard.place)
        if not self._leads:
            return 0
        self._store.set_mark("problem", None)
        if not loaded.handles and live.version == loaded.version and live.code != loaded.code:
            logger.warning(
                "the code changed and its version did not: raise it, and it is rebuilt",
                action="code_changed",
                consumer=self._name,
            )
        return self._suspects(lead)

    def _suspects(self, lead: Lead) -> int:
        if lead is not Lead.INHERITED:
            return 0
        logger.warning("the last run did not end cleanly", action="unclean", consumer=self._name)
        return min(int(self._store.mark(IN_HAND) or 0), self._parts.batch)

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
            act=self._act,
            bindings=generation.bindings,
            since_ms=generation.since_ms,
            at_once=parts.loaded.concurrency if parts.loaded.handles else 1,
        )

    def _go_live(self, suspects: int = 0) -> None:
        live = self._live()
        worker, start = self._worker(live), self._store.watermarks(live.number)
        self._subscription = self._parts.subscribe(live.bindings, start, suspects)
        self._batches: Iterator[Batch] = self._subscription.batches()
        # Last, because whoever finds these set takes it for done.
        self._generation, self._live_worker, self._held = live, worker, None
        self._away.detached = False

    def _take_lead(self) -> None:
        """Begin to lead; where that fails halfway, the next look begins it again."""
        self._leads = False
        self._leading.begin(self._generation, self._live_worker, suspects=self._owed)
        self._leads, self._owed = True, 0

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
        self._subscription.close()
        if self._leads:
            self._store.set_mark(IN_HAND, None)
        self._store.leave()

    def _turn(self) -> bool:
        try:
            if self._lost:
                self._come_back()
            self._check()
            moved = self._take_live()
            if self._leads:
                moved |= self._leading.step(busy=self._busy, swapped=self._swapped)
            return moved
        except Outage as outage:
            logger.warning("paused", action="paused", consumer=self._name, reason=str(outage))
        except (Gone, Overtaken) as changed:
            # Another worker has swapped or begun a generation: look what is live now.
            logger.info("looking again", action="again", consumer=self._name, reason=str(changed))
        self._lost = True
        return False

    def _come_back(self) -> None:
        """Go on after an outage or a swap; what is in hand and has no fate is still in hand."""
        if self._live().number != self._generation.number:
            self._follow()
        self._batches = self._subscription.batches()
        self._lost = False

    def _follow(self) -> None:
        """Serve what is live now."""
        self._subscription.close()
        self._go_live()
        if self._leads:
            self._take_lead()

    def _swapped(self) -> None:
        self._store.set_mark("problem", None)
        self._follow()

    def _check(self) -> None:
        if time.monotonic() < self._check_at:
            return
        self._check_at = time.monotonic() + _CHECK_EVERY_S
        if self._parts.replaced():
            logger.info("a file was replaced", action="replaced", consumer=self._name)
            self._parts.patience.stop()
        self._check_lead(self._store.lead())
        if self._live().number != self._generation.number:
            self._follow()
        if self._store.mark(_NO_QUEUE) != self._subscription.problem:
            self._store.set_mark(_NO_QUEUE, self._subscription.problem)
        self._check_queue(self._away.check(away=self._still()))
        if self._leads:
            self._leading.check()
        if self._arriving.is_over():
            self._parts.patience.stop()

    def _check_queue(self, queued: Queued) -> None:
        if queued is Queued.GOES:
            self._subscription.close()
            self._held = None
            self._away.detach()
        elif queued is Queued.COMES_BACK:
            self._go_live()

    def _check_lead(self, lead: Lead) -> None:
        if lead is Lead.NONE:
            if self._leads:
                self._leads = False
                self._leading.stop()
            return
        if lead is Lead.INHERITED:
            self._owed = self._suspects(lead)
        # It may have been taken and the answer lost, or taking it may have ended halfway.
        if lead is not Lead.HELD or not self._leads:
            self._take_lead()

    def _still(self) -> bool:
        return stands_still(self._parts, self._generation)

    def _take_live(self) -> bool:
        if self._still() or self._away.detached:
            return False
        batch = self._held or next(self._batches)
        queue = self._parts.queue
        self._busy = queue is not None and len(batch.deliveries) >= queue.size
        if not batch.deliveries and not batch.through:
            return False
        self._held = batch
        self._live_worker.take(batch)
        self._subscription.ack(batch)
        self._held = None
        return True
