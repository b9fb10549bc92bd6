"""The alerts: what they say, and that the metrics they ask exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from typer.main import get_command

from service.cli.app import app
from service.metrics import Metrics
from tests.deploy.chart import CHART, Chart
from tests.docs.pages import ROOT
from training.worker.metrics import METRICS as TRAINERS

RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
RUNBOOK = ROOT / "docs" / "runbook.md"
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))


@pytest.fixture
def promtool() -> str:
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return binary


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.stem)
def test_an_alert_asks_only_metrics_that_the_service_or_the_trainer_shows(rules: Path) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    shown = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in registry.collect()
    } | set(TRAINERS)
    groups = yaml.safe_load(rules.read_text("utf-8"))["groups"]
    asked = {
        name
        for group in groups
        for rule in group["rules"]
        for name in re.findall(r"wardrobe_[a-z_]+", rule["expr"])
    }
    assert asked
    assert asked <= shown


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.stem)
def test_an_alert_names_only_commands_that_there_are(rules: Path) -> None:
    named = re.findall(r"`wardrobe ([^`]+)`", rules.read_text("utf-8"))
    assert named
    for words in map(str.split, named):
        command: Any = get_command(app)
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), words
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() -> None:
    alerts = {
        rule["alert"]: rule["annotations"]["runbook_url"]
        for rules in RULES
        for group in yaml.safe_load(rules.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    }
    sections = re.split(r"(?m)^## ", RUNBOOK.read_text("utf-8"))[1:]
    assert alerts == {
        name: f"docs/runbook.md#{name.lower()}" for name in (each.split()[0] for each in sections)
    }
    for section in sections:
        for word in ("**Means**", "**Look**", "**Do**"):
            assert section.count(word) == 1, (section.split()[0], word)


def test_an_alert_points_to_where_the_runbook_is_read(chart: Chart, monitored: str) -> None:
    where = "https://wiki.example/wardrobe/runbook"
    values = {"prometheusRule": {"enabled": True, "runbook": where}}
    rendered = chart.render(values, config=monitored)
    rules = [
        rule for group in rendered.of("PrometheusRule")["spec"]["groups"] for rule in group["rules"]
    ]
    assert rules
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"{where}#{rule['alert'].lower()}"


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.stem)
def test_promtool_finds_nothing_in_the_rules(promtool: str, rules: Path) -> None:
    assert _run(promtool, "check", "rules", "--lint-fatal", rules) == 0


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_before(promtool: str, tests: Path) -> None:
    assert _run(promtool, "test", "rules", tests) == 0


def test_promtool_would_find_an_alert_that_fires_at_another_time(
    promtool: str, tmp_path: Path
) -> None:
    (tests,) = TESTS
    (rules,) = RULES
    text = tests.read_text("utf-8").replace("eval_time: 5m", "eval_time: 2m")
    named = re.sub(r"(?m)^  - \.\./.*$", f"  - {rules}", text)
    (tmp_path / "broken.yaml").write_text(named)
    assert _run(promtool, "test", "rules", tmp_path / "broken.yaml") != 0


def _run(promtool: str, *words: str | Path) -> int:
    done = subprocess.run(
        [promtool, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    print(done.stdout, done.stderr)
    return done.returncode
