"""Deciding: a rebuild that shows what it would change, and waits for somebody's yes or no."""

from collections.abc import Callable
from typing import Any

from consumers.runtime.asking import Asks, Check, state_of
from consumers.runtime.comparing import DROP, SWAP, decide, waits
from consumers.runtime.control import Control, Request, RequestState
from events.errors import PacelineError
from events.patience import Patience
from events.progress import progress

Choose = Callable[[dict[str, Any]], bool]


def rebuild_decided(
    platform: Asks, consumer: str, arguments: dict[str, Any], choose: Choose
) -> Request:
    """Return the operation when it has ended well; raises PacelineError where it failed.

    `choose` is shown the difference, and says whether it shall go live. Ctrl-C leaves all as it is
    then: the same command shows it again.
    """
    state_of(platform, consumer)
    control = platform.control()
    request = control.ask(consumer, "rebuild", arguments)
    try:
        with platform.worker_for(consumer) as check:
            request = _decided(control, request, f"rebuild {consumer}", check, choose)
    except KeyboardInterrupt as stopped:
        raise PacelineError(
            f"Not waited for. Operation {request.id} stays open: the same command joins it, "
            f"`paceline operations cancel {request.id}` throws away what it has built."
        ) from stopped
    if request.state is RequestState.FAILED:
        raise PacelineError(str(request.answer.get("error", "It failed.")))
    if request.state is RequestState.CANCELLED:
        raise PacelineError(f"Operation {request.id} was cancelled.")
    return request


def _decided(
    control: Control, request: Request, what: str, check: Check, choose: Choose
) -> Request:
    request = _watched(control, request, what, check)
    while not request.ended:
        said = SWAP if choose(request.memory["difference"]) else DROP
        now = control.get(request.id)
        # A worker whose code was changed meanwhile has built another one, to be shown first.
        if now.memory == request.memory:
            decide(control, request, said)
        request = _watched(control, now, what, check)
    return request


def _watched(control: Control, request: Request, what: str, check: Check) -> Request:
    """Return it when it has ended or waits for somebody."""
    patience = Patience(least_s=0.01, most_s=0.2)
    with progress(what) as report:
        while not (request.ended or waits(request := control.get(request.id))):
            report(request.done, max(request.total, 1))
            check()
            patience.wait()
    return request
