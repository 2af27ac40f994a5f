"""Answering a read in memory, as a client would be answered: its path, its options, JSON."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from consumers import Document
from consumers.memory import MemoryDocuments, canonical


class Query(dict[str, str]):
    """The parameters of a read, from path and query string, and the time as an argument."""

    def __init__(self, params: Mapping[str, str] = {}, *, now: datetime | None = None) -> None:
        super().__init__(params)
        self.now = now or datetime.now(UTC)


def answered(
    consumer: Any, path: str, documents: Mapping[str, Document], *, now: datetime | None = None
) -> tuple[Any] | None:
    """Return the answer to a path in a tuple, or None where the consumer has no read for it.

    LookupError (404) and ValueError (422) come through.
    """
    reads: Mapping[str, Callable[..., Any]] = getattr(consumer, "reads", {})
    held = MemoryDocuments(documents, getattr(consumer, "indexes", {}))
    for template, answer in reads.items():
        if (params := _params(template, path)) is not None:
            return (json.loads(canonical(answer(held, Query(params, now=now)))),)
    return None


def _params(template: str, path: str) -> dict[str, str] | None:
    """Return the parameters of a path by a template of RFC 6570, or None where it is another's."""
    given, (route, _, names) = urlsplit(path), template.partition("{?")
    route = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route)
    if (match := re.fullmatch(route, given.path)) is None:
        return None
    query = dict(parse_qsl(given.query, keep_blank_values=True))
    if unknown := query.keys() - set(names.removesuffix("}").split(",")):
        raise ValueError(f"{', '.join(sorted(unknown))} is no parameter of {template}")
    return query | {name: unquote(value) for name, value in match.groupdict().items()}
