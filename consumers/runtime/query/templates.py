"""The addresses of consumers' reads, RFC 6570 templates, as a table that paths are looked up in."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import structlog
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule

from consumers import Read
from consumers.runtime.query.waiting import PARAMETERS
from consumers.runtime.registry import Loaded

logger = structlog.get_logger(__name__)
_NAME = r"[a-z][a-z0-9_]*"
_PLACE = re.compile(rf"\{{({_NAME})\}}")
_TEMPLATE = re.compile(
    rf"(?P<path>(?:/(?:[A-Za-z0-9._~-]|\{{{_NAME}\}})+)+)(?:\{{\?(?P<options>{_NAME}(?:,{_NAME})*)\}})?"
)


class Template(NamedTuple):
    """An address: `/users/{user}/calories{?from,to}` has a path, a place and two options."""

    path: str
    places: tuple[str, ...]
    options: tuple[str, ...]


class Route(NamedTuple):
    """A read of a consumer, and where it is found under /v1."""

    loaded: Loaded
    template: Template
    read: Read


def parsed(text: str) -> Template:
    """Return a template; raises ValueError that says what one looks like."""
    match = _TEMPLATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.200} is no template such as /users/{{user}}/rest{{?from,to}}")
    places = tuple(_PLACE.findall(match["path"]))
    options = tuple(match["options"].split(",")) if match["options"] else ()
    names = [*places, *options, *PARAMETERS]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        own = ", ".join(PARAMETERS)
        raise ValueError(f"{text!r:.200} names {twice} twice; {own} are the platform's own")
    return Template(match["path"], places, options)


class Table:
    """All routes; of two consumers that want the same address, the one found first has it."""

    def __init__(self, consumers: Iterable[Loaded]) -> None:
        self.routes: list[Route] = []
        taken: dict[str, str] = {}
        for loaded in consumers:
            for text, read in loaded.reads.items():
                try:
                    template = parsed(text)
                    owner = taken.setdefault(_PLACE.sub("{}", template.path), loaded.name)
                    if owner != loaded.name:
                        raise ValueError(f"{text!r} is an address of {owner} already")
                except (ValueError, TypeError) as error:
                    self._refuse(loaded, error)
                else:
                    self.routes.append(Route(loaded, template, read))
        rules = [
            Rule(_PLACE.sub(r"<\1>", route.template.path), endpoint=number)
            for number, route in enumerate(self.routes)
        ]
        self._paths = Map(rules, merge_slashes=False).bind("")

    def _refuse(self, loaded: Loaded, error: Exception) -> None:
        reason = str(error)
        logger.warning("read left out", action="read_left", consumer=loaded.name, reason=reason)

    def match(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a decoded path and the values at its places, or None."""
        try:
            number, values = self._paths.match(path, method="GET")
        except NotFound:
            return None
        return self.routes[number], dict(values)
