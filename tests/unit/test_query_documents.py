"""A consumer's documents over HTTP: one by key, all by key, all by an index."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from consumers.runtime.store import Commit, Written
from tests.unit.query_world import World, installed

KEYS = ("a", "a/1", "a/2", "a//2", "a/2/", "/a", "b?x=1", "ß", "日", "\U0001f3c3", "A", "a%2F1")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for made in installed(tmp_path, monkeypatch):
        made.plug_in()
        made.begin()
        yield made


def keep(world: World, documents: dict[str, dict[str, object]]) -> Any:
    written = [Written(key, 0, json.dumps(body).encode()) for key, body in documents.items()]
    live = world.store().live()
    assert live is not None
    world.store().commit(live.number, Commit(documents=written))
    return world.client()


def listed(client: Any, query: str) -> list[str]:
    keys, cursor = [], ""
    while True:
        page = client.get(f"/v1/consumers/miles/documents?{query}{cursor}").json
        keys += [item["key"] for item in page["items"]]
        if page["next"] is None:
            return keys
        cursor = f"&cursor={quote(page['next'])}"


def equals(*values: object) -> str:
    return f"index=far&equals={quote(json.dumps(values))}"


@pytest.mark.parametrize("key", KEYS)
def test_a_document_is_found_under_its_key(world: World, key: str) -> None:
    client = keep(world, {one: {"of": one} for one in KEYS})
    found = client.get(f"/v1/consumers/miles/documents/{quote(key)}")
    assert found.status_code == 200
    assert found.json == {"key": key, "document": {"of": key}}


def test_a_document_that_is_not_there_is_a_404(world: World) -> None:
    missing = world.client().get("/v1/consumers/miles/documents/nobody/2026")
    assert missing.status_code == 404
    assert "nobody/2026" in missing.json["detail"]


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 200])
def test_the_listing_holds_every_document_once_in_the_order_of_its_bytes(
    world: World, limit: int
) -> None:
    client = keep(world, {key: {} for key in KEYS})
    assert listed(client, f"limit={limit}") == sorted(KEYS, key=str.encode)


@pytest.mark.parametrize("prefix", ["a", "a/", "ß", "\U0001f3c3", "no"])
def test_a_prefix_lists_only_keys_that_begin_so(world: World, prefix: str) -> None:
    client = keep(world, {key: {} for key in KEYS})
    expected = sorted((key for key in KEYS if key.startswith(prefix)), key=str.encode)
    assert listed(client, f"limit=2&prefix={quote(prefix)}") == expected


def test_an_index_lists_in_its_order(world: World) -> None:
    client = keep(
        world,
        {
            "ada": {"board": "all", "mm": 7},
            "bob": {"board": "all", "mm": 9},
            "cid": {"board": "[2026]", "mm": 8},
            "dan": {"board": "all", "mm": 9},
            "eve": {"board": "all"},
        },
    )
    assert listed(client, "index=far&limit=1") == ["cid", "bob", "dan", "ada"]
    assert listed(client, "index=far&equals=all&limit=1") == ["bob", "dan", "ada"]
    assert listed(client, equals("[2026]")) == ["cid"]
    assert listed(client, equals("all", 9) + "&limit=1") == ["bob", "dan"]
    assert listed(client, equals("all", "9")) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("index=near", "index"),
        ("index=far&equals=[1,2,3]", "equals"),
        ("index=far&equals=[1", "equals"),
        ("index=far&equals=[1.5]", "equals"),
        ("index=far&equals=[true]", "equals"),
        ("index=far&equals=[9223372036854775808]", "equals"),
        ("index=far&equals=" + "[" * 3000, "equals"),
        ("index=far&prefix=a", "prefix"),
        ("equals=all", "index"),
        ("prefix=b&cursor=a", "cursor"),
        ("index=far&cursor=x", "cursor"),
        ("limit=1000", "limit"),
        ("order=up", "order"),
    ],
)
def test_a_wrong_parameter_is_named(world: World, query: str, named: str) -> None:
    client = keep(world, {"ada": {"board": "all", "mm": 7}})
    refused = client.get(f"/v1/consumers/miles/documents?{query}")
    assert refused.status_code == 422
    assert named in refused.json["detail"]


def test_a_cursor_with_a_number_beyond_64_bits_is_refused(world: World) -> None:
    client = keep(world, {"ada": {"board": "all", "mm": 7}})
    cursor = urlsafe_b64encode(b'[12345678901234567890123,1,"a"]').decode().rstrip("=")
    refused = client.get(f"/v1/consumers/miles/documents?index=far&cursor={cursor}")
    assert refused.status_code == 422


def test_the_indexes_that_there_are_stand_in_the_refusal(world: World) -> None:
    detail = world.client().get("/v1/consumers/miles/documents?index=near").json["detail"]
    assert "far" in detail


@pytest.mark.parametrize("path", ["documents", "documents/ada"])
def test_a_consumer_that_has_not_started_says_when_to_come_again(world: World, path: str) -> None:
    world.plug_in("later", "")
    refused = world.client().get(f"/v1/consumers/later/{path}")
    assert refused.status_code == 503
    assert refused.json["type"] == "/problems/unavailable"
    assert refused.headers["Retry-After"] == "1"


@pytest.mark.parametrize("name", ["nobody", "..", "%2E%2E%2Flog"])
def test_the_documents_of_nobody_are_a_404(world: World, name: str) -> None:
    assert world.client().get(f"/v1/consumers/{name}/documents").status_code == 404
