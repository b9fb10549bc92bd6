"""The chart as the tests see it: rendered by the real Helm library, as objects.

Helm's Go runtime lives in this process once it was called: a forked child that calls it hangs, so
nothing here may be used from a process started by fork.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.deploy.cluster import kubeconfig

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "wardrobe"
CONTAINERS = ("base", "service", "trainer")
Values = dict[str, Any]
Object = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """What one `helm install` would create, its test hook and notes included."""

    objects: tuple[Object, ...]
    hooks: tuple[Object, ...]
    notes: str

    def of(self, kind: str, suffix: str = "") -> Object:
        """The one object of a kind whose name ends so."""
        (found,) = [
            each
            for each in self.objects
            if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)
        ]
        return found

    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.objects]

    def deployment(self, component: str = "service") -> Object:
        """The Deployment of the pods that answer, or of the trainer's where it has its own."""
        (found,) = [
            each
            for each in self.objects
            if each["kind"] == "Deployment"
            and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
        ]
        return found

    @property
    def pod(self) -> Object:
        """The spec of the pod that answers."""
        spec: Object = self.deployment()["spec"]["template"]["spec"]
        return spec

    @property
    def pods(self) -> list[Object]:
        """The specs of all pods, the one that answers first."""
        templates = [
            each["spec"]["template"] for each in self.objects if each["kind"] == "Deployment"
        ]
        specs = [template["spec"] for template in templates]
        return sorted(specs, key=lambda spec: spec != self.pod)

    def container(self, name: str) -> Object:
        """The first container of that name, the preparing ones included."""
        found = [each for pod in self.pods for each in containers(pod) if each["name"] == name]
        return found[0]

    def environment(self, container: str) -> dict[str, str]:
        """Its literal variables."""
        env = self.container(container)["env"]
        return {each["name"]: each["value"] for each in env if "value" in each}


class Chart:
    """Renders the chart; loads it anew each time, because Helm's handle is not immutable."""

    def __init__(self) -> None:
        self.helm = pytest.importorskip(
            "helm_python", reason="helm-python-sdk is not installed (Linux x86_64 only)"
        )

    def render(
        self,
        values: Values | None = None,
        *,
        name: str = "demo",
        namespace: str = "prod",
        config: str | None = None,
    ) -> Rendered:
        """As `helm install --dry-run`. Raises HelmError where Helm, schema or chart refuse.

        `config` is the kubeconfig of a `cluster()`; without one, nothing is contacted and Helm's
        own newest capabilities hold.
        """
        where = config or kubeconfig("http://127.0.0.1:1")
        with (
            TemporaryDirectory() as elsewhere,
            chdir(elsewhere),  # what Helm discovers it keeps in a .kube of the working directory
            self.helm.Chart.load(str(CHART)) as chart,
            self.helm.Config(
                kubeconfig_content=where, namespace=namespace, storage_driver="memory"
            ) as helm,
        ):
            dry_run = "server" if config else "client"
            release = helm.install(chart, name, values, dry_run=dry_run)
        with self.helm.Chart.load(str(CHART)) as chart:
            files = chart.render(values, name=name, namespace=namespace)
        hooks = [text for path, text in files.items() if "/templates/tests/" in path]
        return Rendered(
            objects=tuple(documents(release["manifest"])),
            hooks=tuple(each for text in hooks for each in documents(text)),
            notes=release["notes"],
        )

    def refusal(self, values: Values, *, config: str | None = None) -> str:
        """Why these values are refused; fails the test when they are not."""
        with pytest.raises(self.helm.HelmError) as refused:
            self.render(values, config=config)
        return str(refused.value)

    def lint(self, values: Values) -> list[Object]:
        """Findings above the level of advice."""
        report = self.helm.lint(str(CHART), values, strict=True)
        return [each for each in report["messages"] if each["severity"] >= 2]


def documents(text: str) -> Iterator[Object]:
    """The YAML documents of a manifest; a key that stands twice is an error."""
    yield from (each for each in yaml.load_all(text, Loader=_Strict) if each)


class _Strict(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys; Kubernetes' parser refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
        return super().construct_mapping(node, deep)


def containers(pod: Object) -> list[Object]:
    """Every container of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def default_values() -> Values:
    """values.yaml as it stands."""
    values: Values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return values


def example(name: str) -> Values:
    """One of the example files beside values.yaml; an empty name is the defaults."""
    if not name:
        return {}
    values: Values = yaml.safe_load((CHART / f"values-{name}.yaml").read_text("utf-8"))
    return values


EVERYTHING: Values = {
    "base": {"model": "Qwen/Qwen3-8B", "tokenSecret": "hub"},
    "engine": {
        "kind": "gpu",
        "args": ["--gpu-memory-utilization", "0.9", "--override", '{"a": 1}'],
    },
    "service": {
        "image": {"registry": "registry.example:5000", "digest": "sha256:" + "a" * 64},
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    },
    "imagePullSecrets": ["pull"],
    "adminKey": {"existingSecret": "wardrobe-admin"},
    "trainerKey": {"existingSecret": "wardrobe-trainer"},
    "metricsKey": {"existingSecret": "wardrobe-metrics"},
    "state": {"storageClass": "fast", "accessModes": ["ReadWriteOncePod"]},
    "cache": {"storageClass": "slow"},
    "expose": {"annotations": {"example.com/a": "b"}},
    "tls": {"existingSecret": "wardrobe-tls", "authorityKey": "ca.crt"},
    "serviceAccount": {"name": "costumes", "annotations": {"example.com/a": "b"}},
    "networkPolicy": {"namespaces": ["apps", "monitoring"]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"example.com/a": "b"},
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {}},
    "extraEnv": [{"name": "WARDROBE_LOG_LEVEL", "value": "debug"}],
    "signingKey": {"existingSecret": "wardrobe-signing"},
    "trustedKeys": {"existingConfigMap": "wardrobe-trusted"},
    "directories": {"existingSecrets": ["wardrobe-people"]},
    "extraVolumes": [{"name": "models", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
}
"""Every optional thing of one pod switched on."""

REPLICATED: Values = EVERYTHING | {
    "replicas": 3,
    "database": {"existingSecret": "wardrobe-database", "port": 6432},
    "artifacts": {
        "url": "s3://wardrobe/artifacts",
        "endpoint": "http://storage.example:9000",
        "region": "eu-central-1",
        "existingSecret": "wardrobe-storage",
        "port": 9000,
    },
    "unitKeys": {"existingSecret": "wardrobe-units"},
    "pepper": {"existingSecret": "wardrobe-pepper"},
    "cache": {"storageClass": "shared", "accessModes": ["ReadWriteMany"]},
}
"""The same of several pods."""
