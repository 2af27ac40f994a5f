"""Which code answers, for a plug-in that is new, changed, being rebuilt, or cannot be imported."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from tests.factories import workout
from tests.unit.query_world import MILES, World, installed

SECOND = MILES.replace("version = 1", "version = 2").replace("/ 1000}", "/ 1000, 'second': True}")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    yield from installed(tmp_path, monkeypatch)


def miles(client: Any) -> object:
    return client.get("/v1/users/ada/miles").json


def test_a_plug_in_that_is_dropped_in_later_is_read_without_a_restart(world: World) -> None:
    client = world.client()
    world.post(workout())
    assert client.get("/v1/users/ada/miles").status_code == 404
    world.plug_in()
    world.fold()
    assert miles(client) == {"metres": 5000.0}


def test_strangers_code_is_imported_only_after_a_worker_has_imported_it(
    world: World, tmp_path: Path
) -> None:
    witness = tmp_path / "imported"
    world.plug_in(source=f"import pathlib; pathlib.Path({str(witness)!r}).touch()\n{MILES}")
    client = world.client()
    missing = client.get("/v1/users/ada/miles")
    assert missing.status_code == 404
    assert "Not started yet, and so not asked: miles." in missing.json["detail"]
    for path in ("/v1/consumers", "/openapi.json", "/docs", "/v1/consumers/miles/documents"):
        client.get(path)
    assert not witness.exists()
    world.begin()
    witness.unlink()
    assert client.get("/v1/users/ada/miles").json["detail"] == "There is nothing of ada."
    assert witness.exists()


def test_code_that_exits_when_it_is_imported_takes_nobody_down(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    client = world.client()
    assert miles(client) == {"metres": 5000.0}
    world.plug_in(source=f"import os; os._exit(9)\n{MILES}")
    assert miles(client) == {"metres": 5000.0}
    assert client.get("/v1/consumers/miles").json["version"] == 1


def test_code_that_a_worker_could_import_and_we_cannot_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILES_MAY", "1")
    world.plug_in(source=f"import os; os.environ['MILES_MAY']\n{MILES}")
    world.begin()
    monkeypatch.delenv("MILES_MAY")
    client = world.client()
    assert client.get("/v1/users/ada/miles").status_code == 404
    assert client.get("/v1/consumers/miles/documents").status_code == 200


def test_while_a_new_version_is_built_the_one_before_answers(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    client = world.client()
    assert miles(client) == {"metres": 5000.0}
    world.plug_in(source=SECOND)
    built = world.begin()
    assert miles(client) == {"metres": 5000.0}
    world.fold(generation=built)
    assert miles(client) == {"metres": 5000.0}
    world.store().swap(built.number, expected=1)
    assert miles(client) == {"metres": 5000.0, "second": True}


def test_a_swap_between_two_looks_is_noticed_by_the_read_itself(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    client = world.client(rescan_s=3600)
    assert miles(client) == {"metres": 5000.0}
    world.plug_in(source=SECOND)
    world.fold(generation=world.begin())
    world.store().swap(2, expected=1)
    assert miles(client) == {"metres": 5000.0, "second": True}


def test_new_code_never_reads_the_documents_of_the_version_before(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    world.plug_in(source=SECOND)
    world.begin()
    waiting = world.client().get("/v1/users/ada/miles")
    assert waiting.status_code == 503
    assert waiting.json["type"] == "/problems/unavailable"
    assert "version 2" in waiting.json["detail"]


def test_a_read_that_changed_without_a_new_version_is_served_once_a_worker_runs_it(
    world: World,
) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    client = world.client()
    assert miles(client) == {"metres": 5000.0}
    world.plug_in(source=MILES.replace("/ 1000}", "/ 1000, 'fixed': True}"))
    assert miles(client) == {"metres": 5000.0}
    world.store().set_mark("code", world.loaded().code)
    assert miles(client) == {"metres": 5000.0, "fixed": True}


def test_a_plug_in_that_is_taken_away_is_not_read_any_more(world: World) -> None:
    world.plug_in()
    world.post(workout())
    world.fold()
    client = world.client()
    assert miles(client) == {"metres": 5000.0}
    (world.settings.plugins / "miles.py").unlink()
    assert client.get("/v1/users/ada/miles").status_code == 404
    assert client.get("/v1/consumers").json["items"] == []


def test_an_installed_package_is_read_like_a_file_and_its_parents_are_not_run_before(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "acme_of_miles"
    (package / "parts").mkdir(parents=True)
    witness = tmp_path / "imported"
    (package / "__init__.py").write_text(f"import pathlib; pathlib.Path({str(witness)!r}).touch()")
    (package / "parts" / "__init__.py").write_text("")
    (package / "parts" / "far.py").write_text(MILES)
    point = EntryPoint("miles", "acme_of_miles.parts.far:Miles", "paceline.consumers")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [point])
    world.post(workout())
    client = world.client()
    assert client.get("/v1/users/ada/miles").status_code == 404
    assert not witness.exists()
    world.fold()
    assert miles(client) == {"metres": 5000.0}
    for name in ("acme_of_miles.parts.far", "acme_of_miles.parts", "acme_of_miles"):
        monkeypatch.delitem(sys.modules, name)


def test_an_installed_package_that_is_upgraded_is_imported_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site" / "acme_upgraded.py"
    module.parent.mkdir()
    module.write_text(MILES)
    point = EntryPoint("miles", "acme_upgraded:Miles", "paceline.consumers")
    monkeypatch.syspath_prepend(str(module.parent))
    monkeypatch.setattr("consumers.runtime.registry.entry_points", lambda *, group: [point])
    world.post(workout())
    world.fold()
    client = world.client()
    assert miles(client) == {"metres": 5000.0}
    module.write_text(SECOND)
    # The worker is a process of its own: what it imports is not what is in memory here.
    ours = sys.modules.pop("acme_upgraded")
    world.fold(generation=world.begin())
    world.store().swap(2, expected=1)
    sys.modules["acme_upgraded"] = ours
    assert miles(client) == {"metres": 5000.0, "second": True}
    monkeypatch.delitem(sys.modules, "acme_upgraded")
