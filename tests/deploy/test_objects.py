"""What the chart renders is what Kubernetes takes, in three versions of it."""

from __future__ import annotations

from itertools import product

import pytest

from tests.deploy.chart import (
    CONTAINERS,
    EVERYTHING,
    REPLICATED,
    Chart,
    Rendered,
    containers,
    example,
)
from tests.deploy.cluster import cluster

VERSIONS = ("1.34", "1.35", "1.36")
EXAMPLES = ("", "embedded", "gpu", "replicas")
OBJECTS = {"replicas": 9, "replicated": 10}
"""How many there are; one pod needs seven."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_chart_lints_strictly(chart: Chart, name: str) -> None:
    assert chart.lint(example(name)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*EXAMPLES, "everything", "replicated"])
def test_every_object_is_valid_in_three_kubernetes_versions(
    chart: Chart, name: str, version: str
) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    with cluster(version=f"v{version}.0", monitoring=False) as config:
        whole = {"everything": EVERYTHING, "replicated": REPLICATED}
        rendered = chart.render(whole.get(name) or example(name), config=config)
    assert len(rendered.objects) == OBJECTS.get(name, 7)
    for each in (*rendered.objects, *rendered.hooks):
        validator.validate(each, version, strict=True)


def test_a_misspelt_field_would_be_found(defaults: Rendered) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    broken = {**defaults.of("Service"), "specc": {}}
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, "1.34", strict=True)


def test_a_cluster_that_is_too_old_is_refused(chart: Chart) -> None:
    with cluster(version="v1.27.16", monitoring=False) as config:
        assert "requires kubeVersion: >=1.28" in chart.refusal({}, config=config)


@pytest.mark.parametrize("name", ["everything", "replicated"])
def test_every_object_is_named_labelled_and_placed(
    request: pytest.FixtureRequest, name: str
) -> None:
    rendered: Rendered = request.getfixturevalue(name)
    for each in (*rendered.objects, *rendered.hooks):
        assert each["metadata"]["namespace"] == "prod"
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "wardrobe"
        assert labels["app.kubernetes.io/instance"] == "demo"
        assert {"app.kubernetes.io/version", "app.kubernetes.io/managed-by"} <= labels.keys()


def test_names_stay_within_63_characters_for_the_longest_release_name(chart: Chart) -> None:
    for name, values in product(("r" * 53, "r" * 52 + "-x"[1:]), ({}, REPLICATED)):
        rendered = chart.render(values, name=name)
        names = [each["metadata"]["name"] for each in (*rendered.objects, *rendered.hooks)]
        assert max(map(len, names)) <= 63
        assert not [each for each in names if each.endswith("-") or "--" in each]


def test_two_releases_never_select_each_others_pods(chart: Chart) -> None:
    first, second = chart.render(name="one"), chart.render(name="two")
    for kind in ("Deployment", "Service"):
        selectors = []
        for rendered in (first, second):
            spec = rendered.of(kind)["spec"]["selector"]
            selectors.append(spec.get("matchLabels", spec).items())
        labels = second.of("Deployment")["spec"]["template"]["metadata"]["labels"].items()
        assert not selectors[0] <= labels
        assert selectors[1] <= labels


def test_the_test_pod_is_nobodys_endpoint(defaults: Rendered) -> None:
    selector = defaults.of("Service")["spec"]["selector"].items()
    (hook,) = defaults.hooks
    assert hook["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert not selector <= hook["metadata"]["labels"].items()


def test_no_version_stands_in_a_selector_or_restarts_the_pod(defaults: Rendered) -> None:
    template = defaults.of("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert set(template) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
    }


def test_images_carry_a_version_and_never_latest(chart: Chart, everything: Rendered) -> None:
    gpu = chart.render(example("gpu"))
    images = {each["name"]: each["image"] for each in containers(gpu.pod)}
    assert images == {
        "base": "wardrobe-trainer:0.1.0-gpu",
        "service": "wardrobe-service:0.1.0-gpu",
        "trainer": "wardrobe-trainer:0.1.0-gpu",
    }
    digest = "sha256:" + "a" * 64
    expected = f"registry.example:5000/wardrobe-service:0.1.0-gpu@{digest}"
    assert everything.container("service")["image"] == expected


def test_the_pod_is_the_service_and_its_trainer_on_one_volume(defaults: Rendered) -> None:
    assert [each["name"] for each in containers(defaults.pod)] == list(CONTAINERS)
    claims = {
        each["name"]: each["persistentVolumeClaim"]["claimName"]
        for each in defaults.pod["volumes"]
        if "persistentVolumeClaim" in each
    }
    assert claims == {"state": "demo-wardrobe-state", "cache": "demo-wardrobe-cache"}
    for name in CONTAINERS:
        mounts = {each["mountPath"] for each in defaults.container(name)["volumeMounts"]}
        assert {"/var/lib/wardrobe", "/var/cache/wardrobe", "/etc/wardrobe/units"} <= mounts


def test_the_registry_never_has_two_pods(everything: Rendered) -> None:
    spec = everything.of("Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_claims_of_your_own_take_the_place_of_the_charts(chart: Chart) -> None:
    own = chart.render({"state": {"existingClaim": "mine"}, "cache": {"existingClaim": "too"}})
    assert "PersistentVolumeClaim" not in own.kinds()
    claims = [
        each["persistentVolumeClaim"]["claimName"]
        for each in own.pod["volumes"]
        if "persistentVolumeClaim" in each
    ]
    assert claims == ["mine", "too"]


def test_the_state_outlives_the_release_unless_told_otherwise(chart: Chart) -> None:
    kept = chart.render().of("PersistentVolumeClaim", "-state")["metadata"]
    assert kept["annotations"] == {"helm.sh/resource-policy": "keep"}
    loose = chart.render({"state": {"keep": False}}).of("PersistentVolumeClaim", "-state")
    assert "annotations" not in loose["metadata"]


def test_a_cache_that_is_not_persistent_is_said_to_be_so(chart: Chart) -> None:
    rendered = chart.render({"cache": {"persistent": False}})
    (cache,) = [each for each in rendered.pod["volumes"] if each["name"] == "cache"]
    assert cache["emptyDir"] == {}
    assert "The cache is not persistent" in rendered.notes
