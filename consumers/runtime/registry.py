"""The registry: which consumers there are, and each one's code, checked for its shape.

Names come from entry points and file names, so that whoever only needs names runs no stranger's
code. Built-in consumers are entry points like any other.
"""

import importlib
import inspect
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from consumers import Projection, Read
from consumers.runtime.shape import problems
from events.errors import PacelineError

GROUP = "paceline.consumers"
_SOURCE = "__paceline_source__"
NAME = re.compile(r"\A[a-z0-9][a-z0-9-]{0,62}\Z")


class Unfit(PacelineError):
    """A consumer cannot be loaded, or its shape is wrong."""


@dataclass(frozen=True, slots=True)
class Found:
    """A consumer by name, not loaded yet; `place` is the file or the entry point."""

    name: str
    place: str
    module: Callable[[], ModuleType]
    attribute: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A consumer that can be run; `code` is a hash of its source.

    `since` is the first moment of acceptance that it wants, "now" for when it arrives, or None. A
    handler has one generation for ever, so its version here is always 1; it calls `concurrency`
    times at once, for `deadline_s` each.
    """

    name: str
    consumer: Projection
    version: int
    code: str
    bindings: tuple[str, ...]
    indexes: Mapping[str, tuple[str, ...]]
    reads: Mapping[str, Read]
    since: str | None = None
    handles: bool = False
    concurrency: int = 1
    deadline_s: float = 10.0
    ladder_s: tuple[float, ...] | None = None


def find(plugins: Path) -> dict[str, Found]:
    """Return every consumer by name: our own first, then other packages, then single files."""
    found: dict[str, Found] = {}
    for candidate in _candidates(plugins):
        if NAME.match(candidate.name):
            found.setdefault(candidate.name, candidate)
    return found


def taken(plugins: Path) -> dict[str, str]:
    """Return, by place, what is not used, because its name is none or is taken, and why."""
    found = find(plugins)
    return {
        one.place: f"{one.place}: {_name_problem(one, found.get(one.name))}."
        for one in _candidates(plugins)
        if one.name not in found or found[one.name].place != one.place
    }


def _name_problem(one: Found, owner: Found | None) -> str:
    if owner is None:
        return f"the name {one.name!r} must be of a-z, 0-9 and '-', not '-' at first, at most 63"
    is_file = one.attribute is None and one.place.endswith(".py")
    cure = "give the file and its class another name" if is_file else "uninstall one of the two"
    return f"the name {one.name!r} is taken by {owner.place}, which is installed; {cure}"


def _candidates(plugins: Path) -> list[Found]:
    points = entry_points(group=GROUP)
    # Whatever stands first on the path, nobody takes the place of a consumer of ours.
    ours_first = sorted(points, key=lambda point: not point.value.startswith("consumers."))
    return [*_packages(ours_first), *_files(plugins)]


def single(file: Path) -> Found:
    """Return the consumer of a file that may be anywhere, whatever others are called."""
    return Found(file.stem, str(file), _executor(file))


def _packages(points: Iterable[EntryPoint]) -> Iterable[Found]:
    for point in points:
        if not re.fullmatch(r"[\w.]+(:\w+)?", point.value):
            yield Found(point.name, point.value, _refuser(point.value), "")
        else:
            yield Found(point.name, point.value, _importer(point.module), point.attr)


def _refuser(value: str) -> Callable[[], ModuleType]:
    def refuse() -> ModuleType:
        raise Unfit(f"The entry point {value!r} is not a module, or module:Class.")

    return refuse


def _importer(name: str) -> Callable[[], ModuleType]:
    return lambda: importlib.import_module(name)


def _files(plugins: Path) -> Iterable[Found]:
    for file in sorted(plugins.glob("*.py")):
        if not file.name.startswith(("_", ".")):
            yield single(file)


def _executor(file: Path) -> Callable[[], ModuleType]:
    def execute() -> ModuleType:
        module = ModuleType(f"paceline_plugin_{file.stem.replace('-', '_')}")
        module.__file__ = str(file)
        # The bytes that are hashed are those that run: Python's own cache takes a file that was
        # saved twice in a second, at the same length, for the same.
        source = file.read_bytes()
        setattr(module, _SOURCE, source)
        sys.modules[module.__name__] = module
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102  # that is a plug-in
        return module

    return execute


def load(found: Found) -> Loaded:
    """Import a consumer and check its shape; raises Unfit that says what is missing."""
    if not NAME.match(found.name):
        raise Unfit(f"{found.place}: {_name_problem(found, None)}.")
    try:
        module = found.module()
        return _checked(found, _made(found, _class(found, module)), _code(module))
    except (Unfit, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and _ends_by_ctrl_c():
            raise
        told = f"{type(error).__name__}: {error}"
        raise Unfit(f"{_where(found.place, error)} cannot be imported: {told}") from error


def _ends_by_ctrl_c() -> bool:
    # A worker has a handler of its own, so there it is the plug-in that says so.
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _made(found: Found, kind: type[Any]) -> Any:
    if isinstance(kind, type):
        with suppress(ValueError):  # some that are written in C do not tell
            arguments = inspect.signature(kind)
            try:
                arguments.bind()
            except TypeError as error:
                raise Unfit(
                    f"{found.place}: {kind.__name__} is made without arguments, and it wants some: "
                    f"{error}; write def __init__(self)."
                ) from error
    return kind()


def _where(place: str, error: BaseException) -> str:
    """Return the place, with the line where the author's own code was left by an error."""
    steps = traceback.extract_tb(error.__traceback__)
    lines = [step.lineno for step in steps if step.filename == place]
    return f"{place}, line {lines[-1]}," if lines else place


def _class(found: Found, module: ModuleType) -> type[Any]:
    if found.attribute is not None:
        return getattr(module, found.attribute)  # type: ignore[no-any-return]
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and getattr(value, "name", None) == found.name
    ]
    if len(classes) != 1:
        raise Unfit(
            f"{found.place} has {len(classes)} classes with name = {found.name!r}; write one."
        )
    return classes[0]


def _code(module: ModuleType) -> str:
    source = getattr(module, _SOURCE, None)
    if source is None and module.__file__:
        source = Path(module.__file__).read_bytes()
    return _digest(source or b"")


def _checked(found: Found, made: Any, code: str) -> Loaded:
    found_wrong = list(problems(found.name, made))
    if found_wrong:
        raise Unfit(f"{found.place}: {'; '.join(found_wrong)}.")
    handles = hasattr(made, "handle")
    ladder_s = getattr(made, "ladder_s", None)
    return Loaded(
        name=made.name,
        consumer=made,
        version=1 if handles else made.version,
        code=code,
        bindings=tuple(made.bindings),
        indexes={name: tuple(of) for name, of in getattr(made, "indexes", {}).items()},
        reads=dict(getattr(made, "reads", {})),
        since=getattr(made, "since", "now" if handles else None),
        handles=handles,
        concurrency=getattr(made, "concurrency", 1),
        deadline_s=getattr(made, "deadline_s", 10.0),
        ladder_s=tuple(ladder_s) if ladder_s is not None else None,
    )


def is_replaced(found: Found, loaded: Loaded) -> bool:
    """Say whether a consumer's file is not the code that was loaded; packages need a restart."""
    if found.attribute is not None:
        return False
    file = Path(found.place)
    return file.exists() and _digest(file.read_bytes()) != loaded.code


def _digest(source: bytes) -> str:
    return sha256(source).hexdigest()[:16]
