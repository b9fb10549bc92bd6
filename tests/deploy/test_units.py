"""Units in the chart: files the product reads, changed without touching the pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.domain.units import load_units
from tests.deploy.chart import Chart, Rendered

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
        (mount,) = [
            each for each in everything.container(name)["volumeMounts"] if each["name"] == "units"
        ]
        assert mount == {"name": "units", "mountPath": "/etc/wardrobe/units", "readOnly": True}


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
