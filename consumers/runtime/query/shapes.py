"""The shapes of answers and the query parameters, as JSON Schema, for the OpenAPI document."""

from typing import Any

from consumers.runtime.fates import State
from consumers.runtime.query.answers import DEFAULT_LIMIT, LARGEST_LIMIT
from consumers.runtime.query.fates import NOT_FOR_IT, PENDING, UNKNOWN
from consumers.runtime.query.waiting import LONGEST_S
from consumers.runtime.status import Condition

Shape = dict[str, Any]
TEXT: Shape = {"type": "string"}
COUNT: Shape = {"type": "integer", "minimum": 0}
TIME: Shape = {"type": "string", "format": "date-time"}
SECONDS: Shape = {"type": "number", "minimum": 0}
ID: Shape = {"type": "string", "format": "uuid"}


def ref(name: str) -> Shape:
    """Return a reference to a shape by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(item: Shape, *, pages: bool = True) -> Shape:
    """Return the shape of a list; `next` is the cursor of its next page."""
    following = {"type": ["string", "null"]} if pages else {"type": "null"}
    return record("items next", items={"type": "array", "items": item}, next=following)


def record(required: str, **properties: Shape) -> Shape:
    """Return the shape of an object; `required` are names with spaces between them."""
    return {"type": "object", "properties": properties, "required": required.split()}


def _or_null(shape: Shape) -> Shape:
    return {**shape, "type": [shape["type"], "null"]}


_EVENT = {"type": "object", "description": "The event: CloudEvents 1.0, in JSON."}
_FATE = record(
    "fate",
    fate={
        "type": "string",
        "enum": [PENDING, *(state.value for state in State), NOT_FOR_IT, UNKNOWN],
    },
    attempts={**COUNT, "description": "How often it failed."},
    strikes={**COUNT, "description": "How often the consumer's process ended while folding it."},
    due={**TIME, "description": "When it is tried again."},
    needs={"type": "integer", "description": "The version of the fact that it waits for."},
    reason=TEXT,
)
_BUILDING = {
    **record("generation version applied total"),
    "type": ["object", "null"],
    "properties": {"generation": COUNT, "version": COUNT, "applied": COUNT, "total": COUNT},
    "description": "A generation that is being built: how many events it has, of how many.",
}
_CONSUMER = record(
    "name place state reason version generation bindings lag oldest_pending_age_s applied retrying"
    " dead discarded rate_per_s caught_up_in_s building",
    name=TEXT,
    place={**TEXT, "description": "The file or the entry point of its code."},
    state={"type": "string", "enum": [condition.value for condition in Condition]},
    reason={**TEXT, "description": "Why it stands still, where it does."},
    version=_or_null(COUNT),
    generation=_or_null(COUNT),
    bindings={"type": "array", "items": TEXT},
    lag=_or_null({**COUNT, "description": "Events that it wants and has not looked at."}),
    oldest_pending_age_s=_or_null({"type": "number"}),
    applied=COUNT,
    retrying=COUNT,
    dead=COUNT,
    discarded=COUNT,
    rate_per_s=SECONDS,
    caught_up_in_s=_or_null({**SECONDS, "description": "A guess from lag and rate, if behind."}),
    building=_BUILDING,
)

SHAPES: dict[str, Shape] = {
    "Batch": record(
        "items",
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": 1000,
            "items": ref("WorkoutCompletedV1"),
        },
    ),
    "Receipt": record(
        "event_id status_url duplicate",
        event_id=ID,
        status_url={"type": "string", "description": "Where its fate is shown."},
        duplicate={"type": "boolean", "description": "Whether it was accepted before."},
    ),
    "Receipts": record("items", items={"type": "array", "items": ref("Receipt")}),
    "Event": record(
        "event accepted_at state consumers",
        event=_EVENT,
        accepted_at=TIME,
        state={"type": "string", "enum": ["accepted", "logged", "conflicting"]},
        consumers={"type": "object", "additionalProperties": ref("Fate")},
        conflicts={
            "type": "array",
            "items": record("source event", source=TEXT, event=_EVENT),
            "description": "Events with this id that tell another fact; they are never applied.",
        },
    ),
    "Fate": _FATE,
    "Consumer": _CONSUMER,
    "Consumers": listed(ref("Consumer"), pages=False),
    "Document": record("key document", key=TEXT, document={"type": "object"}),
    "Documents": listed(ref("Document")),
    "Workouts": listed(ref("Workout")),
    "Health": record("status", status=TEXT),
    "Problem": record(
        "type title status",
        type={"type": "string", "description": "A page that says what to do."},
        title=TEXT,
        status={"type": "integer"},
        detail=TEXT,
        errors={
            "type": "array",
            "items": record("pointer code detail", pointer=TEXT, code=TEXT, detail=TEXT),
        },
    ),
}

_WAIT = f"Seconds to wait for that, up to {LONGEST_S}; the header Paceline-Fate says what came."
OPTIONS: dict[str, tuple[Shape, str]] = {
    "limit": (
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT},
        "How many items at most.",
    ),
    "cursor": (TEXT, "`next` of the page before."),
    "after": (ID, "Answer once this event has a fate for this consumer."),
    "wait": ({**SECONDS, "maximum": LONGEST_S, "default": 0}, _WAIT),
    "index": (TEXT, "List by this index of the consumer; without it, by key."),
    "equals": (TEXT, "With index: its first field, or a JSON list of its leading fields."),
    "prefix": (TEXT, "Without index: only keys that begin so."),
}
