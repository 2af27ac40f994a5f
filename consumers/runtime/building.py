"""Building: a new generation beside the live one, because the code or somebody asks for it."""

import time
from collections.abc import Callable, Iterator

from consumers.runtime.control import Request
from consumers.runtime.parts import Parts
from consumers.runtime.rebuild import Rebuild
from consumers.runtime.store import Generation, Phase
from consumers.runtime.worker import Worker

_REPORT_EVERY_S = 0.5


class Building:
    """What a consumer's leader builds; nothing most of the time."""

    def __init__(self, parts: Parts, worker_of: Callable[[Generation], Worker]) -> None:
        self._parts, self._store, self._worker_of = parts, parts.store, worker_of
        self._rebuild: Rebuild | None = None

    def resume(self, live: Generation, *, suspects: int) -> None:
        """Go on with what was being built, or begin what the code needs; else clear it away."""
        self._rebuild = None
        loaded = self._parts.loaded
        building = [one for one in self._store.generations() if one.phase is Phase.BUILDING]
        same = building and (building[0].version, building[0].code) == (loaded.version, loaded.code)
        if same and self._is_wanted(live):
            self._build(building[0], suspects)
        elif live.version != loaded.version:
            self._build(self.new_generation(), suspects)
        elif building:
            self._store.abandon(building[0].number)

    def new_generation(self) -> Generation:
        """Make an empty generation for the code that is loaded."""
        loaded = self._parts.loaded
        return self._store.begin(
            version=loaded.version,
            code=loaded.code,
            bindings=loaded.bindings,
            indexes=loaded.indexes,
        )

    def stop(self) -> None:
        """Another worker leads, and goes on with it."""
        self._rebuild = None

    def _is_wanted(self, live: Generation) -> bool:
        """Say whether the code needs a new generation, or somebody asks for one, uncancelled."""
        return live.version != self._parts.loaded.version or any(
            request.verb == "rebuild"
            for request in self._parts.control.open(self._parts.loaded.name)
        )

    def _build(self, generation: Generation, suspects: int = 0) -> None:
        self._rebuild = Rebuild(
            self._parts.log,
            self._store,
            self._worker_of(generation),
            generation,
            size=self._parts.batch,
            suspects=suspects,
        )

    def step(self, live: Generation, *, swapped: Callable[[], None]) -> bool:
        """Fold the next part, or swap at the end and say so; return whether anything was done."""
        if self._rebuild is None:
            return False
        if not self._is_wanted(live):
            self._store.abandon(self._rebuild.generation.number)
            self._rebuild = None
            return True
        if self._rebuild.step() is not None:
            return True
        self._rebuild.swap(live)
        self._rebuild = None
        swapped()
        return True

    def rebuild(self, request: Request, live: Generation) -> Iterator[None]:
        """Build because somebody asks for it, reporting; another one's steps do the work."""
        control = self._parts.control
        if self._rebuild is None and request.memory.get("generation") != live.number:
            self._build(self.new_generation())
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
                control.report(request.id, done=total - remaining, total=total, memory=memory)
            yield
        built = self._store.live() or live
        control.finish(request.id, answer={"generation": built.number, "applied": built.applied})
