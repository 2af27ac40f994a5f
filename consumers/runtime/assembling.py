"""Assembling: the parts of one worker, as the settings choose them."""

from consumers.runtime.fates import Ladder
from consumers.runtime.guard import Guard
from consumers.runtime.parts import Parts
from consumers.runtime.places import WorkerPlace
from consumers.runtime.registry import Found, is_replaced
from consumers.runtime.starting import load_watched
from consumers.runtime.ways import carries, open_control, open_store, queue_of, subscribe
from consumers.runtime.worker import Limits
from events.patience import Patience
from events.settings import Settings
from events.ways import is_other_log, read_log

_WAVES = 4


def assemble(
    settings: Settings, found: Found, place: WorkerPlace, patience: Patience
) -> Parts | None:
    """Return a worker's parts once log and store can be opened; None when stopped before.

    Raises Unfit where the consumer's code cannot be loaded.
    """
    guard = Guard(place.traces, memory_bytes=settings.memory_mib << 20)
    name = found.name
    opened = patience.until_made(
        lambda: (read_log(settings), open_store(settings, name), open_control(settings))
    )
    if opened is None:
        return None
    log, store, control = opened
    loaded = load_watched(found, store, guard, place, deadline_s=settings.fold_batch_s)
    # As many as are in flight are called again after a crash, so a handler takes few at once.
    batch = min(settings.batch, _WAVES * loaded.concurrency) if loaded.handles else settings.batch
    ladder = Ladder(loaded.ladder_s or settings.ladder_s)
    return Parts(
        loaded=loaded,
        store=store,
        log=log,
        control=control,
        subscribe=subscribe(settings, name, log, batch=batch),
        guard=guard,
        limits=Limits(
            settings.fold_batch_s,
            loaded.deadline_s if loaded.handles else settings.fold_alone_s,
            ladder,
        ),
        batch=batch,
        patience=patience,
        queue=queue_of(settings, name, batch=batch),
        carry=carries(settings, patience),
        detach_at=settings.detach_at,
        replaced=lambda: is_replaced(found, loaded) or is_other_log(settings, log),
    )
