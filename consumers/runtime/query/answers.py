"""How the query process answers: JSON, problem documents, and what a query string may hold."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from flask import Response, request

from events.errors import PacelineError
from events.problems import MEDIA_TYPE, PROBLEMS, document
from events.schema_fields import shown

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 200


class InvalidQuery(PacelineError):
    """A query parameter is unknown, or not what it may be; the message says what is allowed."""


class Missing(PacelineError):
    """What was asked for is not there."""


class NotServed(PacelineError):
    """What was asked for cannot be answered just now; it will be, by itself."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


def answer(value: Any, *, status: int = 200) -> Response:
    """Return a JSON response; raises ValueError or TypeError for what is not JSON."""
    text = json.dumps(value, allow_nan=False)
    return Response(text, status=status, content_type="application/json")


def page(items: list[Any], following: str | None) -> dict[str, Any]:
    """Return a list as every list is answered."""
    return {"items": items, "next": following}


def rfc3339(moment: datetime) -> str:
    """Return an instant as answers have it: UTC, with the letter that events are written with."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def problem(slug: str, detail: str = "", *, retry_after_s: int | None = None) -> Response:
    """Return a problem document."""
    body = json.dumps(document(slug, detail))
    response = Response(body, status=PROBLEMS[slug].status, content_type=MEDIA_TYPE)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def parameters(*allowed: str) -> dict[str, str]:
    """Return the present request's query parameters; raises InvalidQuery for one not allowed."""
    for name, values in request.args.lists():
        if name not in allowed:
            choice = ", ".join(allowed) if allowed else "none"
            raise InvalidQuery(f"{shown(name)} is not a parameter here; allowed: {choice}.")
        if len(values) > 1:
            raise InvalidQuery(f"{name} is given {len(values)} times; give it once.")
    return request.args.to_dict()


def limit_of(given: dict[str, str]) -> int:
    """Return how many items are wanted."""
    text = given.get("limit", str(DEFAULT_LIMIT))
    if not (re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= LARGEST_LIMIT):
        raise InvalidQuery(f"limit is {shown(text)}; it must be from 1 to {LARGEST_LIMIT}.")
    return int(text)
