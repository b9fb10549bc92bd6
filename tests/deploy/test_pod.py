"""The pod: its rights, its mounts, its probes, and the arithmetic of starting and stopping."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.units import UnitLimits
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from service.api.upload_places import MAX_UPLOADS
from service.launch.launcher import ENGINE_STOP_SECONDS
from tests.deploy.chart import (
    CONTAINERS,
    EVERYTHING,
    REPLICATED,
    Chart,
    Object,
    Rendered,
    containers,
    example,
)
from tests.deploy.cluster import cluster


def _pods(rendered: Rendered) -> list[Object]:
    return [*rendered.pods, *(each["spec"] for each in rendered.hooks)]


@pytest.fixture(params=["defaults", "everything", "replicated"])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    found: Rendered = request.getfixturevalue(request.param)
    return found


def test_every_container_meets_the_restricted_profile(rendered: Rendered) -> None:
    for pod in _pods(rendered):
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        for each in containers(pod):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert not [port for port in each.get("ports", []) if "hostPort" in port]
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
        assert {key for each in pod.get("volumes", []) for key in each} <= {"name"} | allowed


def test_key_files_are_not_opened_to_the_group_at_every_mount(defaults: Rendered) -> None:
    context = defaults.pod["securityContext"]
    assert context["fsGroup"] == 10001
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"


def test_nothing_of_the_cluster_reaches_the_environment(rendered: Rendered) -> None:
    assert all(pod["enableServiceLinks"] is False for pod in _pods(rendered))
    if "ServiceAccount" in rendered.kinds():
        assert rendered.of("ServiceAccount")["automountServiceAccountToken"] is False


def test_each_mount_has_its_volume_and_each_volume_its_mount(rendered: Rendered) -> None:
    for pod in rendered.pods:
        volumes = [each["name"] for each in pod["volumes"]]
        mounted = [mount for each in containers(pod) for mount in each["volumeMounts"]]
        assert len(volumes) == len(set(volumes))
        assert {each["name"] for each in mounted} == set(volumes)
        for each in containers(pod):
            paths = [mount["mountPath"] for mount in each["volumeMounts"]]
            assert len(paths) == len(set(paths))
            assert "/tmp" in paths, "the root file system is read-only"


def test_what_is_written_lies_on_a_writable_volume(rendered: Rendered) -> None:
    for name in CONTAINERS:
        writable = [
            each["mountPath"]
            for each in rendered.container(name)["volumeMounts"]
            if not each.get("readOnly")
        ]
        env = rendered.environment(name)
        for variable in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "WARDROBE_STATE", "WARDROBE_CACHE"):
            assert any(env[variable].startswith(path) for path in writable), variable


def test_shared_memory_is_bounded_and_within_the_memory_limit(rendered: Rendered) -> None:
    (shm,) = [each for each in rendered.pod["volumes"] if each["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert rendered.container("service")["resources"]["limits"]["memory"] == "8Gi"


def test_a_trainer_of_several_gpus_is_told_so_and_has_shared_memory_of_its_own(
    chart: Chart,
) -> None:
    for values in ({}, REPLICATED):
        rendered = chart.render({**values, "trainer": {"devices": 4}})
        assert rendered.environment("trainer")["WARDROBE_TRAIN_DEVICES"] == "4"
        (mount,) = [
            each
            for each in rendered.container("trainer")["volumeMounts"]
            if each["mountPath"] == "/dev/shm"
        ]
        component = "trainer" if values else "service"
        pod = rendered.deployment(component)["spec"]["template"]["spec"]
        (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
        assert volume["emptyDir"]["medium"] == "Memory"


def test_probes_ask_our_endpoints_on_a_port_that_exists(rendered: Rendered) -> None:
    service = rendered.container("service")
    probes = {kind: service[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    ports = {each["name"] for each in service["ports"]}
    assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} <= ports
    assert rendered.of("Service")["spec"]["ports"][0]["targetPort"] in ports
    policy = rendered.of("NetworkPolicy", "-wardrobe")["spec"]["ingress"][0]
    assert policy["ports"][0]["port"] in ports


def test_temporary_files_have_room_for_the_uploads_in_flight_and_a_bound(
    rendered: Rendered,
) -> None:
    (tmp,) = [each for each in rendered.pod["volumes"] if each["name"] == "tmp"]
    size = tmp["emptyDir"]["sizeLimit"]
    assert size.endswith("Gi")
    assert int(size.removesuffix("Gi")) * 1024**3 > MAX_UPLOADS * UnitLimits().max_file_bytes


@pytest.mark.parametrize("seconds", [30, 301, 1200])
def test_the_startup_probe_allows_the_time_a_model_needs(chart: Chart, seconds: int) -> None:
    rendered = chart.render({"service": {"startupSeconds": seconds}})
    probe = rendered.container("service")["startupProbe"]
    allowed = probe["periodSeconds"] * probe["failureThreshold"]
    assert seconds <= allowed < seconds + probe["periodSeconds"]
    build = chart.render().of("Deployment")["spec"]["progressDeadlineSeconds"]
    deadline = rendered.of("Deployment")["spec"]["progressDeadlineSeconds"]
    assert deadline > allowed + 600
    assert deadline - build == seconds - 600


@pytest.mark.parametrize(("pre_stop", "drain"), [(5, 120), (1, 1), (300, 3600)])
def test_the_grace_period_covers_the_drain(chart: Chart, pre_stop: int, drain: int) -> None:
    values = {"service": {"preStopSeconds": pre_stop, "drainSeconds": drain}}
    rendered = chart.render(values)
    service = rendered.container("service")
    sleep = service["lifecycle"]["preStop"]["sleep"]["seconds"]
    told = int(rendered.environment("service")["WARDROBE_DRAIN_SECONDS"])
    assert (sleep, told) == (pre_stop, drain)
    assert rendered.pod["terminationGracePeriodSeconds"] > sleep + told + ENGINE_STOP_SECONDS


@pytest.mark.parametrize(
    ("version", "handler"),
    [
        ("v1.28.9", {"exec": {"command": ["sleep", "5"]}}),
        ("v1.29.15", {"exec": {"command": ["sleep", "5"]}}),
        ("v1.30.0", {"sleep": {"seconds": 5}}),
        ("v1.34.1-gke.100", {"sleep": {"seconds": 5}}),
    ],
)
def test_the_pause_before_the_stop_is_one_the_cluster_knows(
    chart: Chart, version: str, handler: Any
) -> None:
    with cluster(version=version, monitoring=False) as config:
        rendered = chart.render(config=config)
    assert rendered.container("service")["lifecycle"]["preStop"] == handler


@pytest.mark.parametrize("name", ["", "embedded", "gpu", "replicas", "everything", "replicated"])
def test_the_product_accepts_every_setting_the_chart_gives_it(
    chart: Chart, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = {"everything": EVERYTHING, "replicated": REPLICATED}
    rendered = chart.render(whole.get(name) or example(name))
    fields = {f"WARDROBE_{field.upper()}" for field in Settings.model_fields}
    for container in CONTAINERS:
        given = rendered.environment(container)
        named = {each["name"] for each in rendered.container(container)["env"]}
        assert {each for each in named if each.startswith("WARDROBE_")} <= fields
        with monkeypatch.context() as environment:
            for key, value in given.items():
                environment.setenv(key, value)
            settings = Settings()
        assert str(settings.state) == "/var/lib/wardrobe"
        assert settings.max_lora_rank == int(given["WARDROBE_MAX_LORA_RANK"])


def test_no_variable_is_set_twice(rendered: Rendered) -> None:
    for each in (each for pod in rendered.pods for each in containers(pod)):
        names = [variable["name"] for variable in each["env"]]
        assert len(names) == len(set(names))


def test_engine_arguments_arrive_word_by_word(everything: Rendered) -> None:
    given = everything.environment("service")["WARDROBE_ENGINE_ARGS"]
    assert shlex.split(given) == EVERYTHING["engine"]["args"]


def test_secrets_go_only_where_they_are_needed(everything: Rendered) -> None:
    secret = {
        (name, each["name"])
        for name in CONTAINERS
        for each in everything.container(name)["env"]
        if "valueFrom" in each
    }
    assert secret == {("base", "HF_TOKEN")}


def _secrets_mounted(rendered: Rendered, container: str) -> dict[str, str]:
    """Where a container finds a key → `Secret/key`."""
    volumes = {each["name"]: each.get("secret") for each in rendered.pod["volumes"]}
    return {
        f"{mount['mountPath']}/{item['path']}": f"{secret['secretName']}/{item['key']}"
        for mount in rendered.container(container)["volumeMounts"]
        if (secret := volumes[mount["name"]])
        for item in secret["items"]
    }


def test_the_trainer_is_given_its_own_key_and_never_the_admins(everything: Rendered) -> None:
    admin = {
        "/etc/wardrobe/admin-key/key": "wardrobe-admin/admin-key",
        "/etc/wardrobe/metrics-key/key": "wardrobe-metrics/metrics-key",
    }
    trainer = {
        "/etc/wardrobe/trainer-key/key": "wardrobe-trainer/trainer-key",
        "/etc/wardrobe/signing-key/key": "wardrobe-signing/signing.pem",
    }
    pair = {f"/etc/wardrobe/tls/{name}": f"wardrobe-tls/{name}" for name in ("tls.crt", "tls.key")}
    authority = {"/etc/wardrobe/authority/ca.crt": "wardrobe-tls/ca.crt"}
    assert _secrets_mounted(everything, "base") == {}
    assert _secrets_mounted(everything, "service") == admin | trainer | pair | authority
    assert _secrets_mounted(everything, "trainer") == trainer | authority
    settings = ("_KEY_FILE", "_TLS_CERT", "_TLS_KEY", "_SERVICE_CA")
    for container in ("service", "trainer"):
        given = everything.environment(container)
        named = {value for name, value in given.items() if name.endswith(settings)}
        assert named == set(_secrets_mounted(everything, container))


def test_only_the_pods_own_user_and_group_read_a_mounted_key(everything: Rendered) -> None:
    secrets = [each["secret"] for each in everything.pod["volumes"] if "secret" in each]
    assert [each["defaultMode"] for each in secrets] == [0o440] * 6


def test_without_secrets_no_key_is_brought(defaults: Rendered) -> None:
    for container in CONTAINERS:
        assert _secrets_mounted(defaults, container) == {}
        named = {*defaults.environment(container)} - {"WARDROBE_KEY_TRUST_SECONDS"}  # a time
        assert not [name for name in named if "_KEY" in name]


def test_the_engines_sockets_are_on_no_claim(rendered: Rendered) -> None:
    state = StateFolder(Path(rendered.environment("service")["WARDROBE_STATE"]))
    mounts = rendered.container("service")["volumeMounts"]
    (mount,) = [each for each in mounts if each["mountPath"] == str(state.temporary)]
    (volume,) = [each for each in rendered.pod["volumes"] if each["name"] == mount["name"]]
    assert "emptyDir" in volume


def test_only_the_container_that_prepares_the_base_may_ask_the_hub(rendered: Rendered) -> None:
    asking = [name for name in CONTAINERS if "HF_HUB_OFFLINE" not in rendered.environment(name)]
    assert asking == ["base"]


def test_the_gpu_example_gives_the_service_and_the_trainer_one_each(chart: Chart) -> None:
    rendered = chart.render(example("gpu"))
    for name in ("service", "trainer"):
        resources = rendered.container(name)["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == "1"
        assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert rendered.environment("service")["WARDROBE_ENGINE"] == "gpu"
