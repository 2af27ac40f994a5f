"""Processes to measure, each in a folder of its own; gone, with their folder, however it ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import urllib3

from events.process import PARENT
from tests.acceptance.platform import ROOT, Platform, until
from tests.bench.figures import Void
from tests.servers.ports import free_port

_END_WITHIN_S = 15.0


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of the benchmark's."""
    with TemporaryDirectory(prefix="paceline-bench-") as folder:
        yield Path(folder)


@contextmanager
def running(*arguments: str, **settings: object) -> Iterator[Platform]:
    """`paceline` with these arguments, when it accepts; all of it, when it runs all of it."""
    with temporary_folder() as folder:
        # Named its parent, so that it ends with this process even when that is killed.
        platform = Platform(folder, parent_pid=os.getpid(), **settings)
        try:
            platform.launch(*arguments)
            if arguments == ("run",):
                platform.wait_until_ready()
            else:
                platform.wait_until_accepting()
            yield platform
            platform.stop()
        finally:
            platform.close()


@contextmanager
def bare_server(route: str) -> Iterator[int]:
    """The port of a bare server, when it answers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bare_server", route, str(port)],
        cwd=ROOT,
        env={**os.environ, PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: _answers(process, port), what=f"the bare server {route} answers")
        yield port
    finally:
        _end(process)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise Void(f"The bare server ended with {process.returncode}.")
    try:
        urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False, timeout=1.0)
    except urllib3.exceptions.HTTPError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
