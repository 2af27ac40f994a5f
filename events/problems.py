"""Problem documents (RFC 9457): every refusal that HTTP can give, and the page that explains it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from events.schemas import Fault

MEDIA_TYPE = "application/problem+json"


class Problem(NamedTuple):
    """A kind of refusal; `help` is what the person who meets it should do."""

    slug: str
    status: int
    title: str
    help: str


_ALL = (
    Problem(
        "malformed-json",
        400,
        "The body is not JSON.",
        "Send UTF-8 JSON: no NaN or Infinity, no duplicate keys, no deep nesting.",
    ),
    Problem(
        "bad-request",
        400,
        "The request is not valid.",
        "See the detail; the request was not understood and nothing was done.",
    ),
    Problem(
        "not-found",
        404,
        "There is nothing here.",
        "Check the address; an event that was accepted is always found under /v1/events/{id}.",
    ),
    Problem(
        "method-not-allowed",
        405,
        "This address does not take this method.",
        "See /openapi.json for what each address takes.",
    ),
    Problem(
        "conflicting-workout",
        409,
        "Another workout was accepted under this id.",
        "The first one stays. If this is another workout, give it another workout_id.",
    ),
    Problem(
        "too-large",
        413,
        "The body is too large.",
        "A workout has at most 64 KiB, a batch at most 2 MiB and 1,000 workouts.",
    ),
    Problem(
        "unsupported-media-type",
        415,
        "The body must be application/json.",
        "Send the header Content-Type: application/json.",
    ),
    Problem(
        "invalid-workout",
        422,
        "The workout is not valid.",
        "Each error names a field by a JSON pointer and says what it must be. Nothing was stored.",
    ),
    Problem(
        "invalid-query",
        422,
        "The query is not valid.",
        "The detail names the parameter and what is allowed; unknown parameters are refused.",
    ),
    Problem(
        "internal",
        500,
        "Something is wrong on our side.",
        "Nothing half done was kept. Try again; if it stays, tell the operator the time.",
    ),
    Problem(
        "cannot-accept",
        503,
        "Nothing can be accepted just now.",
        "Keep the workout and send it again after the seconds in Retry-After.",
    ),
    Problem(
        "busy",
        503,
        "Too many requests wait.",
        "Come again after the seconds in Retry-After. Accepting goes on meanwhile.",
    ),
    Problem(
        "unavailable",
        503,
        "The part that answers this is not running.",
        "Come again after the seconds in Retry-After. Accepting goes on meanwhile.",
    ),
)
PROBLEMS = {problem.slug: problem for problem in _ALL}


def document(slug: str, detail: str = "", faults: Iterable[Fault] = ()) -> dict[str, Any]:
    """Return the problem document of a refusal; `type` is a page that this server serves."""
    problem = PROBLEMS[slug]
    made: dict[str, Any] = {
        "type": f"/problems/{slug}",
        "title": problem.title,
        "status": problem.status,
    }
    if detail:
        made["detail"] = detail
    errors = [fault._asdict() for fault in faults]
    if errors:
        made["errors"] = errors
    return made


def page(slug: str) -> str:
    """Return the page that explains a problem; raises KeyError for an unknown one."""
    problem = PROBLEMS[slug]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{problem.title}</title>"
        f"<h1>{problem.title}</h1><p>Status {problem.status}, <code>/problems/{slug}</code></p>"
        f"<p>{problem.help}</p></html>"
    )


def for_status(status: int) -> str:
    """Return the slug of the general problem of an HTTP status."""
    general = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 500: "internal"}
    return general.get(status, "bad-request" if status < 500 else "internal")
