"""Who may call the pod, what it may call, and how Prometheus reads it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy.chart import CHART, EVERYTHING, ROOT, Chart, Rendered

CRDS = ROOT.parent / "shared" / "crds"
"""Definitions of the Prometheus operator's kinds, where they are beside the checkout."""


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
    rule, _ = everything.of("NetworkPolicy")["spec"]["ingress"]
    namespaces, test = rule["from"]
    (expression,) = namespaces["namespaceSelector"]["matchExpressions"]
    assert expression["key"] == "kubernetes.io/metadata.name"
    assert expression["values"] == ["apps", "monitoring"]
    (hook,) = everything.hooks
    assert test["podSelector"]["matchLabels"].items() <= hook["metadata"]["labels"].items()


def test_the_policy_can_be_left_to_others(chart: Chart) -> None:
    rendered = chart.render({"networkPolicy": {"enabled": False}})
    assert "NetworkPolicy" not in rendered.kinds()


def test_prometheus_reads_metrics_with_a_key_that_may_do_nothing_else(everything: Rendered) -> None:
    monitor = everything.of("ServiceMonitor")
    service = everything.of("Service")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "wardrobe-metrics", "key": "metrics-key"},
    }
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    assert selector <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == ["prod"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_a_cluster_without_that_kind_gets_a_note_instead(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert kind not in rendered.kinds()
        assert f"NO {kind} was made" in rendered.notes


def test_the_rule_holds_the_alerts_that_promtool_tests(everything: Rendered) -> None:
    rule = everything.of("PrometheusRule")
    files = (CHART / "files" / "rules").glob("*.yaml")
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert rule["spec"]["groups"] == groups
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_without_a_pod_monitor_the_trainers_metrics_are_nowhere(defaults: Rendered) -> None:
    assert "ports" not in defaults.container("trainer")
    assert "WARDROBE_TRAIN_METRICS_PORT" not in defaults.environment("trainer")


@pytest.mark.parametrize("name", ["everything", "replicated"])
def test_prometheus_reads_the_trainers_metrics_from_whichever_pod_it_runs_in(
    request: pytest.FixtureRequest, name: str
) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    component = "trainer" if name == "replicated" else "service"
    trainer = rendered.container("trainer")
    (port,) = trainer["ports"]
    given = rendered.environment("trainer")["WARDROBE_TRAIN_METRICS_PORT"]
    assert given == str(port["containerPort"])
    (monitor,) = [each for each in rendered.objects if each["kind"] == "PodMonitor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    labels = rendered.deployment(component)["spec"]["template"]["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    (policy,) = [
        each["spec"]
        for each in rendered.objects
        if each["kind"] == "NetworkPolicy"
        and each["spec"]["podSelector"]["matchLabels"].items() <= labels
    ]
    (rule,) = [each for each in policy["ingress"] if each["ports"][0]["port"] == port["name"]]
    (source,) = rule["from"]
    assert source["namespaceSelector"]["matchExpressions"][0]["values"] == ["apps", "monitoring"]


def _breaking_a_monitor(monitor: Any) -> None:
    monitor["spec"]["endpoints"][0]["intervall"] = "5s"


def _breaking_a_pod_monitor(monitor: Any) -> None:
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "5s"


def _breaking_a_rule(rule: Any) -> None:
    rule["spec"]["groups"][0]["rules"][0]["for"] = "five"


@pytest.mark.parametrize(
    ("kind", "breaking"),
    [
        ("ServiceMonitor", _breaking_a_monitor),
        ("PodMonitor", _breaking_a_pod_monitor),
        ("PrometheusRule", _breaking_a_rule),
    ],
)
def test_what_the_operator_reads_meets_its_definition_strictly(
    everything: Rendered, kind: str, breaking: Callable[[Any], None]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    crd = CRDS / f"monitoring.coreos.com_{kind.lower()}s.yaml"
    if not crd.is_file():
        pytest.skip(f"the definition of {kind} is not beside the checkout (../shared/crds)")
    definition = yaml.safe_load(crd.read_text("utf-8"))
    schema = _strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft202012Validator(schema)
    whole = everything.of(kind)
    assert [error.message for error in validator.iter_errors(whole)] == []
    misspelt = copy.deepcopy(whole)
    breaking(misspelt)
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
