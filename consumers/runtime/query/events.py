"""Events and workouts, read from the log."""

from dataclasses import is_dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Response

from consumers.runtime.installation import Installation
from consumers.runtime.query.answers import (
    InvalidQuery,
    Missing,
    answer,
    limit_of,
    page,
    parameters,
    rfc3339,
)
from consumers.runtime.query.fates import fates_of
from consumers.runtime.query.waiting import is_event_id
from events.envelope import WORKOUT_COMPLETED, from_bytes, to_json
from events.errors import NewerVersion, Undecodable
from events.log import Conflict, Logged, Selection
from events.schema_fields import Thousandths, shown
from events.schemas import AthleteV1, RecordingV1, WorkoutCompletedV1
from events.workouts import Athlete, Recording, WorkoutCompleted

# The fields of a fact, what the door calls them, and whether it takes them as thousandths.
_FIELDS = {
    fact: [
        (name, field.data_key or name, isinstance(field, Thousandths))
        for name, field in schema.fields.items()
    ]
    for fact, schema in (
        (WorkoutCompleted, WorkoutCompletedV1()),
        (Athlete, AthleteV1()),
        (Recording, RecordingV1()),
    )
}


def event_routes(installation: Installation) -> Blueprint:
    """Return the addresses."""
    blueprint = Blueprint("events", __name__)

    @blueprint.get("/v1/events/<event_id>")
    def get_event(event_id: str) -> Response:
        parameters()
        log = installation.log()
        logged = log.get(event_id) if log and is_event_id(event_id) else None
        if log is None or logged is None:
            raise Missing(f"There is no event {shown(event_id)} in the log.")
        return answer(_event(installation, logged, log.conflicts(event_id)))

    @blueprint.get("/v1/users/<user>/workouts")
    def list_workouts(user: str) -> Response:
        given = parameters("limit", "cursor")
        limit, after = limit_of(given), _number(given.get("cursor", "0"))
        log = installation.log()
        wanted = Selection(user_id=user, kind=WORKOUT_COMPLETED, after=after)
        rows = log.scan(wanted, limit=limit + 1) if log else []
        following = str(rows[limit - 1].place) if len(rows) > limit else None
        return answer(page([_workout(row) for row in rows[:limit]], following))

    return blueprint


def _event(installation: Installation, logged: Logged, conflicts: list[Conflict]) -> dict[str, Any]:
    event = to_json(logged.body)
    status: dict[str, Any] = {
        "event": event,
        "accepted_at": event["acceptedat"],
        "state": "conflicting" if conflicts else "logged",
        "consumers": fates_of(installation, logged),
    }
    if conflicts:
        status["conflicts"] = [
            {"source": conflict.source, "event": to_json(conflict.body)} for conflict in conflicts
        ]
    return status


def _workout(row: Logged) -> dict[str, Any]:
    try:
        event = from_bytes(row.body)
    except (NewerVersion, Undecodable) as error:
        return {"event_id": row.event_id, "problem": str(error)}
    accepted_at = rfc3339(event.accepted_at)
    return {"event_id": row.event_id, "accepted_at": accepted_at, **as_posted(event.data)}


def as_posted(fact: Any) -> dict[str, Any]:
    """Return a fact as the door takes it: seconds, metres, kcal, kg; absent fields left out."""
    posted = {}
    for name, called, thousandths in _FIELDS[type(fact)]:
        value = getattr(fact, name)
        if value is not None:
            posted[called] = _thousandth(value) if thousandths else _plain(value)
    return posted


def _thousandth(value: int) -> int | float:
    return value / 1000 if value % 1000 else value // 1000


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return as_posted(value) if is_dataclass(value) else value


def _number(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidQuery(f"cursor is {shown(cursor)}; take `next` of the page before.")
    return int(cursor)
