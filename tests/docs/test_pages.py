"""What the pages name is there: files, modules, commands, settings, metrics; and no old word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.main import get_command

from adapters.settings import Settings
from service.cli.app import app
from service.metrics import Metrics
from tests.docs.pages import PAGES, ROOT, Page
from training.worker.metrics import METRICS as TRAINERS

ROOMS = ("adapters", "service", "training", "deploy", "examples", "benchmarks", "tests", "docs",
         "requirements", "scripts")  # fmt: skip
OLD_WORDS = ("converger", "swap loop", "MemoryStore", "in-memory twin", "rollout_unobserved",
             "keeps readiness red")  # fmt: skip
OTHER_VARIABLES = {"WARDROBE_KEY"}
"""Of the command line alone."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_every_page_of_the_project_is_looked_at() -> None:
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/how-to.md",
            "deploy/helm/wardrobe/README.md", "benchmarks/README.md"} <= {
        page.name for page in PAGES
    }  # fmt: skip


@every_page
def test_every_file_that_is_named_is_there(page: Page) -> None:
    named = re.findall(rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[\w/.-]*", "\n".join(page.code()))
    assert [path for path in named if not (ROOT / path).exists()] == []


@every_page
def test_every_module_that_is_named_is_there(page: Page) -> None:
    if page.name.startswith("deploy/"):
        return  # `service.image.tag` is a value of the chart
    code = "\n".join(page.code())
    named = re.findall(r"(?<![\w.])(?:adapters|service|training)(?:\.\w+){2,}", code)
    named += re.findall(r"-m ([\w.]+)", code)
    assert [name for name in named if not _is_in_a_module(name)] == []


def _is_in_a_module(name: str) -> bool:
    """Whether a module or a class of one is called so."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    holder = path.parent.with_suffix(".py")
    return holder.is_file() and f"\nclass {path.name}" in holder.read_text("utf-8")


@every_page
def test_every_command_is_there_and_takes_its_options(page: Page) -> None:
    for words in _commands(page):
        command: Any = get_command(app)
        while words and words[0] in getattr(command, "commands", ()):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands"), f"`wardrobe {' '.join(words)}`"
        options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("--")} <= options, command.name


def _commands(page: Page) -> Iterator[list[str]]:
    """The words behind `wardrobe`; a line of a block may hold two commands beside each other."""
    for line in page.code():
        for part in re.split(r"  +", line.split("#")[0]):
            words = re.sub(r"^([A-Z_]+=\S+ )+", "", part).split()
            if words[:1] == ["wardrobe"] and len(words) > 1 and words[1] != "──":
                yield words[1:]


def test_commands_are_found_in_the_pages() -> None:
    found = [" ".join(words) for page in PAGES for words in _commands(page)]
    assert {"promote support 8 --expected-generation 7", "rollback support", "serve"} <= set(found)


@every_page
def test_every_goal_of_make_is_there(page: Page) -> None:
    goals = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    named = re.findall(r"(?m)^(?:[A-Z]+=\S+ )*make ([a-z]+)", "\n".join(page.code()))
    assert set(named) <= goals


@every_page
def test_every_setting_that_is_named_is_one(page: Page) -> None:
    named = set(re.findall(r"\bWARDROBE_[A-Z_]+[A-Z]\b", page.text))
    settings = {f"WARDROBE_{name.upper()}" for name in Settings.model_fields}
    assert named <= settings | OTHER_VARIABLES


@every_page
def test_every_metric_that_is_named_is_one(page: Page) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    real = {metric.name for metric in registry.collect()} | set(TRAINERS)
    named = set(re.findall(r"\bwardrobe_[a-z_]+[a-z]\b", page.text))
    assert {name for name in named if name.removesuffix("_total") not in real} == set()


@every_page
def test_no_word_of_an_older_build_is_left(page: Page) -> None:
    assert [word for word in OLD_WORDS if word.lower() in page.text.lower()] == []
