"""The OpenAPI document, the pages, and problem documents for what no address takes."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from consumers.runtime.fates import Fate, State
from events.envelope import seal
from events.problems import PROBLEMS
from events.schemas import WorkoutCompletedV1
from events.workouts import Athlete, Recording, Sex
from tests.factories import workout
from tests.unit.query_world import ACCEPTED_AT, MILES, World, installed


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for made in installed(tmp_path, monkeypatch):
        made.plug_in()
        made.post(workout())
        made.fold()
        yield made


class Page(HTMLParser):
    """What a browser would load, where the links go, and what can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            elif name in ("src", "href", "data", "action", "srcset"):
                self.loaded.append(f"{tag} {value}")

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_document_is_valid_openapi(world: World) -> None:
    spec = world.client().get("/openapi.json").json
    validate(spec)
    assert spec["openapi"].startswith("3.1")


def test_every_fixed_address_is_described(world: World) -> None:
    paths = world.client().get("/openapi.json").json["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} == {
        ("/v1/workouts", "post"),
        ("/v1/workouts/batch", "post"),
        ("/v1/events/{id}", "get"),
        ("/v1/users/{user}/workouts", "get"),
        ("/v1/consumers", "get"),
        ("/v1/consumers/{name}", "get"),
        ("/v1/consumers/{name}/documents", "get"),
        ("/v1/consumers/{name}/documents/{key}", "get"),
        ("/v1/users/{user}/miles", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
    }


def test_a_posted_workout_is_described_by_the_schema_at_the_door(world: World) -> None:
    spec = world.client().get("/openapi.json").json
    body = spec["paths"]["/v1/workouts"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/WorkoutCompletedV1"}
    described = spec["components"]["schemas"]["WorkoutCompletedV1"]
    fields = WorkoutCompletedV1().fields
    names = {field.data_key or name for name, field in fields.items()}
    assert described["properties"].keys() == names
    assert "duration_s" in described["required"]
    assert described["additionalProperties"] is False
    assert described["properties"]["duration_s"]["minimum"] == 1


def test_a_read_is_described_by_its_template_and_its_docstring(world: World) -> None:
    spec = world.client().get("/openapi.json").json
    read = spec["paths"]["/v1/users/{user}/miles"]["get"]
    assert read["tags"] == ["miles"]
    assert read["summary"] == "How far a user went on a day."
    assert read["description"] == "In metres, as everywhere."
    assert [(one["name"], one["in"]) for one in read["parameters"]] == [
        ("user", "path"),
        ("from", "query"),
        ("to", "query"),
        ("after", "query"),
        ("wait", "query"),
    ]


def test_a_read_of_a_plug_in_that_was_dropped_in_later_is_described(world: World) -> None:
    client = world.client()
    assert "/v1/steps/{user}" not in client.get("/openapi.json").json["paths"]
    source = MILES.replace('"miles"', '"steps"').replace("/users/{user}/miles", "/steps/{user}")
    world.plug_in("steps", source)
    world.begin("steps")
    assert "/v1/steps/{user}" in client.get("/openapi.json").json["paths"]


def test_every_problem_that_is_described_is_one_that_there_is(world: World) -> None:
    spec = world.client().get("/openapi.json").json
    statuses = {str(problem.status) for problem in PROBLEMS.values()}
    for methods in spec["paths"].values():
        for operation in methods.values():
            refusals = operation["responses"].keys() - {"200", "202"}
            assert refusals <= statuses
            for status in refusals:
                content = operation["responses"][status]["content"]
                assert list(content) == ["application/problem+json"]


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("/v1/events/{id}", "/v1/events/{event}"),
        ("/v1/users/{user}/workouts", "/v1/users/ada/workouts?limit=1"),
        ("/v1/users/{user}/workouts", "/v1/users/ada/workouts"),
        ("/v1/users/{user}/workouts", "/v1/users/ada/workouts?limit=x"),
        ("/v1/consumers", "/v1/consumers"),
        ("/v1/consumers/{name}", "/v1/consumers/miles"),
        ("/v1/consumers/{name}", "/v1/consumers/later"),
        ("/v1/consumers/{name}", "/v1/consumers/nobody"),
        ("/v1/consumers/{name}/documents", "/v1/consumers/miles/documents"),
        ("/v1/consumers/{name}/documents", "/v1/consumers/later/documents"),
        ("/v1/consumers/{name}/documents/{key}", "/v1/consumers/miles/documents/ada/2026-11-24"),
        ("/v1/users/{user}/miles", "/v1/users/ada/miles"),
        ("/v1/users/{user}/miles", "/v1/users/bob/miles"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
    ],
)
def test_an_answer_has_the_shape_that_is_described(
    world: World, template: str, address: str
) -> None:
    (event_id,) = world.post(
        workout(
            workout_id="w2",
            athlete=Athlete(60_500, 1990, Sex.FEMALE),
            recording=Recording("acme"),
            elapsed_ms=1_900_001,
        )
    )
    world.log.append([seal(workout(workout_id="w2"), accepted_at=ACCEPTED_AT)], source="other")
    retrying = Fate(state=State.RETRYING, attempts=1, strikes=1, due_ms=5, reason="x", needs=2)
    world.set_fate(event_id, retrying)
    world.plug_in("later", "")
    source = MILES.replace("version = 1", "version = 2")
    world.plug_in(source=source)
    world.begin()
    world.plug_in()
    client = world.client()
    answer = client.get(address.replace("{event}", event_id))
    spec: dict[str, Any] = client.get("/openapi.json").json
    response = spec["paths"][template]["get"]["responses"][str(answer.status_code)]
    schema = response["content"][answer.content_type]["schema"]
    Draft202012Validator({**schema, "components": spec["components"]}).validate(answer.json)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_and_its_links_lead_somewhere(world: World, path: str) -> None:
    client = world.client()
    answer = client.get(path)
    assert answer.content_type == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = Page(answer.text)
    assert page.loaded == []
    assert "script" not in page.tags
    assert page.tags.count("h1") == 1
    assert '<html lang="en">' in answer.text
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert client.get(link).status_code == 200


def test_the_page_shows_every_address_field_and_parameter(world: World) -> None:
    client = world.client()
    words = Page(client.get("/docs").text).words
    spec = client.get("/openapi.json").json
    for path, methods in spec["paths"].items():
        assert path in words
        for operation in methods.values():
            assert operation["summary"] in words
    for name, shape in spec["components"]["schemas"].items():
        assert name in words
        assert all(field in words for field in shape["properties"])


def test_what_a_stranger_wrote_is_shown_as_text(world: World) -> None:
    hostile = MILES.replace("How far a user went", "<script>alert(1)</script> & far")
    world.plug_in(source=hostile)
    world.store().set_mark("code", world.loaded().code)
    page = Page(world.client().get("/docs").text)
    assert "script" not in page.tags
    assert "<script>alert(1)</script> & far" in page.words


def test_a_method_that_an_address_does_not_take_is_a_405_that_says_which_it_takes(
    world: World,
) -> None:
    for path in ("/v1/consumers", "/v1/users/ada/miles", "/", "/docs"):
        refused = world.client().post(path)
        assert refused.status_code == 405
        assert refused.content_type == "application/problem+json"
        assert refused.json["type"] == "/problems/method-not-allowed"
        assert "GET" in refused.headers["Allow"]


def test_a_name_that_is_not_ours_is_refused_though_it_leads_here(world: World) -> None:
    client = world.client()
    for host in ("localhost", "localhost:8001", "127.0.0.1:8001"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    refused = client.get("/v1/users/ada/workouts", headers={"Host": "evil.example:8001"})
    assert refused.status_code == 400
    assert refused.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/consumers/", "/problems//busy"]
)
def test_an_address_that_is_nobodys_is_a_404(world: World, path: str) -> None:
    missing = world.client().get(path)
    assert missing.status_code == 404
    assert missing.content_type == "application/problem+json"
    assert repr(path) in missing.json["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events/%FF",
        "/v1/users/%00/workouts",
        "/v1/users/%ED%A0%80/miles",
        "/v1/consumers/miles/documents/%00",
        "/v1/consumers/miles/documents?prefix=%FF%00",
        "/v1/consumers/miles/documents?index=far&equals=%00",
        "/v1/consumers/miles/documents?%FF=1",
        "/v1/%FF",
        "/v1/" + "a/" * 2000,
        "/v1/consumers/miles/documents/" + "k" * 5000,
    ],
)
def test_odd_bytes_in_an_address_are_never_our_fault(world: World, path: str) -> None:
    assert world.client().get(path).status_code < 500


@pytest.mark.parametrize("slug", list(PROBLEMS))
def test_the_type_of_a_problem_is_a_page(world: World, slug: str) -> None:
    page = world.client().get(f"/problems/{slug}")
    assert page.status_code == 200
    assert PROBLEMS[slug].title in page.text


def test_what_nobody_foresaw_is_a_problem_document_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("consumers.runtime.query.app.openapi", broken)
    failed = world.client().get("/openapi.json")
    assert failed.status_code == 500
    assert failed.json["type"] == "/problems/internal"
