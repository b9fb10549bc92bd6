"""Several pods of the service: what they share, what each keeps, and where the trainer is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from service.launch.launcher import TRAINER_STOP_SECONDS
from tests.deploy.chart import CHART, REPLICATED, Chart, Object, Rendered, containers


def _volumes(pod: Object) -> dict[str, Any]:
    return {each["name"]: each for each in pod["volumes"]}


def _secret_files(pod: Object) -> set[str]:
    """The Secrets that are mounted into a pod."""
    return {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}


def _variables(container: Object) -> dict[str, str]:
    """Variable → Secret/key that it comes from."""
    found = [each for each in container["env"] if "valueFrom" in each]
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in found}
    return {name: f"{ref['name']}/{ref['key']}" for name, ref in secrets.items()}


def _trainer(rendered: Rendered) -> Object:
    spec: Object = rendered.deployment("trainer")["spec"]["template"]["spec"]
    return spec


def test_the_pods_that_answer_hold_no_trainer_and_the_trainers_no_service(
    replicated: Rendered,
) -> None:
    assert [each["name"] for each in containers(replicated.pod)] == ["base", "service"]
    assert [each["name"] for each in containers(_trainer(replicated))] == ["base", "trainer"]


def test_pods_are_replaced_one_by_one_and_the_trainer_is_never_two(replicated: Rendered) -> None:
    spec = replicated.deployment()["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["type"] == "RollingUpdate"
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 1}
    trainer = replicated.deployment("trainer")["spec"]
    assert (trainer["replicas"], trainer["strategy"]) == (1, {"type": "Recreate"})
    assert _trainer(replicated)["terminationGracePeriodSeconds"] > TRAINER_STOP_SECONDS


def test_a_single_pod_on_a_database_is_replaced_without_a_gap(chart: Chart) -> None:
    rendered = chart.render(REPLICATED | {"replicas": 1})
    strategy = rendered.deployment()["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "PodDisruptionBudget" not in rendered.kinds()
    assert "topologySpreadConstraints" not in rendered.pod


def test_pods_keep_nothing_and_the_trainer_keeps_its_checkpoints(replicated: Rendered) -> None:
    state = _volumes(replicated.pod)["state"]
    room = int(state["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    assert room > int(replicated.environment("service")["WARDROBE_ARTIFACT_CACHE_GIB"])
    claim = _volumes(_trainer(replicated))["state"]["persistentVolumeClaim"]
    assert claim == {"claimName": "demo-wardrobe-state"}


def test_every_pod_has_the_same_registry_artifacts_and_keys(replicated: Rendered) -> None:
    assert _variables(replicated.container("service")) == {
        "WARDROBE_DATABASE_URL": "wardrobe-database/url"
    }
    assert _variables(replicated.container("trainer")) == {
        "WARDROBE_DATABASE_URL": "wardrobe-database/url"
    }
    assert _variables(replicated.container("base")) == {"HF_TOKEN": "hub/token"}
    for name in ("base", "service", "trainer"):
        given = replicated.environment(name)
        assert given["WARDROBE_ARTIFACTS"] == "s3://wardrobe/artifacts"
        assert given["AWS_ENDPOINT_URL"] == "http://storage.example:9000"
        assert given["AWS_REGION"] == "eu-central-1"
        sources = replicated.container(name)["envFrom"]
        assert sources == [{"secretRef": {"name": "wardrobe-storage"}}]


def test_the_trainers_pod_is_given_its_own_key_and_no_other(replicated: Rendered) -> None:
    assert _secret_files(_trainer(replicated)) == {
        "wardrobe-trainer",
        "wardrobe-tls",
        "wardrobe-signing",
    }
    (authority,) = _volumes(_trainer(replicated))["authority"]["secret"]["items"]
    assert authority == {"key": "ca.crt", "path": "ca.crt"}, "the certificate's key is no other's"
    assert _secret_files(replicated.pod) == {
        "wardrobe-admin",
        "wardrobe-metrics",
        "wardrobe-trainer",
        "wardrobe-units",
        "wardrobe-pepper",
        "wardrobe-signing",
        "wardrobe-tls",
    }
    given = replicated.environment("trainer")
    assert not {"WARDROBE_ADMIN_KEY_FILE", "WARDROBE_UNIT_KEYS", "WARDROBE_PEPPER_FILE"} & set(
        given
    )


def test_what_is_named_to_the_service_is_mounted_and_nothing_else(replicated: Rendered) -> None:
    given = replicated.environment("service")
    named = {
        given["WARDROBE_ADMIN_KEY_FILE"]: "/etc/wardrobe/admin-key",
        given["WARDROBE_METRICS_KEY_FILE"]: "/etc/wardrobe/metrics-key",
        given["WARDROBE_TRAINER_KEY_FILE"]: "/etc/wardrobe/trainer-key",
        given["WARDROBE_PEPPER_FILE"]: "/etc/wardrobe/pepper",
        given["WARDROBE_UNIT_KEYS"]: "/etc/wardrobe/unit-keys",
        given["WARDROBE_SIGNING_KEY_FILE"]: "/etc/wardrobe/signing-key",
        given["WARDROBE_TLS_CERT"]: "/etc/wardrobe/tls",
        given["WARDROBE_SERVICE_CA"]: "/etc/wardrobe/authority",
    }
    secrets = [name for name, each in _volumes(replicated.pod).items() if "secret" in each]
    mounts = [
        each for each in replicated.container("service")["volumeMounts"] if each["name"] in secrets
    ]
    assert {each["mountPath"] for each in mounts} == set(named.values())
    assert all(each["readOnly"] for each in mounts)
    assert all(path.startswith(folder) for path, folder in named.items())


def test_the_trainer_calls_the_service_by_its_service(chart: Chart, replicated: Rendered) -> None:
    service = replicated.of("Service")
    (port,) = service["spec"]["ports"]
    url = replicated.environment("trainer")["WARDROBE_SERVICE_URL"]
    assert url == f"https://{service['metadata']['name']}.prod.svc:{port['port']}"
    plain = REPLICATED | {"tls": {"existingSecret": ""}}
    url = chart.render(plain).environment("trainer")["WARDROBE_SERVICE_URL"]
    assert url == f"http://{service['metadata']['name']}:{port['port']}"
    labels = replicated.deployment("trainer")["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= labels.items()


def _policy(rendered: Rendered, component: str) -> Any:
    """The spec of the one policy that selects a component's pods."""
    labels = rendered.deployment(component)["spec"]["template"]["metadata"]["labels"].items()
    (found,) = [
        each["spec"]
        for each in rendered.objects
        if each["kind"] == "NetworkPolicy"
        and each["spec"]["podSelector"]["matchLabels"].items() <= labels
    ]
    return found


@pytest.mark.parametrize("component", ["service", "trainer"])
def test_pods_reach_the_database_and_the_storage(replicated: Rendered, component: str) -> None:
    rules = [each for each in _policy(replicated, component)["egress"] if "to" not in each]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {53, 443, 6432, 9000}


def test_the_trainer_reaches_the_service_and_nobody_but_prometheus_reaches_the_trainer(
    chart: Chart, replicated: Rendered
) -> None:
    policy = _policy(replicated, "trainer")
    assert [each["ports"] for each in policy["ingress"]] == [
        [{"port": "trainer-metrics", "protocol": "TCP"}]
    ]
    unwatched = chart.render(REPLICATED | {"podMonitor": {"enabled": False}})
    assert _policy(unwatched, "trainer")["ingress"] == []
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = [each for each in policy["egress"] if "to" in each]
    (port,) = rule["ports"]
    assert port["port"] == replicated.container("service")["ports"][0]["containerPort"]
    service = replicated.deployment()["spec"]["template"]["metadata"]["labels"].items()
    assert rule["to"][0]["podSelector"]["matchLabels"].items() <= service
    trainer = replicated.deployment("trainer")["spec"]["template"]["metadata"]["labels"].items()
    callers = _policy(replicated, "service")["ingress"][0]["from"]
    pods = [each["podSelector"]["matchLabels"].items() for each in callers if "podSelector" in each]
    assert any(selector <= trainer for selector in pods)


def test_pods_are_spread_and_emptied_one_at_a_time(replicated: Rendered) -> None:
    labels = replicated.deployment()["spec"]["template"]["metadata"]["labels"].items()
    budget = replicated.of("PodDisruptionBudget")["spec"]
    (spread,) = replicated.pod["topologySpreadConstraints"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"]["matchLabels"].items() <= labels
    trainer = replicated.deployment("trainer")["spec"]["template"]["metadata"]["labels"].items()
    assert not budget["selector"]["matchLabels"].items() <= trainer


def test_the_notes_say_who_has_no_key(chart: Chart) -> None:
    assert "keys.json" not in chart.render(REPLICATED).notes
    keyless = chart.render(REPLICATED | {"unitKeys": {"existingSecret": ""}})
    assert "NO unit has a key" in keyless.notes


def test_the_notes_say_where_nothing_is_signed(chart: Chart) -> None:
    assert "NO version is signed" not in chart.render(REPLICATED).notes
    none = {"signingKey": {"existingSecret": ""}, "trustedKeys": {"existingConfigMap": ""}}
    assert "NO version is signed" in chart.render(REPLICATED | none).notes
    assert "NO version is signed" not in chart.render(none).notes, "one pod makes a key"


def test_the_example_of_several_pods_brings_every_key_and_its_page_makes_them() -> None:
    values = yaml.safe_load((CHART / "values-replicas.yaml").read_text("utf-8"))
    page = (CHART / "README.md").read_text("utf-8")
    for name in ("database", "adminKey", "trainerKey", "pepper", "unitKeys", "signingKey"):
        assert f"create secret generic {values[name]['existingSecret']} " in page, name


def test_one_pod_may_keep_its_artifacts_in_object_storage(chart: Chart) -> None:
    rendered = chart.render({"artifacts": {"url": "s3://bucket"}})
    assert [each["name"] for each in containers(rendered.pod)] == ["base", "service", "trainer"]
    for name in ("base", "service", "trainer"):
        assert rendered.environment(name)["WARDROBE_ARTIFACTS"] == "s3://bucket"
        assert "AWS_ENDPOINT_URL" not in rendered.environment(name)
    egress = rendered.of("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} == {53, 443}
