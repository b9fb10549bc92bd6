"""What a report tells, collected from the registry and the store.

Texts of examples are in it only for those who may read content; everybody else gets numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from adapters.domain.datasets import MAX_MEASURED, Part
from adapters.domain.evaluations import BASE, Evaluation, Scorer, merged
from adapters.domain.macro_f1 import LabelScore, per_label
from adapters.domain.names import Digest, JobId, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from adapters.errors import NotFound, Rejected
from adapters.registry import Registry
from adapters.registry.origin import job_behind
from adapters.store import ArtifactStore

WORST = 10
"""Examples that are shown."""
MAX_LABELS = 60
"""More different answers than that are no labels."""
MAX_TEXT = 600
"""Characters of a text that is shown."""
_EVENTS = 5000
_PAGE = 1000
_NEWEST = VersionId(2**31 - 1)
_NUMBERS = "labels"
"""The condition that says which numbers labels have: a digest of their names."""
_SHOWN = (Scorer.EXACT_MATCH, Scorer.TOKEN_F1)


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was measured at a step of the training."""

    step: int
    train: float | None
    valid: float | None


@dataclass(frozen=True, kw_only=True)
class Label:
    """How often the examples that want one answer got it."""

    name: str
    examples: int
    shares: Mapping[str, float]
    """Model → share of exact matches."""
    told: Mapping[str, LabelScore] = field(default_factory=dict)
    """Model → how well it tells this label, where labels are what is scored."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A test example that went badly."""

    prompt: str
    reference: str
    scores: Mapping[str, float]
    """Model → token F1."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the page says."""

    version: Version
    job_id: JobId | None
    """That made it, or what it is a weaker copy of."""
    models: Sequence[str]
    """The base, the live version of then if there was one, and the version."""
    curve: Sequence[Point]
    means: Mapping[str, Mapping[str, float]]
    """Scorer → model → mean over the same test examples."""
    labels: Sequence[Label]
    worst: Sequence[Example] | None
    """None for those who may not read content."""


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """One row of the test part."""

    row: str
    prompt: str
    reference: str


def collect(version: Version, *, registry: Registry, store: ArtifactStore, content: bool) -> Report:
    """Blocks. Raises Unavailable."""
    models = _models(version)
    rows = registry.evaluations.relevant(
        version.unit, version.adapter, subjects=set(models), since=_NEWEST
    )
    scores = {scorer: _scores(rows, models, scorer) for scorer in _SHOWN}
    tested = _test_part(version, store)
    job_id = job_behind(registry, version)
    return Report(
        version=version,
        job_id=job_id,
        models=models,
        curve=_curve(job_id, registry),
        means={scorer.value: _means(found) for scorer, found in scores.items()},
        labels=_labels(
            tested, scores[Scorer.EXACT_MATCH], _told_labels(rows, models), content=content
        ),
        worst=_worst(tested, scores[Scorer.TOKEN_F1], version.name) if content else None,
    )


def _models(version: Version) -> list[str]:
    """The live version is the one that its gates name, whatever is live today."""
    others = {gate.against for gate in version.gates if gate.against and ":" in gate.against}
    return [BASE, *sorted(others - {version.name}), version.name]


def _scores(
    rows: Sequence[Evaluation], models: Sequence[str], scorer: Scorer
) -> dict[str, dict[str, float]]:
    """Model → row → score, of the rows that the last model was scored on."""
    found = {
        model: merged(
            each
            for each in rows
            if (each.subject, each.scorer, each.part) == (model, scorer, Part.TEST)
        )
        for model in models
    }
    mine = found[models[-1]].keys()
    return {
        model: {row: score for row, score in scored.items() if row in mine}
        for model, scored in found.items()
    }


def _means(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {model: sum(rows.values()) / len(rows) for model, rows in scores.items() if rows}


def _curve(job_id: JobId | None, registry: Registry) -> list[Point]:
    """From the job's metrics events, as long as these are kept."""
    if job_id is None:
        return []
    points: dict[int, Point] = {}
    after = None
    for _ in range(_EVENTS // _PAGE):
        try:
            listed = registry.jobs.events(job_id, SYSTEM, after=after, limit=_PAGE)
        except NotFound:
            break
        for event in listed.items:
            data = event.data or {}
            if event.type == "metrics" and isinstance(data.get("step"), int):
                points.setdefault(data["step"], _point(data))
        if not listed.has_more:
            break
        after = str(listed.items[-1].id)
    return [points[step] for step in sorted(points)]


def _point(data: Mapping[str, Any]) -> Point:
    train, valid = data.get("train_loss"), data.get("valid_loss")
    return Point(
        step=data["step"],
        train=float(train) if isinstance(train, int | float) else None,
        valid=float(valid) if isinstance(valid, int | float) else None,
    )


def _test_part(version: Version, store: ArtifactStore) -> list[_Tested]:
    """Nothing where the dataset is not kept, or was written in another form."""
    digest = ((version.evidence or {}).get("data") or {}).get("dataset")
    if digest is None:
        return []
    try:
        folder = store.fetch_dataset(Digest(digest))
        with (folder / "test.jsonl").open(encoding="utf-8") as file:
            return [_tested(json.loads(line)) for line in islice(file, MAX_MEASURED)]
    except (NotFound, Rejected, OSError, ValueError, KeyError, TypeError):
        return []


def _tested(question: Mapping[str, Any]) -> _Tested:
    turns = [f"{turn['role']}: {turn['content']}" for turn in question["prompt"]]
    return _Tested(row=question["row"], prompt="\n".join(turns), reference=question["reference"])


def _told_labels(
    rows: Sequence[Evaluation], models: Sequence[str]
) -> dict[str, dict[str, LabelScore]]:
    """Model → row → how well its label is told; only of scores whose labels have the numbers that
    the last model's have.
    """
    listed = [each for each in rows if each.scorer in (Scorer.LABEL, Scorer.WANTED)]
    own = [each for each in listed if each.subject == models[-1]]
    if not own:
        return {}
    numbers = max(own, key=lambda each: each.id).conditions.get(_NUMBERS)
    alike = [each for each in listed if each.conditions.get(_NUMBERS) == numbers]
    said, wanted = (_scores(alike, models, scorer) for scorer in (Scorer.LABEL, Scorer.WANTED))
    return {model: _told(said[model], wanted[model]) for model in models if said[model]}


def _told(said: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, LabelScore]:
    both = sorted(said.keys() & wanted.keys())
    found = per_label([said[row] for row in both], [wanted[row] for row in both])
    return {row: found[wanted[row]] for row in both}


def _labels(
    tested: Sequence[_Tested],
    scores: Mapping[str, Mapping[str, float]],
    told: Mapping[str, Mapping[str, LabelScore]],
    *,
    content: bool,
) -> list[Label]:
    """One for each answer that several examples want; its words only with `content`."""
    scored = [each for each in tested if all(each.row in rows for rows in scores.values() if rows)]
    counts = Counter(each.reference.strip() for each in scored)
    if not counts or len(counts) > MAX_LABELS or 2 * len(counts) > len(scored):
        return []
    labels = []
    for at, (reference, examples) in enumerate(counts.most_common(), start=1):
        wanted = [each.row for each in scored if each.reference.strip() == reference]
        shares = {
            model: sum(rows[row] for row in wanted) / examples
            for model, rows in scores.items()
            if rows
        }
        name = _cut(reference) if content else f"answer {at}"
        apart = {model: rows[wanted[0]] for model, rows in told.items() if wanted[0] in rows}
        labels.append(Label(name=name, examples=examples, shares=shares, told=apart))
    return labels


def _worst(
    tested: Sequence[_Tested], scores: Mapping[str, Mapping[str, float]], mine: str
) -> list[Example]:
    own = scores.get(mine, {})
    bad = sorted(
        (each for each in tested if own.get(each.row, 1.0) < 1.0), key=lambda each: own[each.row]
    )
    return [
        Example(
            prompt=_cut(each.prompt),
            reference=_cut(each.reference),
            scores={model: rows[each.row] for model, rows in scores.items() if each.row in rows},
        )
        for each in bad[:WORST]
    ]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
