"""Serving HTTP with granian: one process that accepts, sixteen threads, nothing outlives it."""

import os

from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

from events.process import PARENT

THREADS = 16
_LONGEST_HEADER = 64 << 10


def serve(factory: str, *, host: str, port: int) -> None:
    """Serve the WSGI application that `module:function` makes, until SIGTERM or SIGINT.

    One worker, because the outbox has one writing process; it is made by the factory inside that
    worker, so that no thread and no lock crosses the fork. The factory calls
    `events.process.die_with_supervisor` first.
    """
    # So that the worker, which is forked from here, can tell whether this process still lives.
    os.environ[PARENT] = str(os.getpid())
    Granian(
        factory,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        factory=True,
        workers=1,
        blocking_threads=THREADS,
        blocking_threads_idle_timeout=600,
        backlog=2048,
        http1_settings=HTTP1Settings(max_buffer_size=_LONGEST_HEADER + (8 << 10)),
        websockets=False,
        workers_kill_timeout=10,
        log_level="error",  # type: ignore[arg-type]  # its own enumeration takes the text
    ).serve()
