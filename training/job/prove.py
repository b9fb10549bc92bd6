"""Proves a version: measures it beside the base and the live one through the service, then judges.

The same for a job's candidate and for a version that is evaluated again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapters.domain.bounds import mean
from adapters.domain.evaluations import Scorer
from adapters.domain.gates import GatePolicy, GateResult, unservable
from adapters.domain.jobs import JobCheckpoint
from adapters.domain.macro_f1 import per_label
from adapters.domain.measured import Proof, Rival, ValidationLosses
from adapters.domain.names import Alias, Digest, JobId, VersionId
from adapters.domain.principals import SYSTEM
from adapters.domain.proof import judge
from adapters.domain.recipes import Method
from adapters.domain.versions import WEAKENED, Version
from adapters.errors import EngineUnavailable, IllegalTransition, Rejected
from training.base.chat_format import thinking_wanted
from training.data.tokenise import read_questions
from training.evaluate.bench import Bench
from training.evaluate.exam import Exam, Subject, bounded
from training.evaluate.fixed_answer import fixed_scorer
from training.evaluate.measure import Ends, Measurer, Writer
from training.evaluate.scorers import conditions_of, scorers_of
from training.job.context import JobContext
from training.job.dataset_facts import data_facts
from training.job.gate_measures import leak_scorers, measure_more
from training.job.service_limits import ServiceLimits

_LAYER = re.compile(r"\.(\d+)\.")
_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdicts, and the numbers to keep beside the version."""

    gates: tuple[GateResult, ...]
    evidence: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a version is measured by, and by what policy it is judged."""

    policy: GatePolicy
    limits: ServiceLimits
    dataset: Digest
    """The artifact that holds the test part."""


def prove(
    context: JobContext, version: Version, terms: Terms, writer: Writer, *, anew: bool = False
) -> Judgement:
    """What the gates say of `version`; `anew` asks it although its answers are known.

    The base's and the live version's answers are asked where nobody has asked them before.
    Raises EngineUnavailable, Unavailable, LeaseLost, Stopped.
    """
    policy, dataset = terms.policy, context.store.fetch_dataset(terms.dataset)
    exam = exam_of(context, version, terms)
    scorers = scorers_of(policy, context.units, exam.questions)
    measurer = Measurer(
        exam,
        answers=context.answers,
        evaluations=context.registry.evaluations,
        writer=writer,
        scorers=scorers,
    )
    base = Subject(model=context.base.name, version_id=None)
    subject = Subject(model=version.name, version_id=version.id)
    try:
        measurer.answers_of(base)
        measurer.log_probs_of(base)
    except Rejected as error:
        raise EngineUnavailable(error.message) from error
    rival = _rival(context, version, measurer)
    try:
        more = {
            **leak_scorers(context, policy, dataset, version.unit),
            **fixed_scorer(policy, scorers, exam.questions),
        }
        measurer.answers_of(subject, anew=anew, ends=_ends(policy), more=more)
        published = context.store.fetch(version.digest)
        measurer.fidelity_of(
            subject, lambda asked: context.fine_tuner.log_probs(published, asked), anew=anew
        )
        bench = Bench(
            measurer=measurer, renderer=context.renderer, base=base, subject=subject, anew=anew
        )
        measure_more(context, bench, policy, digest=terms.dataset, unit=version.unit)
    except Rejected as error:
        return Judgement(gates=(unservable(error.message),), evidence={})
    rivals = () if rival is None else (Subject(model=rival.name, version_id=rival.id),)
    since = VersionId(0) if rival is None else rival.id
    known = measurer.known(base, subject, *rivals, since=since)
    proof = Proof(
        subject=subject.name,
        evaluations=known,
        rival=rival,
        losses=_losses(context, version),
        data=None if version.imported else data_facts(dataset),
    )
    return Judgement(gates=judge(proof, policy), evidence=_evidence(exam, proof, base, subject))


def _ends(policy: GatePolicy) -> Ends | None:
    if policy.min_ends is None:
        return None
    return Ends(tokens=policy.ends_tokens, examples=policy.ends_examples)


def keep(context: JobContext, version: Version, judgement: Judgement, *, fence: int) -> Version:
    """The verdicts in the registry, once: it rejects a candidate that failed one.

    Raises LeaseLost.
    """
    versions = context.registry.versions
    try:
        return versions.record_gates(
            version.id, judgement.gates, fence=fence, evidence=judgement.evidence
        )
    except IllegalTransition:
        judged = versions.by_id(version.id)
        if not judged.gates:
            raise
        return judged


def exam_of(context: JobContext, version: Version, terms: Terms) -> Exam:
    """The questions that the unit's policy asks for, and how they are asked."""
    policy, limits = terms.policy, terms.limits
    tested = context.store.fetch_dataset(terms.dataset)
    questions = read_questions(tested, policy.evaluation_examples)
    return Exam(
        unit=version.unit,
        adapter=version.adapter,
        base_fingerprint=context.base.fingerprint,
        dataset=terms.dataset,
        questions=bounded(questions, slack=policy.answer_slack, context=limits.max_model_len),
        conditions={
            "engine": limits.engine,
            "dtype": limits.dtype,
            "layers": _layers(context.base.shapes),
            "slack": policy.answer_slack,
            "thinking": "on" if thinking_wanted() else "off",
            **conditions_of(policy, context.units, questions),
        },
        context=limits.max_model_len,
    )


def _layers(modules: Mapping[str, Any]) -> int:
    return len({found[1] for name in modules if (found := _LAYER.search(name))})


def _rival(context: JobContext, version: Version, measurer: Measurer) -> Rival | None:
    """The live version with its answers known; None where there is none but `version` itself."""
    registry = context.registry
    route = registry.routes.route(Alias(version.adapter), version.unit)
    if route.stable is None or route.stable == version.id:
        return None
    live = registry.versions.by_id(route.stable)
    if live.base_fingerprint != context.base.fingerprint:
        why = f"{live.name} is of another base model and is not served"
        return Rival(id=live.id, name=live.name, unservable=why)
    try:
        measurer.answers_of(Subject(model=live.name, version_id=live.id))
    except Rejected:
        why = f"the service cannot serve {live.name}"
        return Rival(id=live.id, name=live.name, unservable=why)
    return Rival(id=live.id, name=live.name)


def _losses(context: JobContext, version: Version) -> ValidationLosses | None:
    """From the job's checkpoints; once those are collected, from what was kept of them.

    None of a weaker copy: it is no checkpoint of any run, and that it knows less than the one it
    was made from is no overfitting.
    """
    if WEAKENED in (version.evidence or {}):
        return None
    kept = (version.evidence or {}).get("validation")
    if kept is not None:
        return ValidationLosses(**kept)
    evidence = version.evidence or {}
    best = (evidence.get("training") or {}).get("best_step")
    measured = {each.step: each.metrics for each in _checkpoints(context, version)}
    known = {step: each["valid_loss"] for step, each in measured.items() if "valid_loss" in each}
    if best not in known:
        return None
    supervised = (evidence.get("recipe") or {}).get("method") == Method.SUPERVISED
    return ValidationLosses(
        chosen=known[best],
        lowest=min(known.values()),
        trained=measured[best].get("train_loss") if supervised else None,
    )


def _checkpoints(context: JobContext, version: Version) -> list[JobCheckpoint]:
    if version.job_id is None:
        return []
    found = context.registry.jobs.checkpoints(
        JobId(version.job_id), SYSTEM, after=None, limit=_PAGE
    )
    return list(found.items)


def _evidence(exam: Exam, proof: Proof, base: Subject, subject: Subject) -> dict[str, Any]:
    """Means for people; the gates are computed from the rows."""
    evidence: dict[str, Any] = {
        "test": {
            "examples": len(exam.questions),
            "dataset": exam.dataset,
            "base": _means(exam, proof, base),
            "adapter": _means(exam, proof, subject),
        },
    }
    labels = {"base": _labels(exam, proof, base), "adapter": _labels(exam, proof, subject)}
    if labels["adapter"]:
        evidence["labels"] = labels
    if proof.data is not None:
        evidence["dataset_facts"] = dict(proof.data)
    if proof.losses is not None:
        evidence["validation"] = asdict(proof.losses)
    return evidence


def _means(exam: Exam, proof: Proof, subject: Subject) -> dict[str, float]:
    rows = {each.row for each in exam.questions}
    return {
        scorer.value: round(mean(list(scores.values())), 4)
        for scorer in (Scorer.EXACT_MATCH, Scorer.TOKEN_F1)
        if (scores := proof.scores_of(subject.name, scorer, rows))
    }


def _labels(exam: Exam, proof: Proof, subject: Subject) -> list[dict[str, Any]]:
    """One for each label, in the order of their names, which are content and not kept here; none
    where labels are not what is scored.
    """
    rows = {each.row for each in exam.questions}
    said = proof.scores_of(subject.name, Scorer.LABEL, rows)
    wanted = proof.scores_of(subject.name, Scorer.WANTED, rows)
    scored = sorted(said.keys() & wanted.keys())
    found = per_label([said[row] for row in scored], [wanted[row] for row in scored])
    return [asdict(each) for each in found.values()]
