"""JSON -> Event -> outbox -> 202, and the fate of what is only in the outbox."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, request

from events.envelope import Sealed, is_id, seal, to_json
from events.errors import NewerVersion, Outage, PacelineError
from events.problems import page
from events.schema_fields import shown
from events.schemas import Fault, InvalidWorkout, load_workout
from events.workouts import WorkoutCompleted
from producer.answers import answer, problem
from producer.outbox import Accepted, Conflicting, Outbox
from producer.outbox_reader import OutboxReader, Remembered
from producer.outbox_room import OutboxFull
from producer.strict_json import MalformedJson, parse

ONE_BYTES = 64 << 10
BATCH_BYTES = 2 << 20
BATCH_WORKOUTS = 1_000
_AHEAD = timedelta(days=1)
Accept = Callable[[Sequence[Sealed]], list[Accepted]]


class Refusal(PacelineError):
    """A request that is refused before anything of it is kept."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug


def routes(
    outbox: Outbox,
    reader: OutboxReader,
    *,
    accept: Accept,
    passed: Callable[[str], int | None],
    forward: Callable[[], Response],
) -> Blueprint:
    """Return the producer's own addresses; all others are forwarded."""
    blueprint = Blueprint("producer", __name__)

    @blueprint.post("/v1/workouts")
    def post_workout() -> Response:
        now = datetime.now(UTC)
        event = seal(_fact(parse(_body(ONE_BYTES)), now), accepted_at=now)
        return _accepted_one(*accept((event,)))

    @blueprint.post("/v1/workouts/batch")
    def post_batch() -> Response:
        accepted = accept(_events(parse(_body(BATCH_BYTES)), datetime.now(UTC)))
        return answer({"items": [_receipt(one) for one in accepted]}, status=202)

    @blueprint.get("/v1/events/<event_id>")
    def get_event(event_id: str) -> Response:
        found = reader.remembered(event_id) if is_id(event_id) else None
        if found is not None and found.row > (passed(reader.source_id) or 0):
            return answer(_in_outbox(event_id, found))
        response = forward()
        if response.status_code == HTTPStatus.NOT_FOUND and found is not None:
            return answer(_in_outbox(event_id, found))
        return response

    @blueprint.get("/problems/<slug>")
    def get_problem(slug: str) -> Response:
        try:
            return Response(page(slug), content_type="text/html; charset=utf-8")
        except KeyError:
            return problem("not-found", f"There is no problem {shown(slug)}.")

    @blueprint.get("/healthz")
    def get_health() -> Response:
        return answer({"status": "ok"})

    @blueprint.get("/readyz")
    def get_readiness() -> Response:
        outbox.check()
        return answer({"status": "ready"})

    blueprint.register_error_handler(PacelineError, _refused)
    return blueprint


def _body(limit: int) -> bytes:
    if request.mimetype != "application/json":
        raise Refusal("unsupported-media-type", f"It is {shown(request.mimetype)}.")
    body: bytes = request.environ["wsgi.input"].read(limit + 1)
    if len(body) > limit:
        raise Refusal("too-large", f"It has more than {limit} bytes.")
    return body


def _fact(posted: object, now: datetime) -> WorkoutCompleted:
    fact = load_workout(posted)
    if fact.started_at > now + _AHEAD:
        detail = f"started_at is {fact.started_at.isoformat()}, more than a day ahead of the clock."
        raise InvalidWorkout([Fault("/started_at", "in-the-future", detail)])
    return fact


def _events(posted: Any, now: datetime) -> list[Sealed]:
    workouts = posted.get("items") if isinstance(posted, dict) and len(posted) == 1 else None
    if not isinstance(workouts, list) or not 1 <= len(workouts) <= BATCH_WORKOUTS:
        detail = f'A batch is {{"items": [...]}} with 1 to {BATCH_WORKOUTS} workouts.'
        raise InvalidWorkout([Fault("/items", "not-a-batch", detail)])
    events: list[Sealed] = []
    faults: list[Fault] = []
    places: dict[str, int] = {}
    for place, workout in enumerate(workouts):
        try:
            event = seal(_fact(workout, now), accepted_at=now)
        except InvalidWorkout as invalid:
            faults += [
                fault._replace(pointer=f"/items/{place}{fault.pointer}") for fault in invalid.faults
            ]
            continue
        first = places.setdefault(event.id, place)
        if first != place:
            detail = f"This is the workout of item {first} again."
            faults.append(Fault(f"/items/{place}", "duplicate-in-batch", detail))
        events.append(event)
    if faults:
        raise InvalidWorkout(faults)
    return events


def _accepted_one(accepted: Accepted) -> Response:
    url = f"/v1/events/{accepted.event_id}"
    duplicate = "true" if accepted.duplicate else "false"
    body = f'{{"event_id": "{accepted.event_id}", "status_url": "{url}", "duplicate": {duplicate}}}'
    headers = {"Location": url}
    return Response(body, status=202, content_type="application/json", headers=headers)


def _receipt(accepted: Accepted) -> dict[str, Any]:
    return {
        "event_id": accepted.event_id,
        "status_url": f"/v1/events/{accepted.event_id}",
        "duplicate": accepted.duplicate,
    }


def _in_outbox(event_id: str, found: Remembered) -> dict[str, Any]:
    accepted_at = datetime.fromtimestamp(found.accepted_at / 1000, UTC)
    return {
        "event": to_json(found.body) if found.body else {"id": event_id},
        "accepted_at": f"{accepted_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "state": "accepted",
        "consumers": {},
    }


def _refused(error: Exception) -> Response:
    match error:
        case InvalidWorkout():
            return problem("invalid-workout", faults=error.faults)
        case MalformedJson():
            return problem("malformed-json", str(error))
        case Conflicting():
            return problem("conflicting-workout", str(error), faults=_conflicts(error.places))
        case Refusal():
            return problem(error.slug, str(error))
        case OutboxFull() | Outage() | NewerVersion():
            return problem("cannot-accept", str(error), retry_after_s=5)
    raise error


def _conflicts(places: Sequence[int]) -> list[Fault]:
    single = places == [0] and not request.path.endswith("/batch")
    return [
        Fault("" if single else f"/items/{place}", "conflict", "Another workout has this id.")
        for place in places
    ]
