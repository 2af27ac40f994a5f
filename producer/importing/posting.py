"""Posting workouts to a running producer, one after another over one connection."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader

from producer.importing.errors import NobodyThere

# While the producer is full; so many in a row, after which each workout is tried once.
TRIES = 5
LONGEST_WAIT_S = 30.0

_CONFLICT = "with other options; the first stays"
# A lost answer may be asked for again: the same workout is the same event. 503 is waited for here.
_RETRIES = urllib3.Retry(total=2, allowed_methods=None, respect_retry_after_header=False)


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a workout: it is an event, or there is a reason why not."""

    workout: Mapping[str, Any]
    event_id: str | None = None
    duplicate: bool = False
    reason: str | None = None
    conflicting: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the producer has it, now or already before."""
        return self.event_id is not None


def post(
    workouts: Iterable[Mapping[str, Any]],
    *,
    url: str,
    pool: urllib3.PoolManager | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Posted]:
    """Post each workout and say what became of it, in order; raises NobodyThere.

    Singly, and not in batches, which are taken or refused as a whole: one bad workout stops
    nothing, and each is told of as soon as it is kept.
    """
    if not url.startswith(("http://", "https://")):
        raise NobodyThere(url, "it has to begin with http://")
    patience = TRIES
    with urllib3.PoolManager() if pool is None else nullcontext(pool) as connections:
        for workout in workouts:
            body = json.dumps(workout, allow_nan=False).encode()
            answer = _ask(connections, url, body)
            while answer.status == HTTPStatus.SERVICE_UNAVAILABLE and patience > 1:
                patience -= 1
                sleep(_wait_s(answer))
                answer = _ask(connections, url, body)
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                patience = TRIES
            yield _posted(workout, answer)


def _ask(pool: urllib3.PoolManager, url: str, body: bytes) -> urllib3.BaseHTTPResponse:
    try:
        return pool.request(
            "POST",
            f"{url.rstrip('/')}/v1/workouts",
            body=body,
            headers={"Content-Type": "application/json"},
            redirect=False,
            retries=_RETRIES,
            timeout=urllib3.Timeout(connect=5, read=60),
        )
    except HTTPError as error:
        # urllib3 names its objects first and what happened last.
        reason = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
        raise NobodyThere(url, reason) from error


def _wait_s(answer: urllib3.BaseHTTPResponse) -> float:
    try:
        asked = _RETRIES.parse_retry_after(answer.headers.get("Retry-After", "1"))
    except InvalidHeader:
        asked = 1.0
    return min(asked, LONGEST_WAIT_S)


def _posted(workout: Mapping[str, Any], answer: urllib3.BaseHTTPResponse) -> Posted:
    said = _said(answer)
    event_id = said.get("event_id")
    if answer.status == HTTPStatus.ACCEPTED and isinstance(event_id, str):
        return Posted(workout, event_id=event_id, duplicate=said.get("duplicate") is True)
    if answer.status == HTTPStatus.CONFLICT:
        return Posted(workout, reason=_CONFLICT, conflicting=True)
    return Posted(workout, reason=_reason(answer.status, said))


def _said(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        said = json.loads(answer.data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _reason(status: int, said: dict[str, Any]) -> str:
    """Give the details of a problem document (RFC 9457), or what there is instead of one."""
    errors = said.get("errors")
    faults = errors if isinstance(errors, list) else []
    details = [
        str(fault["detail"]) for fault in faults if isinstance(fault, dict) and "detail" in fault
    ]
    told = " ".join(details) or said.get("detail") or said.get("title")
    return str(told or f"the answer was {status}: is this a Paceline producer?")
