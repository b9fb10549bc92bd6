"""A report is one page that shows what it should, and escapes what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from adapters.domain.gates import GateResult, Outcome, at_least, at_most, without_number
from adapters.domain.names import Digest, JobId, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from service.report.charts import bars, curves
from service.report.facts import Example, Label, Point, Report
from service.report.markup import element
from service.report.page import render

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
GATES = (
    at_least("artifact", 1.0, 1.0, "admitted and served"),
    at_most("forgetting on neutral prompts", 2.5, 1.0, "nats a token", against="base"),
    without_number("task", Outcome.SKIPPED, "no other version is live", against="live"),
)


def report(*, gates: tuple[GateResult, ...] = GATES, **changes: Any) -> Report:
    version = Version(
        id=VersionId(8),
        adapter="support",
        number=8,
        unit=Unit("support"),
        state=VersionState.REJECTED,
        digest=Digest("a" * 64),
        base_fingerprint=Digest("b" * 64),
        rank=16,
        size_bytes=1,
        job_id=JobId("ftjob-1"),
        created_at=1_790_000_000.0,
        gates=gates,
        evidence={"recipe": {"learning_rate": 0.001}, "data": {"train_examples": 40}},
    )
    values: dict[str, Any] = {
        "version": version,
        "job_id": version.job_id,
        "models": ["base", "support:7", "support:8"],
        "curve": [Point(step=at, train=3.0 / at, valid=2.0 / at if at % 2 else None)
                  for at in range(1, 6)],
        "means": {"exact_match": {"base": 0.1, "support:7": 0.8, "support:8": 0.9}},
        "labels": [Label(name="to billing", examples=12, shares={"base": 0.0, "support:8": 1.0})],
        "worst": [Example(prompt="user: hello", reference="to billing",
                          scores={"base": 0.0, "support:8": 0.25})],
    }  # fmt: skip
    return Report(**(values | changes))


class Page(HTMLParser):
    """Notes every element, its attributes and its texts, and that all of them are closed."""

    VOID = frozenset({"meta", "line", "rect", "circle", "polyline"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def test_the_page_tells_the_verdict_every_gate_and_what_it_was_compared_with() -> None:
    page = Page(render(report()))
    said = " ".join(page.texts)
    assert page.open == []
    assert "It may not go live: forgetting on neutral prompts against base." in said
    for words in ("artifact", "failed", "2.5", "at most 1", "not judged", "90.0%", "support:7"):
        assert words in said
    assert page.count("svg") == 2
    assert page.count("polyline") == 2
    assert "to billing" in said
    assert "user: hello" in said


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = Page(render(report()))
    names = {name for name, _ in page.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "form", "a", "use", "image"}
    attributes = {name for _, given in page.elements for name in given}
    assert not attributes & {"src", "href", "srcset", "action"}
    assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in render(report())
    addresses = set(re.findall(r"https?://[^\"' ]+", render(report())))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a namespace, which nobody fetches"


def test_hostile_texts_stay_texts_wherever_they_stand() -> None:
    bad = at_least(HOSTILE, 1.0, 1.0, HOSTILE, against=HOSTILE)
    of = report(
        gates=(bad,),
        models=["base", HOSTILE],
        means={"exact_match": {HOSTILE: 1.0}},
        labels=[Label(name=HOSTILE, examples=1, shares={HOSTILE: 1.0})],
        worst=[Example(prompt=HOSTILE, reference=HOSTILE, scores={HOSTILE: 1.0})],
    )
    version = replace(of.version, evidence={"data": {HOSTILE: HOSTILE}, "recipe": {"a": [HOSTILE]}})
    page = Page(render(replace(of, version=version)))
    assert page.open == []
    assert page.count("script") == page.count("img") == 0
    assert HOSTILE in page.texts
    assert element("td", HOSTILE, title=HOSTILE).count("<") == 2


def test_without_the_right_to_read_content_no_example_is_shown() -> None:
    said = " ".join(Page(render(report(worst=None))).texts)
    assert "Shown to keys that may read content." in said
    assert "hello" not in said


def test_a_version_that_nobody_has_judged_and_of_which_nothing_is_kept_has_a_page_too() -> None:
    empty = report(gates=(), curve=[], means={"exact_match": {}}, labels=[], worst=[])
    page = Page(render(replace(empty, version=replace(empty.version, evidence=None))))
    said = " ".join(page.texts)
    assert "It has not been judged yet." in said
    assert "No curve was kept." in said
    assert "Nothing was scored." in said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_cannot_be_drawn_are_left_out(value: float) -> None:
    assert "nan" not in curves({"loss": [(1.0, value), (2.0, 1.0)]}, title="x")
    assert "inf" not in curves({"loss": [(1.0, value), (2.0, 1.0)]}, title="x")
    assert 'width="1.0"' in bars({"score": {"a": value}}, title="x")


def test_a_loss_of_nothing_and_a_single_step_are_drawn() -> None:
    assert "circle" in curves({"loss": [(0.0, 0.0)]}, title="x")
