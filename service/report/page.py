"""A report as one HTML page: no script, no font, no picture from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from adapters.domain.gates import GateResult, Outcome, all_passed
from adapters.domain.macro_f1 import LabelScore
from service.report.charts import bars, curves
from service.report.facts import Example, Label, Report
from service.report.markup import Child, Markup, element, joined

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy: whatever slipped in, a browser would run and fetch nothing."""

_STYLE = Markup(
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1c2733;background:#fff}h1{margin-bottom:.2rem}h2{margin-top:2.2rem}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .6rem;"
    "border-bottom:1px solid #dde3e8;vertical-align:top;overflow-wrap:anywhere}"
    "svg{width:100%;max-width:40rem;font-size:12px}.note{color:#5b6b7b}pre{white-space:pre-wrap;"
    "margin:0}.passed{color:#1d8a5f}.failed,.error{color:#b3261e;font-weight:600}"
    ".skipped{color:#5b6b7b}"
)
_WORDS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.SKIPPED: "not judged",
    Outcome.ERROR: "could not be measured",
}
_MEASURES = {
    "exact_match": "Answers that are exactly right",
    "token_f1": "Words in common with the right answer",
}


def render(report: Report) -> str:
    """The whole page."""
    version = report.version
    body = joined(
        element("h1", f"Version {version.name}"),
        _summary(report),
        element("h2", "What its gates say"),
        _gates(version.gates),
        element("h2", "Beside the base model and the live version"),
        bars({_MEASURES[name]: means for name, means in report.means.items() if means},
             title="Scores on the test examples"),
        _labels(report.models, report.labels),
        element("h2", "How it was trained"),
        curves({"training loss": [(each.step, each.train) for each in report.curve
                                  if each.train is not None],
                "validation loss": [(each.step, each.valid) for each in report.curve
                                    if each.valid is not None]}, title="Loss by step"),
        element("h2", "Worst examples"),
        _worst(report.models, report.worst),
        element("h2", "Where it comes from"),
        _origin(report),
    )  # fmt: skip
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width"),
        element("title", f"{version.name} · report"),
        element("style", _STYLE),
    )
    page = element("html", element("head", head), element("body", body), lang="en")
    return f"<!doctype html>\n{page}\n"


def _summary(report: Report) -> Markup:
    gates = report.version.gates
    held_up = [gate.name for gate in gates if gate.holds_up]
    if not gates:
        said, kind = "It has not been judged yet.", "skipped"
    elif held_up:
        said, kind = f"It may not go live: {', '.join(held_up)}.", "failed"
    else:
        said, kind = "It has passed every gate that judged it.", "passed"
    if gates and not held_up and not all_passed(gates):
        said, kind = "No gate has judged it: it is not proven.", "error"
    state = f"State: {report.version.state}. Unit: {report.version.unit}."
    return joined(element("p", said, class_=kind), element("p", state, class_="note"))


def _table(head: Sequence[Child], rows: Sequence[Sequence[Child]]) -> Markup:
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    lines = (element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("table", element("thead", top), element("tbody", *lines))


def _gates(gates: Sequence[GateResult]) -> Markup:
    if not gates:
        return element("p", "None has judged it yet.", class_="note")
    head = ("Gate", "Verdict", "Measured", "Needed", "What that is")
    return _table(head, [_gate(gate) for gate in gates])


def _gate(gate: GateResult) -> list[Child]:
    verdict = element("span", _WORDS[gate.outcome], class_=str(gate.outcome))
    if gate.outcome in (Outcome.SKIPPED, Outcome.ERROR):
        return [gate.name, verdict, "", "", gate.detail]
    needed = f"{gate.direction.replace('_', ' ')} {gate.bound:.3g}"
    return [gate.name, verdict, f"{gate.measured:.3g}", needed, gate.detail]


def _labels(models: Sequence[str], labels: Sequence[Label]) -> Markup:
    if not labels:
        return joined()
    rows: list[list[Child]] = [
        [each.name, each.examples, *(_share(each.shares.get(model)) for model in models)]
        for each in labels
    ]
    return joined(
        element("h3", "By answer that was wanted"),
        _table(("Answer", "Examples", *models), rows),
        _told_labels(models, labels),
    )


def _told_labels(models: Sequence[str], labels: Sequence[Label]) -> Markup:
    """How well labels are told from each other, where that is what is scored."""
    if not any(each.told for each in labels):
        return joined()
    rows: list[list[Child]] = [
        [each.name, model, *_told(each.told[model])]
        for each in labels
        for model in models
        if model in each.told
    ]
    return joined(
        element("h3", "How well labels are told from each other"),
        _table(("Label", "Model", "Examples", "Precision", "Recall", "F1"), rows),
        element(
            "p",
            "Precision: of the answers that say the label, how many are right. Recall: of the "
            "examples that want it, how many get it. F1 is high only where both are.",
            class_="note",
        ),
    )


def _told(score: LabelScore) -> list[Child]:
    precision = "never said" if score.precision is None else _share(score.precision)
    return [score.examples, precision, _share(score.recall), f"{score.f1:.2f}"]


def _worst(models: Sequence[str], worst: Sequence[Example] | None) -> Markup:
    if worst is None:
        return element("p", "Shown to keys that may read content.", class_="note")
    if not worst:
        return element("p", "None: all are right, or the test part is not kept.", class_="note")
    rows: list[list[Child]] = [
        [
            element("pre", each.prompt),
            element("pre", each.reference),
            *(_share(each.scores.get(model)) for model in models),
        ]
        for each in worst
    ]
    return _table(("Asked", "Right answer", *models), rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _origin(report: Report) -> Markup:
    version = report.version
    made = datetime.fromtimestamp(version.created_at, UTC).strftime("%d %B %Y, %H:%M UTC")
    rows: list[tuple[Child, Child]] = [
        ("Made", made),
        ("By job", report.job_id),
        ("Artifact", version.digest),
        ("Base model", version.base_fingerprint),
        ("Rank", version.rank),
    ]
    evidence = version.evidence or {}
    for name in ("data", "learning_curve", "recipe", "weakened"):
        for key, value in sorted((evidence.get(name) or {}).items()):
            rows.append((f"{name}: {key.replace('_', ' ')}", _plain(value)))
    return _table(("", ""), rows)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
