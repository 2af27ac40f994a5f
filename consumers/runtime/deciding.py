"""Deciding: a rebuild that shows what it would change, and waits for somebody's yes or no."""

from collections.abc import Callable
from typing import Any

from consumers.runtime.asking import Asks, Check, ask, watched
from consumers.runtime.comparing import DROP, SWAP, decide, waits
from consumers.runtime.control import Control, Request

Choose = Callable[[dict[str, Any]], bool]


def rebuild_decided(
    platform: Asks, consumer: str, arguments: dict[str, Any], choose: Choose
) -> Request:
    """Return the operation when it has ended well; raises PacelineError where it failed.

    `choose` is shown the difference, and says whether it shall go live. Ctrl-C leaves all as it is
    then: the same command shows it again.
    """

    def decided(control: Control, request: Request, what: str, check: Check) -> Request:
        request = watched(control, request, what, check, pauses=waits)
        while not request.ended:
            said = SWAP if choose(request.memory["difference"]) else DROP
            # A worker whose code was changed meanwhile has built another one, to be shown first.
            if control.get(request.id).memory == request.memory:
                decide(control, request, said)
            request = watched(control, control.get(request.id), what, check, pauses=waits)
        return request

    return ask(
        platform,
        consumer,
        "rebuild",
        arguments,
        watch=decided,
        cancelling="throws away what it has built",
    )
