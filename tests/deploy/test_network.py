"""Who may call the pod, what it may call, and how Prometheus reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.deploy.chart import EVERYTHING, ROOT, Chart, Rendered

CRD = ROOT.parent / "shared" / "crds" / "monitoring.coreos.com_servicemonitors.yaml"


def _egress(rendered: Rendered) -> set[int]:
    rules = rendered.of("NetworkPolicy")["spec"]["egress"]
    return {port["port"] for rule in rules for port in rule["ports"]}


@pytest.mark.parametrize(
    ("base", "ports"),
    [("", {53}), ("/models/base", {53}), ("Qwen/Qwen3-8B", {53, 443})],
)
def test_only_a_base_that_must_be_fetched_opens_the_way_out(
    chart: Chart, base: str, ports: set[int]
) -> None:
    assert _egress(chart.render({"base": {"model": base}})) == ports


def test_the_policy_covers_the_pod_in_both_directions(defaults: Rendered) -> None:
    spec = defaults.of("NetworkPolicy")["spec"]
    labels = defaults.of("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert len(spec["ingress"]) == 1


def test_named_namespaces_are_let_in_and_the_test_pod_too(everything: Rendered) -> None:
    (rule,) = everything.of("NetworkPolicy")["spec"]["ingress"]
    namespaces, test = rule["from"]
    (expression,) = namespaces["namespaceSelector"]["matchExpressions"]
    assert expression["key"] == "kubernetes.io/metadata.name"
    assert expression["values"] == ["apps", "monitoring"]
    (hook,) = everything.hooks
    assert test["podSelector"]["matchLabels"].items() <= hook["metadata"]["labels"].items()


def test_the_policy_can_be_left_to_others(chart: Chart) -> None:
    rendered = chart.render({"networkPolicy": {"enabled": False}})
    assert "NetworkPolicy" not in rendered.kinds()


def test_prometheus_reads_metrics_with_the_admin_key(everything: Rendered) -> None:
    monitor = everything.of("ServiceMonitor")
    service = everything.of("Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "wardrobe-admin", "key": "admin-key"},
    }
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert selector <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == ["prod"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_a_cluster_without_that_kind_gets_a_note_instead(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    assert "ServiceMonitor" not in rendered.kinds()
    assert "NO ServiceMonitor was made" in rendered.notes


def test_the_service_monitor_meets_its_definition_strictly(everything: Rendered) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    if not CRD.is_file():
        pytest.skip("the ServiceMonitor definition is not beside the checkout (../shared/crds)")
    definition = yaml.safe_load(CRD.read_text("utf-8"))
    schema = _strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft202012Validator(schema)
    monitor = everything.of("ServiceMonitor")
    assert [error.message for error in validator.iter_errors(monitor)] == []
    misspelt = copy.deepcopy(monitor)
    misspelt["spec"]["endpoints"][0]["intervall"] = "5s"
    assert list(validator.iter_errors(misspelt)), "this validator cannot fail"


def _strict(node: Any) -> Any:
    """An OpenAPI v3 structural schema as strict JSON schema: what is not named is refused."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _strict(value) for key, value in node.items() if not key.startswith("x-")}
    if node.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made
