"""What each fixed address does, as data for the OpenAPI document."""

from typing import NamedTuple

from consumers.runtime.query.documents import LISTING
from consumers.runtime.query.waiting import PARAMETERS


class Operation(NamedTuple):
    """One method of one address; shapes and problems by their names."""

    method: str
    path: str
    tag: str
    summary: str
    shape: str
    description: str = ""
    body: str | None = None
    status: int = 200
    options: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_POSTING = (
    "malformed-json",
    "too-large",
    "unsupported-media-type",
    "invalid-workout",
    "conflicting-workout",
    "cannot-accept",
)
_LOOKING = ("not-found", "invalid-query")
_READING = (*_LOOKING, "busy", "unavailable")

OPERATIONS = (
    Operation(
        "post",
        "/v1/workouts",
        "Posting",
        "Post a finished workout",
        "Receipt",
        "202 means that it is kept, whatever happens afterwards. Posting the same workout again"
        " gives the same answer with `duplicate: true`; another workout under its id is refused.",
        body="WorkoutCompletedV1",
        status=202,
        problems=_POSTING,
    ),
    Operation(
        "post",
        "/v1/workouts/batch",
        "Posting",
        "Post up to 1,000 workouts",
        "Receipts",
        "All or nothing; each error names its workout by a JSON pointer.",
        body="Batch",
        status=202,
        problems=_POSTING,
    ),
    Operation(
        "get",
        "/v1/events/{id}",
        "Events",
        "What became of an event, for every consumer",
        "Event",
        problems=_LOOKING,
    ),
    Operation(
        "get",
        "/v1/users/{user}/workouts",
        "Events",
        "A user's workouts, as they were posted",
        "Workouts",
        "In the order in which they were logged.",
        options=("limit", "cursor"),
        problems=("invalid-query",),
    ),
    Operation(
        "get",
        "/v1/consumers",
        "Consumers",
        "What every consumer is doing",
        "Consumers",
        problems=("invalid-query",),
    ),
    Operation(
        "get",
        "/v1/consumers/{name}",
        "Consumers",
        "What one consumer is doing",
        "Consumer",
        problems=_LOOKING,
    ),
    Operation(
        "get",
        "/v1/consumers/{name}/documents",
        "Consumers",
        "List a consumer's documents",
        "Documents",
        "As they are stored: whole numbers of small units (ms, mm, cal).",
        options=(*LISTING, *PARAMETERS),
        problems=_READING,
    ),
    Operation(
        "get",
        "/v1/consumers/{name}/documents/{key}",
        "Consumers",
        "One document of a consumer",
        "Document",
        "The key may hold slashes.",
        options=PARAMETERS,
        problems=_READING,
    ),
    Operation("get", "/healthz", "Operating", "Whether the process answers", "Health"),
    Operation(
        "get",
        "/readyz",
        "Operating",
        "Whether it can do its work",
        "Health",
        problems=("unavailable",),
    ),
)
