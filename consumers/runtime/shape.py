"""The shape of a consumer, checked before it runs; each problem names its cure."""

import inspect
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from events.settings import LONGEST_RUNG_S
from events.topology import check_pattern

_INDEX = re.compile(r"\A[a-z0-9_-]{1,64}\Z")
_FIELD = re.compile(r"\A-?[A-Za-z_][A-Za-z0-9_]*\Z")
_MOST_THREADS, _LONGEST_S = 64, 300
_ACTS = ("fold", "handle")  # called for what they do: what they return is not looked at
_METHODS = {"keys": ("event",), "fold": ("event", "documents")}


def problems(name: str, made: Any) -> Iterable[str]:
    """Yield what is wrong with a consumer that was found under this name."""
    if getattr(made, "name", None) != name:
        yield f"name is {getattr(made, 'name', None)!r:.80}; write name = {name!r}"
    version = getattr(made, "version", None)
    if version.__class__ is not int or version < 1:
        yield f"version is {version!r:.80}; write version = 1, and raise it when the fold changes"
    yield from _binding_problems(getattr(made, "bindings", None))
    yield from _kind_problems(made)
    yield from _ladder_problems(getattr(made, "ladder_s", (1,)))
    yield from _since_problems(getattr(made, "since", None))
    yield from _index_problems(getattr(made, "indexes", {}))
    yield from _read_problems(getattr(made, "reads", {}))


def _kind_problems(made: Any) -> Iterable[str]:
    if hasattr(made, "handle"):
        if both := [name for name in (*_METHODS, "react") if hasattr(made, name)]:
            yield f"it has handle() and {', '.join(both)}; a handler acts, a projection folds"
        yield from _method_problems("handle", ("event",), made.handle)
        yield from _number_problems(made)
        return
    for method, arguments in _METHODS.items():
        yield from _method_problems(method, arguments, getattr(made, method, None))
    if hasattr(made, "react"):
        yield from _method_problems("react", ("event", "before", "after"), made.react)


def _number_problems(made: Any) -> Iterable[str]:
    concurrency = getattr(made, "concurrency", 1)
    if concurrency.__class__ is not int or not 1 <= concurrency <= _MOST_THREADS:
        yield f"concurrency is {concurrency!r:.80}; write how many threads, 1 to {_MOST_THREADS}"
    deadline_s = getattr(made, "deadline_s", 10.0)
    if deadline_s.__class__ not in (int, float) or not 0 < deadline_s <= _LONGEST_S:
        yield f"deadline_s is {deadline_s!r:.80}; write seconds, at most {_LONGEST_S}"


def _ladder_problems(ladder_s: Any) -> Iterable[str]:
    rungs = ladder_s if isinstance(ladder_s, tuple | list) else ()
    if not rungs or not all(map(_is_wait, rungs)):
        yield f"ladder_s is {ladder_s!r:.80}; write a tuple of seconds such as (1, 10, 60)"


def _is_wait(rung: Any) -> bool:
    return rung.__class__ in (int, float) and 0 < rung <= LONGEST_RUNG_S


def _since_problems(since: Any) -> Iterable[str]:
    if since is None or since == "now":
        return
    try:
        moment = datetime.fromisoformat(since)
        aware = moment.tzinfo is not None and moment.astimezone(UTC) is not None
    except (TypeError, ValueError, OverflowError):
        aware = False
    if not aware:
        yield f'since is {since!r:.80}; write "now", or a time such as "2026-11-01T00:00:00+00:00"'


def _binding_problems(bindings: Any) -> Iterable[str]:
    if not isinstance(bindings, tuple | list) or not bindings:
        yield f'bindings is {bindings!r:.80}; write a tuple such as ("workout.completed.#",)'
        return
    for pattern in bindings:
        try:
            check_pattern(pattern)
        except (ValueError, TypeError) as error:
            yield str(error)


def _method_problems(name: str, arguments: tuple[str, ...], method: Any) -> Iterable[str]:
    cure = f"write def {name}(self, {', '.join(arguments)})"
    if not callable(method):
        yield f"{name}() is missing; {cure}"
        return
    # Called, these would return something that waits for its first step, and fold nothing.
    if _is_async(method) or (name in _ACTS and inspect.isgeneratorfunction(method)):
        yield f"{name}() is async or has a yield, so it would never run; {cure}"
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError as error:
        yield f"{name}() cannot be called: {error}; {cure}"


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _index_problems(indexes: Any) -> Iterable[str]:
    such = 'such as {"farthest": ("board", "-distance_mm")}'
    if not isinstance(indexes, Mapping):
        yield f"indexes is {indexes!r:.80}; write a mapping {such}"
        return
    for name, of in indexes.items():
        named = isinstance(name, str) and _INDEX.match(name)
        fields = isinstance(of, tuple | list) and of and all(map(_is_field, of))
        if not named or not fields:
            yield f"index {name!r:.80} is of {of!r:.80}; write a name and a tuple of fields {such}"


def _is_field(field: Any) -> bool:
    return isinstance(field, str) and bool(_FIELD.match(field))


def _read_problems(reads: Any) -> Iterable[str]:
    if not isinstance(reads, Mapping) or not all(
        isinstance(path, str) and callable(read) for path, read in reads.items()
    ):
        such = '{"/users/{user}/rest{?from,to}": rest}'
        yield f"reads is {reads!r:.80}; write a mapping of paths to functions such as {such}"
        return
    for path, read in reads.items():
        yield from _call_problems(path, read)


def _call_problems(path: str, read: Any) -> Iterable[str]:
    cure = "write a function of (documents, query) that returns the answer"
    if _is_async(read) or inspect.isgeneratorfunction(read):
        yield f"the read {path!r:.80} is async or has a yield; {cure}"
    try:
        inspect.signature(read).bind("documents", "query")
    except TypeError as error:
        yield f"the read {path!r:.80} cannot be called: {error}; {cure}"
    except ValueError:
        return  # some that are written in C do not tell
