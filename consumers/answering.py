"""Answering a read in memory, as a client would be answered: its path, its options, JSON."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from consumers import Document
from consumers.memory import MemoryDocuments, canonical
from consumers.runtime.query.templates import Table, Template
from consumers.runtime.query.waiting import PARAMETERS


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
    given = urlsplit(path)
    table = Table([consumer] if hasattr(consumer, "reads") else [])
    if (match := table.match(unquote(given.path))) is None:
        return None
    (_, template, read), places = match
    held = MemoryDocuments(documents, getattr(consumer, "indexes", {}))
    query = Query(_options(template, given.query) | places, now=now)
    return (json.loads(canonical(read(held, query))),)


def _options(template: Template, text: str) -> dict[str, str]:
    given = dict(parse_qsl(text, keep_blank_values=True))
    if unknown := given.keys() - {*template.options, *PARAMETERS}:
        raise ValueError(f"{', '.join(sorted(unknown))} is no parameter of {template.path}")
    return {name: value for name, value in given.items() if name in template.options}
