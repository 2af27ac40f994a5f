"""Ports for the servers of the tests, of those that no client is ever given by the kernel."""

import os
import random
import socket
from itertools import cycle

# Linux takes a client's port from 32768 on. A server that is seconds on its way, or is killed and
# comes back, would else find its own taken by somebody's connection.
_FIRST, _LAST, _SHARES = 12_000, 32_000, 8


def _share() -> range:
    """The ports of this process, of tests that run beside each other."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    size = (_LAST - _FIRST) // _SHARES
    return range(_FIRST + number * size, _FIRST + (number + 1) * size)


_ports = list(_share())
_start = random.randrange(len(_ports))  # other runs on this machine begin elsewhere
_next = cycle(_ports[_start:] + _ports[:_start])


def free_port() -> int:
    """A port that nobody has just now, and that is not given again for long."""
    return next(port for port in _next if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
