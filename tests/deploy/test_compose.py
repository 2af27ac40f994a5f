"""compose.yaml: valid, pinned, without a password, and nothing in it that is not there."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.deploy.place import CONSUMERS, DEPLOY, PASSWORD, check_command, documents, settings_of

(COMPOSE,) = documents("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "paceline:0.1.0"}
# The folder of plug-ins is the operator's.
NOT_OURS = {"./plugins"}


def test_it_is_what_the_compose_specification_says() -> None:
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


def test_every_part_of_the_platform_has_a_service() -> None:
    assert {"rabbitmq", "mongodb", "ingress", "producer", "relay", "query", *CONSUMERS} <= {
        *SERVICES
    }


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert tag[:1].isdigit()
    assert tag.count(".") >= 2


def test_no_password_is_in_it() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert not PASSWORD.search(text)
    assert "environment" not in text


@pytest.mark.parametrize("name", sorted(set(OURS) - {"mongodb-setup"}))
def test_a_service_runs_a_command_that_there_is(name: str) -> None:
    check_command(OURS[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_writes_only_where_it_should(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_unless_it_was_to_end(name: str) -> None:
    ends = {"mongodb-setup": "on-failure", "operator": "no"}
    assert SERVICES[name]["restart"] == ends.get(name, "unless-stopped")


def test_only_the_ingress_can_be_reached_and_what_it_guards_shares_its_network() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["ingress"]
    assert {SERVICES[name]["network_mode"] for name in ("producer", "query")} == {"service:ingress"}
    assert COMPOSE["networks"]["back"]["internal"]
    assert {"back", "front"} == set(SERVICES["ingress"]["networks"])


def test_the_relay_reads_the_outbox_that_the_producer_writes() -> None:
    assert {*SERVICES["producer"]["volumes"]} & {*SERVICES["relay"]["volumes"]} == {"outbox:/data"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_mounted_file_is_there_and_a_volume_and_a_secret_are_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert source in NOT_OURS or (DEPLOY / source).is_file(), source
        else:
            assert source in COMPOSE["volumes"]
    for secret in SERVICES[name].get("secrets", ()):
        assert secret["source"] in COMPOSE["secrets"]
    assert set(SERVICES[name].get("depends_on", ())) <= set(SERVICES)


def test_prepare_makes_every_secret_and_environment(prepared: Path) -> None:
    named = {secret["file"] for secret in COMPOSE["secrets"].values()}
    named |= {file for service in SERVICES.values() for file in service.get("env_file", ())}
    assert all(name.startswith("secrets/") for name in named)
    assert {name.removeprefix("secrets/") for name in named} <= {p.name for p in prepared.iterdir()}


@pytest.mark.parametrize("name", sorted(set(OURS) - {"mongodb-setup"}))
def test_a_service_has_its_own_environment_and_what_that_names(name: str, prepared: Path) -> None:
    assert OURS[name]["env_file"] == [f"secrets/{name}.env"]
    given = settings_of(prepared, name)
    assert set(given) == {"PACELINE_BROKER_URL", "PACELINE_STORE_URL"}
    connects = name != "producer"
    mounted = {secret["target"] for secret in OURS[name].get("secrets", ())}
    assert ("/etc/paceline/ca.crt" in mounted) == connects
