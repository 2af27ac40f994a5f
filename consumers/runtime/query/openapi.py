"""The OpenAPI document: made from the schemas at the door and from the consumers' reads."""

import inspect
import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from consumers.runtime.query.operations import OPERATIONS, Operation
from consumers.runtime.query.reading import FATE_HEADER
from consumers.runtime.query.shapes import ID, OPTIONS, SHAPES, TEXT, TIME, ref
from consumers.runtime.query.templates import Route
from consumers.runtime.query.waiting import PARAMETERS
from events.problems import MEDIA_TYPE, PROBLEMS
from events.schemas import WorkoutCompletedV1

_ABOUT = (
    "Post a finished workout and have your answer in milliseconds; consumers take their own copy"
    " and do their work in their own time. Times are RFC 3339 with an offset. Unknown query"
    " parameters are refused. Every refusal is a problem document (RFC 9457)."
)
_READ_PROBLEMS = ("not-found", "invalid-query", "internal", "busy", "unavailable")


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document; `routes` are the reads of the consumers that are there now."""
    spec = APISpec(
        "Paceline",
        version("paceline"),
        "3.1.0",
        info={"description": _ABOUT},
        plugins=[MarshmallowPlugin()],
    )
    _add_shapes(spec)
    for operation in OPERATIONS:
        spec.path(operation.path, operations={operation.method: _fixed(operation)})
    for route in routes:
        spec.path(f"/v1{route.template.path}", operations={"get": _read(route)})
    return spec.to_dict()


def _add_shapes(spec: APISpec) -> None:
    spec.components.schema("WorkoutCompletedV1", schema=WorkoutCompletedV1)
    posted = spec.components.schemas["WorkoutCompletedV1"]["properties"]
    found = {"event_id": ID, "accepted_at": TIME, "problem": TEXT}
    workout = {"type": "object", "properties": {**found, **posted}, "required": ["event_id"]}
    for name, shape in {**SHAPES, "Workout": workout}.items():
        spec.components.schema(name, shape)


def _fixed(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": _operation_id(operation.method, operation.path),
        "parameters": _parameters(_places(operation.path), operation.options),
        "responses": _responses(
            operation.status,
            ref(operation.shape),
            operation.problems,
            fate="after" in operation.options,
        ),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {"application/json": {"schema": ref(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _read(route: Route) -> dict[str, Any]:
    template, name = route.template, route.loaded.name
    summary, _, rest = (inspect.getdoc(route.read) or f"A read of {name}").partition("\n")
    described = {
        "tags": [name],
        "summary": summary,
        "operationId": _operation_id("get", f"/v1{template.path}"),
        "parameters": _parameters(template.places, (*template.options, *PARAMETERS)),
        "responses": _responses(200, {}, _READ_PROBLEMS, fate=True),
    }
    if rest.strip():
        described["description"] = rest.strip()
    return described


def _operation_id(method: str, path: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path.removeprefix("/v1"))
    return "_".join([method, *words])


def _places(path: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{(\w+)\}", path))


def _parameters(places: Iterable[str], options: Iterable[str]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in places
    ]
    for name in options:
        schema, description = OPTIONS.get(name, (TEXT, ""))
        described = {"name": name, "in": "query", "schema": schema, "description": description}
        parameters.append({key: value for key, value in described.items() if value != ""})
    return parameters


def _responses(
    status: int, shape: dict[str, Any], problems: Iterable[str], *, fate: bool
) -> dict[str, Any]:
    content = {"application/json": {"schema": shape}}
    good: dict[str, Any] = {"description": "It is accepted." if status == 202 else "Here it is."}
    good["content"] = content
    if fate:
        what = "The fate of the event that `after` names, for this consumer."
        good["headers"] = {FATE_HEADER: {"description": what, "schema": TEXT}}
    responses = {str(status): good}
    for slug in problems:
        known, content = PROBLEMS[slug], {MEDIA_TYPE: {"schema": ref("Problem")}}
        before = responses.get(str(known.status), {}).get("description")
        title = f"{before} Or: {known.title}" if before else known.title
        responses[str(known.status)] = {"description": title, "content": content}
    return responses
