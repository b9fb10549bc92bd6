"""What a unit's policy asks beyond the test part: gates that are on are measured, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from adapters.domain.evaluations import Scorer
from adapters.domain.gate_options import LeakageOptions
from adapters.domain.gates import GatePolicy
from adapters.domain.names import Digest, Unit
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version, VersionState
from adapters.errors import EngineUnavailable, NotFound, Rejected
from adapters.hashing import sha256_bytes
from adapters.registry.origin import job_behind
from training.data.questions import Question
from training.data.redacted import Redacted, read_redacted
from training.data.stored_dataset import open_dataset
from training.data.tokenise import read_questions
from training.evaluate.bench import Bench
from training.evaluate.conduct import measure_conduct
from training.evaluate.fairness import measure_fairness
from training.evaluate.forgetting import measure_forgetting
from training.evaluate.leakage import measure_leakage
from training.evaluate.scorers import Score
from training.job.context import JobContext
from training.job.dataset_facts import planted_in

_PAGE = 1000


def leak_scorers(
    context: JobContext, policy: GatePolicy, dataset: Path, unit: Unit
) -> dict[Scorer, Score]:
    """Looks for redacted entities in the answers that are asked for anyway. Raises Rejected."""
    redacted = _redacted(context, dataset, unit) if policy.leakage is not None else None
    return {} if redacted is None else {Scorer.REDACTED: redacted.found_in}


def _redacted(context: JobContext, dataset: Path, unit: Unit) -> Redacted | None:
    return read_redacted(dataset, context.registry.erasures.key(unit))


def measure_more(
    context: JobContext, bench: Bench, policy: GatePolicy, *, digest: Digest, unit: Unit
) -> None:
    """Raises what `Answers` raises, LeaseLost."""
    if policy.forgetting is not None:
        others = other_units(context, unit, policy.forgetting.other_units)
        measure_forgetting(bench, policy.forgetting, others)
    if policy.leakage is not None:
        _measure_leakage(context, bench, policy.leakage, digest=digest, unit=unit)
    if policy.fairness is not None:
        measure_fairness(bench, policy.fairness)
    if policy.conduct is not None:
        measure_conduct(bench, policy.conduct)


def _measure_leakage(
    context: JobContext, bench: Bench, options: LeakageOptions, *, digest: Digest, unit: Unit
) -> None:
    dataset = context.store.fetch_dataset(digest)
    stored, planted = open_dataset(dataset, digest), planted_in(dataset)
    if stored is None:
        raise EngineUnavailable("the dataset was written by another build of Wardrobe")
    measure_leakage(bench, options, train=stored.train, planted=planted.count, seed=planted.seed)
    if _redacted(context, dataset, unit) is None:
        bench.measurer.nothing_of(bench.subject, Scorer.REDACTED)


def other_units(context: JobContext, unit: Unit, examples: int) -> list[Question]:
    """So many test examples of each adapter that another unit has live on this base."""
    found: list[Question] = []
    for version in _live(context) if examples else []:
        if version.unit == unit or version.base_fingerprint != context.base.fingerprint:
            continue
        try:
            found += _test_part(context, version, examples)
        except (NotFound, Rejected):
            continue  # its dataset was collected, or another build has written it
    return found


def _live(context: JobContext) -> Iterator[Version]:
    after = None
    while True:
        page = context.registry.versions.list(SYSTEM, adapter=None, after=after, limit=_PAGE)
        yield from (each for each in page.items if each.state is VersionState.LIVE)
        if not page.has_more:
            return
        after = page.items[-1].name


def _test_part(context: JobContext, version: Version, examples: int) -> list[Question]:
    job_id = job_behind(context.registry, version)
    digest = None if job_id is None else context.registry.datasets.of_job(job_id)
    if digest is None:
        return []
    folder = context.store.fetch_dataset(digest)
    stored = open_dataset(folder, digest)
    if stored is None or stored.made_from.get("base") != context.base.fingerprint:
        return []
    return [_foreign(each, digest) for each in read_questions(folder, examples)]


def _foreign(question: Question, dataset: Digest) -> Question:
    """Under an id that tells this unit nothing: its own would confirm a guess at what it says."""
    return replace(question, row=sha256_bytes(f"{dataset} {question.row}".encode())[:32])
