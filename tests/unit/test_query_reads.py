"""The reads of consumers over HTTP: strangers' code, and what becomes of what it raises."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from consumers.runtime.query.templates import Table, Template, parsed
from tests.factories import workout
from tests.unit.query_world import INSIDE, MAY_GO, MILES, World, installed, wait_until

ODD = """
from tests.unit.query_world import INSIDE, MAY_GO

def blocks(documents, query):
    INSIDE.release()
    MAY_GO.acquire()
    return "gone on"

def leaves(documents, query):
    raise SystemExit("goodbye")

def fails(documents, query):
    return 1 / 0

def nowhere(documents, query):
    raise LookupError("no such shoe")

def wrong(documents, query):
    raise ValueError(f"size is {query['size']}; it must be 36 to 48")

def overflows(documents, query):
    raise OverflowError("date value out of range")

def told(documents, query):
    return {"now": query.now.isoformat(), "query": dict(query), "absent": query.get("absent")}

class Odd:
    name = "odd"
    bindings = ("workout.#",)
    version = 1
    reads = {
        "/odd/blocks": blocks,
        "/odd/leaves": leaves,
        "/odd/fails": fails,
        "/odd/nan": lambda documents, query: float("nan"),
        "/odd/set": lambda documents, query: {1, 2},
        "/odd/lazy": lambda documents, query: (number for number in range(3)),
        "/odd/nowhere": nowhere,
        "/odd/sizes/{size}": wrong,
        "/odd/overflows": overflows,
        "/odd/told/{user}-{week}{?from,absent}": told,
        "/odd/{+all}": told,
        "/users/{who}/miles": told,
        "/consumers": told,
    }
    def keys(self, event): return []
    def fold(self, event, documents): pass
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for made in installed(tmp_path, monkeypatch):
        made.plug_in()
        made.plug_in("odd", ODD)
        made.post(workout(), workout(workout_id="w2", distance_mm=1_500_250))
        made.fold()
        made.begin("odd")
        yield made


def test_a_read_is_answered_from_the_documents(world: World) -> None:
    found = world.client().get("/v1/users/ada/miles?from=2026-11-01&to=2026-11-30")
    assert found.status_code == 200
    assert found.json == {"metres": 6500.25}
    assert found.headers["Cache-Control"] == "no-store"
    assert "Paceline-Fate" not in found.headers


def test_a_read_has_its_parameters_decoded_and_the_time_as_an_argument(world: World) -> None:
    own = "after=03d075d9-3464-5709-9ff0-6922597f7852&wait=0"
    found = world.client().get(f"/v1/odd/told/%C3%9F%20a-2026?from=%2B1%26&{own}")
    assert found.json == {
        "now": "2026-11-25T12:00:00+00:00",
        "query": {"user": "ß a", "week": "2026", "from": "+1&"},
        "absent": None,
    }


@pytest.mark.parametrize(
    ("path", "status", "slug", "detail"),
    [
        ("odd/nowhere", 404, "not-found", "no such shoe"),
        ("odd/sizes/50", 422, "invalid-query", "size is 50; it must be 36 to 48"),
        ("odd/overflows", 422, "invalid-query", "date value out of range"),
        ("odd/sizes/40?colour=red", 422, "invalid-query", "'colour'"),
        ("users/ada/miles?wait=1", 422, "invalid-query", "after"),
        ("users/ada/miles/more", 404, "not-found", "/v1/users/ada/miles/more"),
        ("users//miles", 404, "not-found", "/v1/users//miles"),
    ],
)
def test_a_refusal_says_why(world: World, path: str, status: int, slug: str, detail: str) -> None:
    refused = world.client().get(f"/v1/{path}")
    assert refused.status_code == refused.json["status"] == status
    assert refused.content_type == "application/problem+json"
    assert refused.json["type"] == f"/problems/{slug}"
    assert detail in refused.json["detail"]


@pytest.mark.parametrize("path", ["leaves", "fails", "nan", "set", "lazy"])
def test_a_read_that_fails_is_a_500_that_names_its_consumer_and_nobody_elses(
    world: World, path: str
) -> None:
    client = world.client()
    with capture_logs() as logs:
        failed = client.get(f"/v1/odd/{path}")
    assert failed.status_code == 500
    assert failed.json["type"] == "/problems/internal"
    assert "odd" in failed.json["detail"]
    assert [entry["consumer"] for entry in logs if entry["action"] == "read_failed"] == ["odd"]
    assert client.get("/v1/users/ada/miles").status_code == 200
    assert client.get("/v1/consumers/odd/documents").status_code == 200


def test_a_read_sees_one_moment_though_a_worker_commits_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MILES.replace(
        "    if not found:",
        "    from tests.unit.query_world import INSIDE, MAY_GO\n"
        "    INSIDE.release(); MAY_GO.acquire()\n"
        "    found = documents.range(query['user'] + '/', query['user'] + '/9')\n"
        "    if not found:",
    ).replace("version = 1", "version = 2")
    world.plug_in(source=source)
    world.fold(generation=world.begin())
    world.store().swap(2, expected=1)
    client, answers = world.client(), []
    reader = Thread(target=lambda: answers.append(client.get("/v1/users/ada/miles").json))
    reader.start()
    assert INSIDE.acquire(timeout=30)
    world.post(workout(workout_id="w3"))
    world.fold()
    MAY_GO.release()
    reader.join(30)
    MAY_GO.release()
    assert answers == [{"metres": 6500.25}]
    assert INSIDE.acquire(blocking=False) is False
    assert client.get("/v1/users/ada/miles").json == {"metres": 11500.25}
    assert INSIDE.acquire(blocking=False)


def test_a_consumer_holds_a_quarter_of_the_threads_and_no_more(world: World) -> None:
    client, answers = world.client(), []
    readers = [
        Thread(target=lambda: answers.append(client.get("/v1/odd/blocks").json)) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert INSIDE.acquire(timeout=30)
    for path in ("odd/told/a-b", "consumers/odd/documents"):
        refused = client.get(f"/v1/{path}")
        assert refused.status_code == 503
        assert refused.json["type"] == "/problems/busy"
        assert refused.headers["Retry-After"] == "1"
    assert client.get("/v1/users/ada/miles").status_code == 200
    for _ in readers:
        MAY_GO.release()
    wait_until(lambda: len(answers) == 4)
    assert answers == ["gone on"] * 4
    assert client.get("/v1/odd/told/a-b").status_code == 200


def test_an_address_that_is_taken_stays_with_the_one_that_was_found_first(world: World) -> None:
    client = world.client()
    with capture_logs() as logs:
        assert client.get("/v1/users/ada/miles").json == {"metres": 6500.25}
    reasons = [entry["reason"] for entry in logs if entry["action"] == "read_left"]
    assert "'/users/{who}/miles' is an address of miles already" in reasons


def test_a_fixed_address_cannot_be_taken(world: World) -> None:
    assert "items" in world.client().get("/v1/consumers").json


def test_a_template_that_is_not_understood_leaves_the_others(world: World) -> None:
    client = world.client()
    with capture_logs() as logs:
        assert client.get("/v1/odd/told/a-b").status_code == 200
    assert any("'/odd/{+all}' is no template" in entry.get("reason", "") for entry in logs)


def test_a_template_has_a_path_places_and_options() -> None:
    assert parsed("/boards/{metric}/{window}{?sport,limit}") == Template(
        "/boards/{metric}/{window}", ("metric", "window"), ("sport", "limit")
    )
    assert parsed("/boards") == Template("/boards", (), ())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "boards",
            "/",
            "/boards/",
            "/{}",
            "/{a}{?}",
            "/{a}{b",
            "/{A}",
            "/<a>",
            "/a?b=1",
            "/a b",
        ),
        *("/{?a}", "/a{?b}c", "/{a}/{a}", "/{a}{?a}", "/a{?after}", "/{wait}", "/a{?b,b}", "/a\n"),
    ],
)
def test_what_is_no_template_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"template|twice"):
        parsed(text)


def test_a_template_is_matched_as_a_whole(world: World) -> None:
    table = Table([replace(world.loaded("odd"), reads={"/a/{b}/c": lambda documents, query: 1})])
    match = table.match("/a/x.y/c")
    assert match is not None
    assert match[1] == {"b": "x.y"}
    for path in ("/a//c", "/a/x/y/c", "/a/x", "/a/x/c/", "/b/x/c", ""):
        assert table.match(path) is None, path
