"""A version is evaluated again without being trained again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.domain.evaluations import Evaluation
from adapters.domain.gates import GatePolicy
from adapters.domain.measured import Proof, ValidationLosses
from adapters.domain.names import Alias
from adapters.domain.principals import SYSTEM
from adapters.domain.proof import judge
from adapters.domain.routes import check_promotable
from adapters.domain.versions import IMPORT, WEAKENED, Version, VersionState
from adapters.errors import Conflict, InvalidRequest
from adapters.registry.ports import NewVersion
from tests.training.job.stage import Stage, stage
from tests.training.job.toy_replica import FINGERPRINT
from tests.training.world import OWNER, UNIT, World, data
from training.job.evaluate_again import evaluate_again
from training.job.pipeline import run_job


@pytest.fixture
def judged(world: World) -> Stage:
    """A job that has ended, whose version is live."""
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))
    run_job(at.context, at.job_id, at.fence)
    assert version(at).state is VersionState.LIVE
    at.service.asked.clear()
    at.service.scored.clear()
    return at


def version(at: Stage, number: int = 1) -> Version:
    return at.world.registry.versions.get("support", number, SYSTEM)


def evaluations(at: Stage) -> list[Evaluation]:
    page = at.world.registry.evaluations.list(
        SYSTEM, adapter="support", subject=None, after=None, limit=100
    )
    return list(page.items)


def write_policy(at: Stage, **gates: Any) -> None:
    unit = {"unit": "support", "aliases": ["support"], "gates": gates}
    (at.world.units / "support.yaml").write_text(json.dumps(unit))


def test_it_adds_evaluations_and_asks_the_base_nothing_again(judged: Stage) -> None:
    before = evaluations(judged)
    again = evaluate_again(judged.context, "support:1")
    assert judged.service.asked == judged.service.scored == ["support:1"]
    assert len(judged.fine_tuner.fine_tuned) == 1
    added = [each for each in evaluations(judged) if each not in before]
    assert {each.subject for each in added} == {"support:1"}
    assert {each.job_id for each in added} == {None}
    assert [gate.outcome for gate in again.gates] == [
        gate.outcome for gate in version(judged).gates
    ]
    assert "Evaluated support:1 again" in judged.world.messages(judged.job_id)


def test_the_gates_follow_the_units_policy_of_today(judged: Stage) -> None:
    write_policy(judged, evaluation_examples=20, max_overfitting=0.0, min_gain=0.9)
    judged.service.version = lambda _question: "answer"
    again = evaluate_again(judged.context, "support:1")
    failed = [gate.name for gate in again.gates if gate.holds_up]
    assert failed == ["task against base"]
    assert again.state is VersionState.LIVE, "nobody's answers end because a number has moved"
    assert version(judged) == again


def test_the_gates_can_be_recomputed_from_the_rows_of_the_registry(judged: Stage) -> None:
    kept = version(judged)
    assert kept.evidence is not None
    policy = GatePolicy(evaluation_examples=20)
    rows = judged.world.registry.evaluations.relevant(
        UNIT, "support", subjects={"base", kept.name}, since=kept.id
    )
    losses = ValidationLosses(**kept.evidence["validation"])
    facts = kept.evidence["dataset_facts"]
    proof = Proof(subject=kept.name, evaluations=rows, losses=losses, data=facts)
    assert judge(proof, policy) == kept.gates


def without_a_job(judged: Stage, adapter: str, evidence: dict[str, Any]) -> Version:
    """Of the same files as the version that the job has made."""
    new = NewVersion(
        adapter=adapter,
        unit=UNIT,
        digest=version(judged).digest,
        base_fingerprint=FINGERPRINT,
        rank=4,
        size_bytes=1,
        evidence=evidence,
    )
    return judged.world.registry.versions.publish(new, job_id=None, fence=None)


def test_a_version_that_no_job_has_made_has_no_test_part(judged: Stage) -> None:
    brought = without_a_job(judged, "support", {})
    with pytest.raises(InvalidRequest, match="no job has made"):
        evaluate_again(judged.context, brought.name)


def test_a_weaker_copy_is_measured_by_the_test_part_of_its_originals_job(judged: Stage) -> None:
    kept = version(judged)
    evidence = {**(kept.evidence or {}), WEAKENED: {"of": kept.name, "strength": 0.5, "by": "k"}}
    copy = without_a_job(judged, "support", evidence)
    again = evaluate_again(judged.context, copy.name)
    assert again.gates
    asked = {each.dataset for each in evaluations(judged) if each.subject == copy.name}
    assert asked == {judged.world.registry.datasets.of_job(judged.job_id)}


def test_an_imported_version_is_measured_by_the_test_part_of_its_adapters_newest_job(
    judged: Stage,
) -> None:
    brought = without_a_job(judged, "support", {IMPORT: {"by": "key_1"}})
    route = judged.world.registry.routes.route(Alias("support"), UNIT)
    with pytest.raises(Conflict, match="has not passed its gates"):
        check_promotable(route, brought)
    proven = evaluate_again(judged.context, brought.name)
    assert [gate.name for gate in proven.gates if gate.passed] == [
        "artifact",
        "effect against base",
        "fidelity",
        "task against base",
        "task against support:1",
        "skill against one answer",
        "ends",
    ]
    assert {gate.gate for gate in proven.gates if gate.holds_up} == set()
    check_promotable(route, proven)


def test_an_import_of_an_adapter_without_a_job_has_nothing_to_be_measured_by(
    judged: Stage,
) -> None:
    brought = without_a_job(judged, "triage", {IMPORT: {"by": "key_1"}})
    with pytest.raises(InvalidRequest, match="triage has no test part yet"):
        evaluate_again(judged.context, brought.name)


def test_a_version_that_was_rejected_is_not_evaluated(world: World) -> None:
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))
    at.service.version = lambda _question: "something else"
    run_job(at.context, at.job_id, at.fence)
    with pytest.raises(Conflict) as refused:
        evaluate_again(at.context, "support:1")
    assert refused.value.reason == "version_rejected"


def test_the_uploaded_files_are_not_needed_again(judged: Stage) -> None:
    job = judged.world.job(judged.job_id)
    judged.world.registry.files.delete(job.training_file, OWNER)
    assert evaluate_again(judged.context, "support:1").state is VersionState.LIVE


# -- beside a live version


def retrained(judged: Stage) -> Stage:
    """A second job of the same data, claimed."""
    job = judged.world.job(judged.job_id)
    assert job.validation_file is not None
    world = judged.world
    at = stage(world, world.add_queued_job(data(40), data(24, start=100)))
    at.service.version = judged.service.version
    return at


def test_the_live_version_is_compared_with_and_its_known_answers_are_not_asked_for(
    judged: Stage,
) -> None:
    at = retrained(judged)
    run_job(at.context, at.job_id, at.fence)
    assert at.service.asked == ["support:2"]
    (against,) = (gate for gate in version(at, 2).gates if gate.against == "support:1")
    assert against.passed
    assert version(at, 2).state is VersionState.LIVE


def test_a_version_worse_than_the_live_one_is_rejected_and_the_live_one_stays(
    judged: Stage,
) -> None:
    at = retrained(judged)
    at.service.version = lambda question: (
        question.reference if int(question.row[0], 16) % 2 else "answer"
    )
    run_job(at.context, at.job_id, at.fence)
    job = at.world.job(at.job_id)
    assert job.error is not None
    assert "gate `task against support:1` said no" in job.error.message
    assert version(at, 2).state is VersionState.REJECTED
    assert version(at, 1).state is VersionState.LIVE
