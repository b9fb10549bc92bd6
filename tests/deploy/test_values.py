"""Values: each does something, each is documented, wrong ones are refused in plain words."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.helm import readme, schema
from tests.deploy.chart import CHART, EVERYTHING, REPLICATED, Chart, Values, default_values

Path = tuple[str, ...]


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path, node


def _with(values: Values, path: Path, leaf: Any) -> Values:
    changed = copy.deepcopy(values)
    node = changed
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = leaf
    return changed


def _merged(base: Any, over: Any) -> Any:
    """As Helm lays values over defaults."""
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merged(base.get(key), value) for key, value in over.items()}
    return over


OTHER: dict[Path, Any] = {
    ("existingSecrets",): ["other"],
    ("accessModes",): ["ReadWriteMany"],
    ("nodeAffinity",): {"requiredDuringSchedulingIgnoredDuringExecution": {}},
    ("aliases",): ["other"],
    ("args",): ["--seed", "2"],
    ("digest",): "sha256:" + "b" * 64,
    ("endpoint",): "https://other.example",
    ("onRegistryLoss",): "stop",
    ("url",): "gs://other",
    ("extraEnv",): [{"name": "OTHER", "value": "1"}],
    ("extraVolumeMounts",): [],
    ("extraVolumes",): [{"name": "models", "secret": {"secretName": "s"}}],
    ("imagePullSecrets",): ["other"],
    ("interval",): "45s",
    ("scrapeTimeout",): "7s",
    ("kind",): "cpu",
    ("maxLoraRank",): 128,
    ("memory",): "9Gi",
    ("model",): "other/model",
    ("namespaces",): ["others"],
    ("pullPolicy",): "Always",
    ("sharedMemory",): "2Gi",
    ("temporarySpace",): "2Gi",
    ("size",): "77Gi",
    ("tolerations",): [],
    ("type",): "NodePort",
}
"""Another legal value where the kind of value does not say one."""


def _other(path: Path, leaf: Any) -> Any:
    if (found := OTHER.get(path[-1:])) is not None:
        return found
    match leaf:
        case bool():
            return not leaf
        case int():
            return leaf + 2
        case str():
            return "7" if leaf.isdigit() else "other"
        case dict():
            return {"other": "1"}
    raise AssertionError(f"no other value for {path}")


LEAVES = dict(_leaves(_merged(default_values(), EVERYTHING)))
OF_THE_OPERATOR = {"serviceMonitor", "podMonitor", "prometheusRule", "metricsKey"}
"""Values that the operator's kinds show."""
OF_SEVERAL = {"replicas", "database", "artifacts", "unitKeys", "pepper"}
"""Values that mean something where there are several pods."""


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_value_changes_what_is_rendered(chart: Chart, monitored: str, path: Path) -> None:
    # asking a cluster takes Helm most of a second: only what the operator's kinds show needs one
    config = monitored if path[0] in OF_THE_OPERATOR else None
    values = REPLICATED if path[0] in OF_SEVERAL else EVERYTHING
    leaf = dict(_leaves(_merged(default_values(), values)))[path]
    before = chart.render(values, config=config)
    after = chart.render(_with(values, path, _other(path, leaf)), config=config)
    assert (before.objects, before.hooks) != (after.objects, after.hooks)


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_every_value_refuses_another_type(chart: Chart, path: Path) -> None:
    leaf = LEAVES[path]
    wrong = 3.5 if isinstance(leaf, str | list | dict) else "wrong"
    assert f"at '/{path[0]}" in chart.refusal(_with({}, path, wrong))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 2}, "replicas is 2, but the registry is one SQLite file on one volume"),
        ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
        ({"artifacts": {"url": "file:///x"}}, "at '/artifacts/url'"),
        ({"base": {"model": "store:abc"}}, "at '/base/model'"),
        ({"base": {"model": f"store:{'a' * 64}"}}, "set artifacts.url"),
        ({"service": {"onRegistryLoss": "wait"}}, "must be one of 'keep', 'stop'"),
        ({"service": {"replicas": 2}}, "additional properties 'replicas' not allowed"),
        ({"engine": {"kind": "tpu"}}, "at '/engine/kind': value must be one of 'cpu', 'gpu'"),
        ({"engine": {"maxLoras": "8"}}, "at '/engine/maxLoras': got string, want integer"),
        ({"engine": {"maxLoraRank": 24}}, "at '/engine/maxLoraRank': value must be one of"),
        ({"engine": {"maxLoras": 1}}, "at '/engine/maxLoras': minimum: got 1, want 2"),
        ({"units": {"Support": {"aliases": ["a"]}}}, "'Support' not allowed"),
        ({"units": {"it": {}}}, "at '/units/it': missing property 'aliases'"),
        ({"units": {"it": {"aliases": ["it"], "gate": {}}}}, "'gate' not allowed"),
        ({"units": {"it": {"aliases": ["IT"]}}}, "at '/units/it/aliases/0'"),
        ({"base": {"model": "../secrets"}}, "at '/base/model'"),
        ({"service": {"image": {"tag": "latest"}}}, "at '/service/image/tag'"),
        ({"service": {"image": {"digest": "sha256:1"}}}, "at '/service/image/digest'"),
        ({"state": {"size": "many"}}, "at '/state/size'"),
        ({"expose": {"port": 70000}}, "at '/expose/port': maximum: got 70,000, want 65,535"),
        (
            {"podLabels": {"app.kubernetes.io/name": "x"}},
            "invalid propertyName 'app.kubernetes.io/name'",
        ),
        (
            {"extraEnv": [{"name": "WARDROBE_STATE", "value": "/x"}]},
            "at '/extraEnv/0/name'",
        ),
        ({"extraVolumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "at '/extraVolumes/0"),
        (
            {"units": {"it": {"aliases": ["hr"]}}},
            "units.it.aliases: an alias of unit hr stands here again",
        ),
        (
            {"engine": {"maxLoras": 2, "maxCpuLoras": 3}},
            "engine.maxCpuLoras is 3, but 3 aliases need at least 4",
        ),
        (
            {"engine": {"maxLoras": 16, "maxCpuLoras": 8}},
            "engine.maxCpuLoras (8) must not be below engine.maxLoras (16)",
        ),
        ({"engine": {"kind": "gpu"}}, "service.resources.limits names no device"),
        ({"serviceMonitor": {"enabled": True}}, "needs metricsKey.existingSecret"),
        (
            {
                "adminKey": {"existingSecret": "one", "key": "key"},
                "metricsKey": {"existingSecret": "one", "key": "key"},
            },
            "metricsKey names the same key as adminKey",
        ),
        (
            {
                "adminKey": {"existingSecret": "one", "key": "key"},
                "trainerKey": {"existingSecret": "one", "key": "key"},
            },
            "the trainer needs a key of its own",
        ),
    ],
)
def test_wrong_values_are_refused_in_plain_words(
    chart: Chart, values: Values, message: str
) -> None:
    assert message in chart.refusal(values)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ({"artifacts": {"url": ""}}, "needs artifacts.url"),
        ({"adminKey": {"existingSecret": ""}}, "needs adminKey.existingSecret"),
        ({"trainerKey": {"existingSecret": ""}}, "needs trainerKey.existingSecret"),
        ({"pepper": {"existingSecret": ""}}, "needs pepper.existingSecret"),
        ({"base": {"model": ""}}, "the embedded base is not the same to the last bit"),
        ({"cache": {"accessModes": ["ReadWriteOnce"]}}, "several pods use the cache"),
        ({"database": {"existingSecret": ""}}, "set database.existingSecret"),
    ],
)
def test_what_several_pods_need_is_asked_for_in_plain_words(
    chart: Chart, left_out: Values, message: str
) -> None:
    assert message in chart.refusal(_merged(REPLICATED, left_out))


def test_the_schema_leaves_no_object_open() -> None:
    written = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    kubernetes = {"affinity", "extraVolumes", "valueFrom"}
    assert list(_open(written, kubernetes)) == []


def _open(node: Any, passed_through: set[str], path: Path = ()) -> Iterator[str]:
    """Paths of objects that take any key, but those Kubernetes itself defines."""
    if passed_through & set(path):
        return
    if isinstance(node, dict):
        if node.get("type") == "object" and "additionalProperties" not in node:
            yield "/".join(path)
        for key, value in node.items():
            yield from _open(value, passed_through, (*path, key))
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield from _open(value, passed_through, (*path, str(number)))


def test_the_variables_of_the_chart_cannot_be_set_twice(chart: Chart, monitored: str) -> None:
    rendered = [
        chart.render({**values, "extraEnv": []}, config=monitored)
        for values in (EVERYTHING, REPLICATED)
    ]
    written = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    kept = written["properties"]["extraEnv"]["items"]["properties"]["name"]["not"]["enum"]
    named = {
        each["name"]
        for container in ("base", "service", "trainer")
        for made in rendered
        for each in made.container(container)["env"]
    }
    # and no key of somebody else's reaches every container by a variable
    roles = ("ADMIN", "TRAINER", "METRICS")
    keys = {"WARDROBE_KEY", "WARDROBE_PEPPER", *(f"WARDROBE_{role}_KEY" for role in roles)}
    assert named | keys == set(kept)


def test_the_schema_holds_the_units_format_as_it_is_today() -> None:
    written = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert written == schema.with_unit(written), "run: python deploy/helm/schema.py"


def test_the_readme_holds_the_values_as_they_are_today() -> None:
    page = (CHART / "README.md").read_text("utf-8")
    values = (CHART / "values.yaml").read_text("utf-8")
    assert page == readme.with_table(page, values), "run: python deploy/helm/readme.py"


def test_a_value_without_a_comment_is_named() -> None:
    with pytest.raises(readme.Undocumented, match=r"engine\.kind has no"):
        readme.table("# -- A name.\nname: a\nengine:\n  kind: cpu\n")


def test_a_comment_of_two_lines_stands_in_one_row() -> None:
    page = readme.table("engine:\n  # -- What it\n  # runs | on.\n  kind: cpu\n")
    assert page.splitlines()[-1] == '| `engine.kind` | `"cpu"` | What it runs \\| on. |'
