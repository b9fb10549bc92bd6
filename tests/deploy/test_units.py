"""Units in the chart: files the product reads, changed without touching the pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.domain.units import load_units
from tests.deploy.chart import EVERYTHING, REPLICATED, Chart, Rendered, Values, containers

FINANCE = {
    "finance": {
        "display_name": "Finance",
        "aliases": ["finance", "invoices"],
        "recipe": {"rank": 32},
        "gates": {"promote": "manual"},
        "limits": {"max_concurrent_requests": 8},
    }
}


def test_the_product_reads_the_files_the_chart_writes(chart: Chart, tmp_path: Path) -> None:
    data = chart.render({"units": FINANCE}).of("ConfigMap")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text, "utf-8")
    units = load_units(tmp_path)
    assert set(units.by_name) == {"support", "sales", "hr", "finance"}
    finance = units.get("finance")
    assert finance.aliases == ("finance", "invoices")
    assert (finance.recipe.rank, finance.gates.promote) == (32, "manual")
    assert finance.limits.max_concurrent_requests == 8


def test_a_changed_unit_changes_the_config_map_and_nothing_else(
    chart: Chart, defaults: Rendered
) -> None:
    changed = chart.render({"units": {"support": {"gates": {"min_gain": 0.1}}}})
    pairs = zip(defaults.objects, changed.objects, strict=True)
    assert [new["kind"] for old, new in pairs if old != new] == ["ConfigMap"]


def test_no_checksum_restarts_the_pod_and_no_sub_path_hides_the_change(
    everything: Rendered,
) -> None:
    template = everything.of("Deployment")["spec"]["template"]
    assert not [key for key in template["metadata"]["annotations"] if "checksum" in key]
    for name in ("service", "trainer"):
        (mount,) = mounts_of(everything, name)
        assert mount.keys() == {"name", "mountPath", "readOnly"}


def mounts_of(rendered: Rendered, container: str) -> list[dict[str, Any]]:
    """Where its units lie."""
    mounts = rendered.container(container)["volumeMounts"]
    return [each for each in mounts if each["mountPath"].startswith("/etc/wardrobe/units")]


@pytest.mark.parametrize("values", [EVERYTHING, REPLICATED], ids=["one pod", "several pods"])
def test_the_trainer_alone_sees_the_directories_beside_the_units_files(
    chart: Chart, values: Values
) -> None:
    rendered = chart.render(values)
    assert values["directories"] == {"existingSecrets": ["wardrobe-people"]}
    for name in ("base", "service"):
        assert [each["name"] for each in mounts_of(rendered, name)] == ["units"]
    (mount,) = mounts_of(rendered, "trainer")
    assert mount == {"name": "trainer-units", "mountPath": "/etc/wardrobe/units", "readOnly": True}
    trainers = [pod for pod in rendered.pods if "trainer" in {c["name"] for c in containers(pod)}]
    (projected,) = [
        each["projected"] for each in trainers[0]["volumes"] if each["name"] == "trainer-units"
    ]
    assert projected == {
        "defaultMode": 0o440,
        "sources": [
            {"secret": {"name": "wardrobe-people"}},
            {"configMap": {"name": "demo-wardrobe-units"}},
        ],
    }
    for pod in rendered.pods:
        if pod is not trainers[0]:
            assert "trainer-units" not in {each["name"] for each in pod["volumes"]}


def test_without_directories_the_trainer_has_the_units_as_the_service_has_them(
    defaults: Rendered,
) -> None:
    assert mounts_of(defaults, "trainer") == mounts_of(defaults, "service")
    assert "trainer-units" not in {each["name"] for each in defaults.pod["volumes"]}


def test_a_unit_whose_directory_is_in_no_secret_is_refused(chart: Chart) -> None:
    unit = {"units": {"hr": {"aliases": ["hr"], "data": {"directories": ["hr-staff.csv"]}}}}
    assert "units.hr.data.directories names hr-staff.csv: set" in chart.refusal(unit)
    chart.render(unit | {"directories": {"existingSecrets": ["wardrobe-people"]}})


def test_a_unit_can_be_taken_out(chart: Chart) -> None:
    data = chart.render({"units": {"hr": None}}).of("ConfigMap")["data"]
    assert set(data) == {"support.yaml", "sales.yaml"}


@pytest.mark.parametrize("odd", ["yes", "0x10", "a: b", "- c", "'", "ünï"])
def test_no_text_of_a_unit_can_break_out_of_its_file(chart: Chart, odd: str) -> None:
    values: dict[str, Any] = {"units": {"support": {"display_name": odd}}}
    data = chart.render(values).of("ConfigMap")["data"]
    assert yaml.safe_load(data["support.yaml"]) == {
        "unit": "support",
        "display_name": odd,
        "aliases": ["support"],
    }
