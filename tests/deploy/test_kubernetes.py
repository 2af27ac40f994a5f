"""The Kubernetes manifests: valid, confined, and made of what is there."""

import json
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from events.topology import queue_name
from tests.deploy.place import CONSUMERS, DEPLOY, check_command, documents

(KUSTOMIZATION,) = documents("kustomization.yaml")
FILES = KUSTOMIZATION["resources"]
OBJECTS = [one for name in FILES for one in documents(name)]
THEIRS = [one for one in OBJECTS if not one["apiVersion"].startswith("keda.sh/")]
SCALED = [one for one in OBJECTS if one["kind"] == "ScaledObject"]
WORKLOADS = [one for one in OBJECTS if one["kind"] in ("Deployment", "StatefulSet")]
VERSION = "1.31"
TEXT = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object that has these properties, all of them, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# What of KEDA's ScaledObject is used, as its reference page tells it: metadata are texts.
SCALED_OBJECT = closed(
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=closed(name=TEXT),
    spec=closed(
        scaleTargetRef=closed(name=TEXT),
        minReplicaCount={"type": "integer", "minimum": 1},
        maxReplicaCount={"type": "integer", "minimum": 2},
        pollingInterval={"type": "integer", "minimum": 1},
        triggers={
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": closed(
                type={"const": "rabbitmq"},
                metadata=closed(
                    protocol={"const": "amqp"},
                    queueName=TEXT,
                    mode={"const": "QueueLength"},
                    value={"type": "string", "pattern": r"\A[1-9]\d*\Z"},
                ),
                authenticationRef=closed(name={"const": "paceline-rabbitmq"}),
            ),
        },
    ),
)


def name_of(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def containers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(workload, one) for workload in WORKLOADS for one in pod(workload)["containers"]]


each_workload = pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
each_container = pytest.mark.parametrize(
    ("workload", "container"),
    containers(),
    ids=[f"{workload['metadata']['name']}: {one['name']}" for workload, one in containers()],
)


@pytest.mark.parametrize("one", THEIRS, ids=name_of)
def test_an_object_is_what_kubernetes_takes(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, VERSION, strict=True)


@pytest.mark.parametrize("one", SCALED, ids=name_of)
def test_a_scaled_object_is_what_keda_takes(one: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCALED_OBJECT).validate(one)


def test_every_manifest_is_in_the_kustomization() -> None:
    there = {f"kubernetes/{path.name}" for path in (DEPLOY / "kubernetes").iterdir()}
    assert there == set(FILES)


def test_every_part_has_a_workload_and_every_consumer_scales_by_its_own_queue() -> None:
    names = {workload["metadata"]["name"] for workload in WORKLOADS}
    assert names == {"producer", "query", *CONSUMERS}
    queues = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["triggers"][0]["metadata"]["queueName"]
        for one in SCALED
    }
    assert queues == {name: queue_name(name) for name in CONSUMERS}


@pytest.mark.parametrize("name", CONSUMERS)
def test_the_consumers_differ_by_their_name_alone(name: str) -> None:
    model = (DEPLOY / "kubernetes" / "calories.yaml").read_text()
    own = (DEPLOY / "kubernetes" / f"{name}.yaml").read_text()
    assert model.replace("calories", name) == own


@each_container
def test_a_container_runs_a_command_that_there_is(
    workload: dict[str, Any], container: dict[str, Any]
) -> None:
    if container["image"] == "paceline":
        assert "command" not in container
        check_command(container["args"])
    else:
        assert container["command"][0] == "nginx"


@each_container
def test_a_container_is_confined_and_bounded(
    workload: dict[str, Any], container: dict[str, Any]
) -> None:
    confined = container["securityContext"]
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@each_workload
def test_a_pod_is_not_root_and_has_no_token(workload: dict[str, Any]) -> None:
    assert pod(workload)["automountServiceAccountToken"] is False
    security = pod(workload)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] >= 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


@each_workload
def test_a_selector_finds_the_pods_and_every_mount_has_its_volume(workload: dict[str, Any]) -> None:
    spec = workload["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    volumes = {volume["name"] for volume in pod(workload)["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    mounts = [mount for one in pod(workload)["containers"] for mount in one["volumeMounts"]]
    assert {mount["name"] for mount in mounts} == volumes


def test_producer_and_relay_share_the_outbox_that_outlives_them() -> None:
    (producer,) = (one for one in WORKLOADS if one["metadata"]["name"] == "producer")
    (claim,) = producer["spec"]["volumeClaimTemplates"]
    mounts = {
        one["name"]: {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
        for one in pod(producer)["containers"]
    }
    assert mounts["producer"]["/data"] == mounts["relay"]["/data"] == claim["metadata"]["name"]
    kept = producer["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_every_selector_of_a_service_a_budget_or_a_policy_finds_pods() -> None:
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in WORKLOADS]
    asked = [json.dumps(one["spec"]) for one in OBJECTS if one["kind"] in SELECTING]
    assert len(asked) == 8
    parts = {label["paceline.part"] for label in labels}
    for text in asked:
        named = [part for part in parts if f'"paceline.part": "{part}"' in text]
        assert named or '"operator": "Exists"' in text, text


SELECTING = ("Service", "PodDisruptionBudget", "NetworkPolicy")


def test_every_secret_and_configuration_that_is_named_is_made() -> None:
    made = {one["name"] for one in KUSTOMIZATION["secretGenerator"]}
    maps = {one["name"] for one in KUSTOMIZATION["configMapGenerator"]}
    for workload in WORKLOADS:
        for one in pod(workload)["containers"]:
            for source in one.get("envFrom", ()):
                assert source["secretRef"]["name"] in made
        for volume in pod(workload)["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made
            elif "configMap" in volume and not volume["configMap"].get("optional"):
                assert volume["configMap"]["name"] in maps


def test_what_keda_asks_with_is_made_under_a_name_that_stays() -> None:
    (trigger,) = (one for one in OBJECTS if one["kind"] == "TriggerAuthentication")
    made = {one["name"]: one for one in KUSTOMIZATION["secretGenerator"]}
    for reference in trigger["spec"]["secretTargetRef"]:
        secret = made[reference["name"]]
        assert secret["options"] == {"disableNameSuffixHash": True}
        keys = [file.split("=")[0].split("/")[-1] for file in secret["files"]]
        keys += [literal.split("=")[0] for literal in secret.get("literals", ())]
        assert reference["key"] in keys


def test_prepare_makes_every_file_of_a_secret(prepared: Any) -> None:
    files = [
        name.split("=")[-1]
        for one in KUSTOMIZATION["secretGenerator"]
        for name in (*one.get("files", ()), *one.get("envs", ()))
    ]
    assert not [name for name in files if not (prepared / name.removeprefix("secrets/")).is_file()]
    maps = [name for one in KUSTOMIZATION["configMapGenerator"] for name in one["files"]]
    assert not [name for name in maps if not (DEPLOY / name).is_file()]


def test_every_image_is_given_a_pinned_tag() -> None:
    given = {one["name"]: one["newTag"] for one in KUSTOMIZATION["images"]}
    assert {container["image"] for _, container in containers()} == set(given)
    assert all(tag[0].isdigit() and tag.count(".") >= 2 for tag in given.values())
