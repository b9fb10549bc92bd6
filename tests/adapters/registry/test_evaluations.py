"""What every registry does with evaluations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.evaluations import Evaluation, NewEvaluation, Scorer
from adapters.domain.gates import GateResult, Outcome, at_least
from adapters.domain.jobs import JobStatus, StopRequest
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, LeaseLost, NotFound
from adapters.registry import Registry
from adapters.registry.ports import Retention
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    LEASE_S,
    OWNER,
    SALES,
    STRANGER,
    SUPPORT,
    a_gate,
    an_evaluation,
    claimed,
    fence_of,
    judged,
    promote,
    promoted,
    published,
    trained,
)

DAY = 86_400.0


def added(registry: Registry, *new: NewEvaluation) -> list[Evaluation]:
    return list(registry.evaluations.add(new, job_id=None, fence=None))


def listed(registry: Registry, **query: object) -> list[Evaluation]:
    values: dict[str, object] = {"adapter": "support", "subject": None, "after": None, "limit": 10}
    page = registry.evaluations.list(SYSTEM, **(values | query))  # type: ignore[arg-type]
    return list(page.items)


def test_an_evaluation_comes_back_as_it_was_measured(registry: Registry, clock: Clock) -> None:
    new = an_evaluation(published(registry), scores={"row-1": 0.1, "row-2": 1 / 3})
    (kept,) = added(registry, new)
    assert (kept.created_at, kept.job_id) == (clock.now, None)
    assert kept == Evaluation(
        **{name: getattr(new, name) for name in NewEvaluation.__dataclass_fields__},
        id=kept.id,
        created_at=clock.now,
        job_id=None,
    )
    assert listed(registry) == [kept]


def test_a_job_that_is_taken_up_again_adds_nothing_twice(registry: Registry) -> None:
    job, version = trained(registry)
    new = [an_evaluation(), an_evaluation(version)]
    first = registry.evaluations.add(new, job_id=job.id, fence=fence_of(job))
    changed = [replace(each, scores={"row-1": 0.5}) for each in new]
    assert registry.evaluations.add(changed, job_id=job.id, fence=fence_of(job)) == first
    other = [an_evaluation(version, scorer=Scorer.NATS), an_evaluation(version, dataset="e" * 64)]
    assert len(registry.evaluations.add(other, job_id=job.id, fence=fence_of(job))) == 2
    assert len(listed(registry)) == 4


def test_who_lost_the_lease_adds_no_evaluation(registry: Registry, clock: Clock) -> None:
    job, version = trained(registry)
    clock.pass_by(LEASE_S + 1)
    claimed(registry, owner="another")
    with pytest.raises(LeaseLost):
        registry.evaluations.add([an_evaluation(version)], job_id=job.id, fence=fence_of(job))
    assert listed(registry) == []


def test_a_version_may_be_evaluated_again_outside_its_job(registry: Registry) -> None:
    version = published(registry)
    added(registry, an_evaluation(version), an_evaluation(version))
    assert [each.subject for each in listed(registry)] == [version.name] * 2


def test_evaluations_are_listed_newest_first_by_subject_and_page(registry: Registry) -> None:
    version = published(registry)
    base, of_version, newest = added(
        registry, an_evaluation(), an_evaluation(version), an_evaluation(version)
    )
    assert listed(registry) == [newest, of_version, base]
    assert listed(registry, subject=version.name) == [newest, of_version]
    assert listed(registry, after=str(newest.id), limit=1) == [of_version]
    assert listed(registry, adapter="sales") == []
    with pytest.raises(NotFound):
        listed(registry, after="nothing")


def test_another_units_evaluations_are_not_seen(registry: Registry) -> None:
    (kept,) = added(registry, an_evaluation())
    for principal, seen in ((OWNER, [kept]), (ADMIN, [kept]), (STRANGER, [])):
        page = registry.evaluations.list(
            principal, adapter="support", subject=None, after=None, limit=10
        )
        assert list(page.items) == seen


def test_relevant_are_those_of_the_subjects_and_of_newer_versions(registry: Registry) -> None:
    one, two, three = (published(registry) for _ in range(3))
    base, of_one, _of_two, of_three = added(
        registry,
        an_evaluation(),
        an_evaluation(one),
        an_evaluation(two),
        an_evaluation(three),
    )
    evaluations = registry.evaluations
    subjects = {"base", one.name}
    found = evaluations.relevant(SUPPORT, "support", subjects=subjects, since=two.id)
    assert list(found) == [base, of_one, of_three]
    assert not evaluations.relevant(SALES, "support", subjects=subjects, since=two.id)


def test_evaluations_are_collected_with_their_version(registry: Registry, clock: Clock) -> None:
    gone, stays = published(registry), published(registry)
    added(registry, an_evaluation(gone), an_evaluation(stays), an_evaluation())
    registry.versions.retire(gone.id, OWNER, aliases=())
    assert registry.collection.collect(Retention())["evaluations"] == 1
    assert [each.subject for each in listed(registry)] == ["base", stays.name]
    clock.pass_by(365 * DAY)
    counts = registry.collection.collect(Retention())
    assert (counts["versions"], counts["evaluations"]) == (1, 2)
    assert listed(registry) == []


# -- judged again


def ended(registry: Registry, *gates: GateResult) -> Version:
    """A judged version whose job is over."""
    version = judged(registry, *gates)
    assert version.job_id is not None
    job = registry.jobs.request_stop(version.job_id, StopRequest.CANCEL, SYSTEM)
    registry.jobs.finish(job.id, JobStatus.CANCELLED, fence=fence_of(job))
    return version


def test_a_candidate_that_could_not_be_measured_is_proven_by_another_evaluation(
    registry: Registry,
) -> None:
    unmeasured = replace(a_gate(), outcome=Outcome.ERROR)
    version = ended(registry, unmeasured)
    assert version.state is VersionState.CANDIDATE
    with pytest.raises(Conflict) as raised:
        promote(registry, version)
    assert raised.value.reason == "version_unproven"
    again = registry.versions.judge_again(version.id, [a_gate()], evidence={"test": 2})
    assert again.gates == (a_gate(),)
    assert again.evidence is not None
    assert again.evidence["test"] == 2
    assert promoted(registry, again).stable == again.id


def test_a_candidate_that_fails_when_evaluated_again_is_rejected(registry: Registry) -> None:
    version = ended(registry, a_gate())
    revision = registry.routes.revision()
    again = registry.versions.judge_again(version.id, [a_gate(passed=False)], evidence={})
    assert again.state is VersionState.REJECTED
    assert registry.routes.revision() == revision + 1
    with pytest.raises(Conflict) as raised:
        registry.versions.judge_again(version.id, [a_gate()], evidence={})
    assert raised.value.reason == "version_rejected"


def test_a_live_version_keeps_its_state_whatever_its_new_verdicts(registry: Registry) -> None:
    version = published(registry)
    promoted(registry, version)
    no = at_least("task", 0.0, 0.5, "worse", against="base")
    again = registry.versions.judge_again(version.id, [no], evidence={})
    assert (again.state, again.gates) == (VersionState.LIVE, (no,))


def test_while_its_job_runs_only_the_job_judges_a_version(registry: Registry) -> None:
    _, version = trained(registry)
    with pytest.raises(Conflict) as raised:
        registry.versions.judge_again(version.id, [a_gate()], evidence={})
    assert raised.value.reason == "job_state"


def test_what_is_not_kept_is_not_judged_again(registry: Registry) -> None:
    version = published(registry)
    registry.versions.retire(version.id, OWNER, aliases=())
    with pytest.raises(Conflict) as raised:
        registry.versions.judge_again(version.id, [a_gate()], evidence={})
    assert raised.value.reason == "version_retired"
