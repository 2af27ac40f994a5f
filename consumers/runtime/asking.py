"""Asking a consumer's worker for an operation, and watching it to its end."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from consumers.runtime.control import Control, Request, RequestState
from consumers.runtime.status import Installation
from consumers.runtime.store import Generation, StoreReader
from events.errors import PacelineError
from events.patience import Patience
from events.process import PARENT
from events.progress import progress

Check = Callable[[], None]
Watch = Callable[[Control, Request, str, Check], Request]


class Asks(Protocol):
    """What asking needs of the platform."""

    installation: Installation

    def control(self) -> Control:
        """Return the requests."""

    def worker_for(self, consumer: str) -> AbstractContextManager[Check]:
        """Have somebody do what is asked of a consumer."""


def with_state(platform: Asks) -> list[str]:
    """Return the consumers that have a state."""
    stores = {name: platform.installation.store(name) for name in platform.installation.names()}
    return [name for name, store in stores.items() if store and store.live()]


def ask(
    platform: Asks,
    consumer: str,
    verb: str,
    arguments: dict[str, Any],
    *,
    watch: Watch | None = None,
    cancelling: str = "ends it",
) -> Request:
    """Return the operation when it has ended well; raises PacelineError where it failed.

    Ctrl-C leaves it open: a worker that runs goes on with it, and the same command joins it.
    `watch` returns it when it has ended; `cancelling` says what that would do.
    """
    state_of(platform, consumer)
    control = platform.control()
    request = control.ask(consumer, verb, arguments)
    try:
        with platform.worker_for(consumer) as check:
            request = (watch or watched)(control, request, f"{verb} {consumer}", check)
    except KeyboardInterrupt as stopped:
        raise PacelineError(
            f"Not waited for. Operation {request.id} stays open: the same command joins it, "
            f"`paceline operations cancel {request.id}` {cancelling}."
        ) from stopped
    if request.state is RequestState.FAILED:
        raise PacelineError(str(request.answer.get("error", "It failed.")))
    if request.state is RequestState.CANCELLED:
        raise PacelineError(f"Operation {request.id} was cancelled.")
    return request


def watched(
    control: Control,
    request: Request,
    what: str,
    check: Check,
    *,
    pauses: Callable[[Request], bool] = lambda request: False,
) -> Request:
    """Return an operation when it has ended, or pauses for somebody; shows its progress."""
    patience = Patience(least_s=0.01, most_s=0.2)
    with progress(what) as report:
        while not (request.ended or pauses(request)):
            report(request.done, max(request.total, 1))
            check()
            patience.wait()
            request = control.get(request.id)
    return request


def check_known(installation: Installation, consumer: str) -> None:
    """Raise PacelineError that names the consumers there are, where this is none of them."""
    known = installation.names()
    if consumer not in known:
        raise PacelineError(f"There is no consumer {consumer!r}; there are: {', '.join(known)}.")


def state_of(platform: Asks, consumer: str) -> tuple[StoreReader, Generation]:
    """Return a consumer's store and live generation; raises PacelineError where it has none."""
    check_known(platform.installation, consumer)
    store = platform.installation.store(consumer)
    live = store.live() if store else None
    if store is None or live is None:
        raise PacelineError(f"{consumer} has no state yet; see `paceline consumers list`.")
    return store, live


@contextmanager
def worker_for(is_served: Callable[[], bool], consumer: str) -> Iterator[Check]:
    """Have somebody do what is asked: a worker that runs, or a new one.

    The check starts one where none runs any more; it raises PacelineError where the one that it
    started has ended before its work.
    """
    started: list[subprocess.Popen[bytes]] = []

    def check() -> None:
        if started and started[0].poll() is None:
            return
        held = is_served()
        if started and not held:
            raise PacelineError(f"The worker of {consumer} ended; its log above says why.")
        started.clear()
        if not held:
            arguments = [sys.executable, "-m", "cli", "consume", consumer]
            environment = {**os.environ, PARENT: str(os.getpid())}
            started.append(subprocess.Popen(arguments, env=environment))

    try:
        check()
        yield check
    finally:
        for process in started:
            process.terminate()
            process.wait()
