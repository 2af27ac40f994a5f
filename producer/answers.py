"""How the producer answers: JSON, and problem documents with the header that says when to retry."""

import json
from collections.abc import Iterable
from typing import Any

from flask import Response

from events.problems import MEDIA_TYPE, PROBLEMS, document
from events.schemas import Fault


def answer(value: Any, *, status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(json.dumps(value), status=status, content_type="application/json")


def problem(
    slug: str,
    detail: str = "",
    *,
    faults: Iterable[Fault] = (),
    retry_after_s: int | None = None,
) -> Response:
    """Return a problem document."""
    body = json.dumps(document(slug, detail, faults))
    response = Response(body, status=PROBLEMS[slug].status, content_type=MEDIA_TYPE)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response
