"""Building: a new generation beside the live one, because the code or somebody asks for it."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from consumers.runtime.acting import since_ms
from consumers.runtime.comparing import (
    DROP,
    REFUSE,
    SWAP,
    compare_in_steps,
    compares,
    decision,
    refusal,
)
from consumers.runtime.control import Request
from consumers.runtime.differences import Figures
from consumers.runtime.holding import Holding
from consumers.runtime.parts import Parts
from consumers.runtime.rebuild import Rebuild
from consumers.runtime.store import Generation, Phase
from consumers.runtime.worker import Worker
from events.errors import PacelineError

_REPORT_EVERY_S = 0.5


class Building:
    """What a consumer's leader builds; nothing most of the time."""

    def __init__(self, parts: Parts, worker_of: Callable[[Generation], Worker]) -> None:
        self._parts, self._store, self._worker_of = parts, parts.store, worker_of
        self._holding = Holding(parts)
        self._rebuild: Rebuild | None = None
        self._whole = False

    def resume(self, live: Generation, *, suspects: int) -> None:
        """Go on with what was being built, or begin what the code needs; else clear it away."""
        self._rebuild = None
        loaded = self._parts.loaded
        building = [one for one in self._store.generations() if one.phase is Phase.BUILDING]
        same = building and (building[0].version, building[0].code) == (loaded.version, loaded.code)
        asked = self._asked()
        self._holding.look(live, asked)
        if same and self._is_wanted(live, asked):
            self._build(building[0], suspects)
        elif self._holding.is_needed(live):
            self._build(self.new_generation(), suspects)
        elif building:
            self._store.abandon(building[0].number)
        if live.version != loaded.version and not self._holding.is_needed(live):
            self._holding.say_refused()

    def new_generation(self) -> Generation:
        """Make an empty generation for the code that is loaded."""
        loaded, live = self._parts.loaded, self._store.live()
        return self._store.begin(
            version=loaded.version,
            code=loaded.code,
            bindings=loaded.bindings,
            indexes=loaded.indexes,
            # "now" stays when it came; a date may be another one in another version.
            since_ms=live.since_ms
            if live and loaded.since == "now"
            else since_ms(loaded, datetime.now(UTC)),
        )

    def stop(self) -> None:
        """Another worker leads, and goes on with it."""
        self._rebuild = None

    def _asked(self) -> list[Request]:
        """Return the open requests for a rebuild."""
        asked = self._parts.control.open(self._parts.loaded.name)
        return [request for request in asked if request.verb == "rebuild"]

    def _is_wanted(self, live: Generation, asked: list[Request]) -> bool:
        """Say whether the code needs a new generation, or somebody asks for one, uncancelled."""
        return bool(asked) or self._holding.is_needed(live)

    def _build(self, generation: Generation, suspects: int = 0) -> Rebuild:
        self._whole = False
        self._rebuild = Rebuild(
            self._parts.log,
            self._store,
            self._worker_of(generation),
            generation,
            size=self._parts.batch,
            suspects=suspects,
        )
        return self._rebuild

    def step(self, live: Generation, *, swapped: Callable[[], None]) -> bool:
        """Fold the next part, or swap at the end and say so; return whether anything was done."""
        if self._rebuild is None:
            return False
        asked = self._asked()
        self._holding.look(live, asked)
        if not self._is_wanted(live, asked):
            self._abandon()
            return True
        if self._rebuild.step() is not None:
            return True
        self._whole = True
        if self._holding.keeps(live, self._rebuild.generation, asked):
            return False
        self._rebuild.swap(live)
        self._rebuild = None
        self._holding.let_go()
        swapped()
        return True

    def _abandon(self) -> None:
        if self._rebuild is not None:
            self._store.abandon(self._rebuild.generation.number)
            self._rebuild = None

    def rebuild(self, request: Request, live: Generation) -> Iterator[None]:
        """Build because somebody asks for it, reporting; another one's steps do the work.

        Where the request wants it compared first, that and what was decided come before the swap.
        """
        self._check_alone(request)
        begun = request.memory.get("generation")
        if begun != live.number and not self._is_thrown_away(request):
            building = self._rebuild or self._build(self.new_generation())
            yield from self._until_whole(request, building)
            if compares(request) and self._rebuild is building:
                yield from self._compared(request, live, building.generation)
            yield from self._until_decided(request, live, building)
        self._finish(request, live)

    def _check_alone(self, request: Request) -> None:
        """Raise PacelineError where another operation builds, and may wait for a person."""
        for other in self._asked():
            if other.id < request.id:
                raise PacelineError(
                    f"Operation {other.id} rebuilds {request.consumer} already. If it waits for a "
                    "yes or no, the command that asked for it shows it again, and `paceline "
                    f"operations cancel {other.id}` throws it away."
                )

    def _is_thrown_away(self, request: Request) -> bool:
        """Say whether a worker ended after it had thrown away what it built, and before it said."""
        building = self._rebuild.generation.number if self._rebuild else None
        said = request.memory.get("decision") in (DROP, REFUSE)
        return said and request.memory["generation"] != building

    def _until_whole(self, request: Request, building: Rebuild) -> Iterator[None]:
        """Report until all that is logged is folded."""
        memory, total, report_at = self._mine(request, building.generation), request.total, 0.0
        while self._rebuild is building and not self._whole:
            # Once it was shown to somebody, the memory is theirs to write.
            if time.monotonic() >= report_at and "difference" not in memory:
                asked_at = time.monotonic()
                remaining = building.remaining()
                # Counting takes its time in a long log; it shall not take more than a tenth of all.
                took_s = time.monotonic() - asked_at
                report_at = time.monotonic() + max(_REPORT_EVERY_S, 10 * took_s)
                total = max(total, remaining)
                memory["generation"] = building.generation.number
                self._parts.control.report(
                    request.id, done=total - remaining, total=total, memory=memory
                )
            yield

    def _mine(self, request: Request, generation: Generation) -> dict[str, Any]:
        same = request.memory.get("generation") == generation.number
        return dict(request.memory) if same else {}

    def _compared(self, request: Request, live: Generation, built: Generation) -> Iterator[None]:
        """Compare it with the live one, unless that was done before a worker ended."""
        memory = self._mine(request, built)
        if "difference" in memory:
            return
        control, total = self._parts.control, self._parts.control.get(request.id).total

        def remember(found: dict[str, Any]) -> None:
            control.report(request.id, done=total, total=total, memory=found)

        yield from compare_in_steps(request, self._store, live, built, remember)

    def _until_decided(
        self, request: Request, live: Generation, building: Rebuild
    ) -> Iterator[None]:
        """Wait until it is swapped, or throw it away where that was decided."""
        number = building.generation.number
        while self._rebuild is building:
            said = decision(self._parts.control.get(request.id), number)
            if said in (DROP, REFUSE):
                self._throw_away(request, live)
                return
            if said != SWAP:
                self._parts.patience.wait()  # for a person, and nothing else is to be done here
            yield

    def _throw_away(self, request: Request, live: Generation) -> None:
        """Drop what was built, unless others ask for it; code that it was of is not built again."""
        if any(one.id != request.id for one in self._asked()):
            return
        self._holding.refuse(live)
        self._abandon()

    def _finish(self, request: Request, live: Generation) -> None:
        control, built = self._parts.control, self._store.live() or live
        answer: dict[str, Any] = {"generation": built.number, "applied": built.applied}
        refused = False
        if compares(request):
            memory = control.get(request.id).memory
            swapped = memory.get("generation") == built.number
            answer |= {"swapped": swapped, "difference": memory.get("difference")}
            refused = not swapped and memory.get("decision") == REFUSE
        if refused:
            figures, most = Figures(**answer["difference"]), request.arguments["max_change"]
            answer["error"] = refusal(self._parts.loaded.name, figures, most)
        control.finish(request.id, answer=answer, failed=refused)
