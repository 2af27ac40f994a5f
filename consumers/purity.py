"""Purity: what code asks of the world while it runs, seen by the interpreter's profiler.

Nothing is patched, so it does not matter how a function was imported, and nothing is left behind.
"""

import gc
import os
import random
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

_WHOLE = {  # modules of C of which every function asks the world, and what people call them
    "posix": "os",
    "_posixsubprocess": "subprocess",
    "_socket": "socket",
    "_sqlite3": "sqlite3",
    "sqlite3": "sqlite3",
    "_uuid": "uuid",
}
_FUNCTIONS = {
    "builtins": {"print", "input", "hash", "id"},  # the last two differ in each process
    "io": {"open"},
    "_io": {"open"},
    "_thread": {"start_new_thread"},
    "time": {
        *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
        *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "clock_gettime"),
        *("clock_gettime_ns", "sleep", "localtime", "ctime", "mktime"),
    },
}
_WITHOUT_MODULE = {"builtins", "io", "_io"}
_SHARED = random.random.__self__  # type: ignore[attr-defined]  # a method of a hidden instance
_MODULES = {socket.__file__, subprocess.__file__}
_STANDARD = sysconfig.get_path("stdlib")


@contextmanager
def watched() -> Iterator[list[str]]:
    """Give a list that fills while the block runs in this thread.

    It names each clock, file, socket, process and source of chance that was asked, and where.
    """
    asked: dict[str, str] = {}
    found: list[str] = []

    def look(frame: FrameType, happened: str, called: Any) -> None:
        name = _function(frame, called) if happened == "c_call" else _method(frame, happened)
        if name and (place := _place(frame)):
            asked.setdefault(place, name)

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # what others do when rubbish is collected is not this code's doing
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
        found += [f"{name} in {place}" for place, name in asked.items()]


def _function(frame: FrameType, called: Any) -> str | None:
    """Name a function of C that asks the world."""
    of, name = getattr(called, "__self__", None), called.__name__
    if _is_chance(of):
        return f"random.{name}()"
    if isinstance(of, type):
        clock = issubclass(of, date) and name in ("now", "utcnow", "today")
        return f"{of.__name__}.{name}()" if clock else None
    if name == "fspath" or (name in ("hash", "id") and not _is_own(frame)):
        return None  # of an object that is a key, or is printed: a number that nobody sees
    module = called.__module__ or ""
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{name}()"
    if name not in _FUNCTIONS.get(module, ()):
        return None
    return f"{name}()" if module in _WITHOUT_MODULE else f"{module}.{name}()"


def _method(frame: FrameType, happened: str) -> str | None:
    """Name a function of Python that asks the world."""
    if happened != "call":
        return None
    code, of = frame.f_code, frame.f_locals.get("self")
    if _is_chance(of):
        return f"random.{code.co_name}()"
    if of is os.environ:
        return "os.environ"
    if code.co_filename in _MODULES:
        called = code.co_qualname.removesuffix(".__init__")
        return f"{Path(code.co_filename).stem}.{called}()"
    return None


def _is_chance(of: object) -> bool:
    """Say whether it gives numbers by chance; one with a seed of its own does not."""
    return of is _SHARED or isinstance(of, random.SystemRandom)


def _is_own(frame: FrameType) -> bool:
    """Say whether it is somebody's own code, not the library's and none that was generated."""
    code = frame.f_code
    return not code.co_filename.startswith((_STANDARD, "<")) and code.co_name != "__hash__"


def _place(frame: FrameType) -> str | None:
    """Return the innermost line that is not the standard library's; None while code is imported."""
    at: FrameType | None = frame
    while at is not None:
        file = at.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return None
        if not file.startswith((_STANDARD, "<")):
            return f"{Path(file).name}, line {at.f_lineno}"
        at = at.f_back
    return None
