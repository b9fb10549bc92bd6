"""What people say of versions, and what that means for what goes live."""

from __future__ import annotations

import pytest

from adapters.domain.api_keys import issue
from adapters.domain.approvals import Verdict
from adapters.domain.canaries import CanaryPlan, Step
from adapters.domain.names import VersionId
from adapters.domain.principals import Grant, Principal, Role, Scope
from adapters.domain.routes import Rollout
from adapters.domain.versions import IMPORT, WEAKENED, Version
from adapters.errors import Conflict, NotFound, NotPermitted
from adapters.registry import Registry
from adapters.registry.ports import RouteCommand
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    ALIASES,
    OWNER,
    STRANGER,
    SUPPORT,
    a_gate,
    judged,
    published,
    went_live,
)

COLLEAGUE = Principal(id="key_7", role=Role.UNIT, unit=SUPPORT)
"""Of the same unit; the jobs of these tests are OWNER's."""
YES, NO = Verdict.APPROVED, Verdict.REJECTED


def promote(registry: Registry, version: Version, by: Principal = OWNER) -> Rollout:
    """In a unit that asks for two people."""
    return registry.rollouts.promote(
        ALIAS, version.id, by, unit=SUPPORT, expected_generation=None, needs_approval=True
    )


def refusal(registry: Registry, version: Version) -> str:
    with pytest.raises(Conflict) as raised:
        promote(registry, version)
    return raised.value.reason


def test_where_two_people_are_asked_for_a_version_waits_for_the_second(registry: Registry) -> None:
    version = judged(registry, a_gate())
    assert refusal(registry, version) == "approval_missing"
    said = registry.approvals.decide(version.id, YES, COLLEAGUE, reason="read forty answers")
    assert registry.approvals.of(version.id) == [said]
    assert promote(registry, version).target == version.id, "also by the author: there are two now"


def test_the_jobs_author_does_not_approve_and_neither_does_who_imported(
    registry: Registry,
) -> None:
    trained = judged(registry, a_gate())
    brought = published(registry, evidence={IMPORT: {"by": COLLEAGUE.id}})
    weaker = published(registry, evidence={WEAKENED: {"of": trained.name, "by": OWNER.id}})
    for version, author in ((trained, OWNER), (brought, COLLEAGUE), (weaker, OWNER)):
        for verdict in Verdict:
            with pytest.raises(NotPermitted) as raised:
                registry.approvals.decide(version.id, verdict, author)
            assert raised.value.reason == "approval_by_author"
        assert registry.approvals.of(version.id) == []


def test_an_approval_is_no_proof(registry: Registry) -> None:
    brought = published(registry, evidence={IMPORT: {"by": OWNER.id}})
    registry.approvals.decide(brought.id, YES, COLLEAGUE)
    assert refusal(registry, brought) == "version_unproven"


def test_a_no_holds_a_version_up_in_every_unit_until_it_is_taken_back(
    registry: Registry, clock: Clock
) -> None:
    version = judged(registry, a_gate())
    registry.approvals.decide(version.id, YES, ADMIN)
    clock.pass_by(1.0)
    registry.approvals.decide(version.id, NO, COLLEAGUE, reason="promises refunds")
    assert refusal(registry, version) == "version_disapproved"
    with pytest.raises(Conflict):
        registry.rollouts.promote(ALIAS, version.id, OWNER, unit=SUPPORT, expected_generation=None)
    registry.approvals.decide(version.id, YES, COLLEAGUE)
    assert [each.verdict for each in registry.approvals.of(version.id)] == [YES, YES]
    assert promote(registry, version).target == version.id


def test_a_canary_is_answered_by_and_so_waits_too(registry: Registry) -> None:
    went_live(registry, 1)
    version = published(registry)
    command = RouteCommand(
        alias=ALIAS, unit=SUPPORT, principal=OWNER, expected_generation=1, needs_approval=True
    )
    plan = CanaryPlan(steps=(Step(weight=5.0),))
    with pytest.raises(Conflict) as raised:
        registry.canaries.start(command, version.id, plan)
    assert raised.value.reason == "approval_missing"
    registry.approvals.decide(version.id, YES, COLLEAGUE)
    assert registry.canaries.start(command, version.id, plan).target == version.id


def test_saying_it_twice_is_saying_it_once(registry: Registry, clock: Clock) -> None:
    version = judged(registry, a_gate())
    first = registry.approvals.decide(version.id, YES, COLLEAGUE, reason="good")
    head = registry.audit.head()
    clock.pass_by(60.0)
    assert registry.approvals.decide(version.id, YES, COLLEAGUE, reason="good") == first
    assert registry.audit.head() == head


def test_a_strangers_version_is_not_there_to_be_approved(registry: Registry) -> None:
    version = judged(registry, a_gate())
    for version_id, principal in ((version.id, STRANGER), (VersionId(99), COLLEAGUE)):
        with pytest.raises(NotFound):
            registry.approvals.decide(version_id, YES, principal)


def test_what_is_out_of_the_question_is_not_decided_about(registry: Registry) -> None:
    rejected = judged(registry, a_gate(passed=False))
    retired = published(registry)
    registry.versions.retire(retired.id, OWNER, aliases=ALIASES)
    for version, code in ((rejected, "version_rejected"), (retired, "version_retired")):
        with pytest.raises(Conflict) as raised:
            registry.approvals.decide(version.id, YES, COLLEAGUE)
        assert raised.value.reason == code


def a_key(registry: Registry, name: str) -> Principal:
    """One more key of the unit's holder of that name."""
    grant = Grant(role=Role.UNIT, unit=SUPPORT, scopes=frozenset({Scope.TRAIN, Scope.APPROVE}))
    _, key = issue(grant, name, lifetime_s=3600.0, pepper=b"p" * 32)
    return registry.keys.issue(key, by=ADMIN, idempotency_key=None).principal()


def test_two_keys_of_one_holder_are_one_person(registry: Registry) -> None:
    trains, approves, other = (a_key(registry, name) for name in ("anna", "anna", "ben"))
    brought = published(registry, evidence={IMPORT: {"by": trains.id}})
    with pytest.raises(NotPermitted) as raised:
        registry.approvals.decide(brought.id, YES, approves)
    assert raised.value.reason == "approval_by_author"
    registry.approvals.decide(brought.id, YES, other)


def test_a_holder_takes_back_with_a_new_key_what_the_old_one_said(
    registry: Registry, clock: Clock
) -> None:
    old, new = a_key(registry, "anna"), a_key(registry, "anna")
    version = judged(registry, a_gate())
    registry.approvals.decide(version.id, NO, old, reason="promises refunds")
    registry.keys.revoke(old.id, by=ADMIN)
    clock.pass_by(1.0)
    assert registry.approvals.decide(version.id, NO, new, reason="promises refunds").actor == old.id
    registry.approvals.decide(version.id, YES, new)
    assert [(each.actor, each.verdict) for each in registry.approvals.of(version.id)] == [
        (new.id, YES)
    ]
    assert promote(registry, version).target == version.id


def test_an_admin_takes_back_what_somebody_said_who_has_left(registry: Registry) -> None:
    gone, version = a_key(registry, "anna"), judged(registry, a_gate())
    registry.approvals.decide(version.id, YES, COLLEAGUE)
    registry.approvals.decide(version.id, NO, gone, reason="promises refunds")
    registry.keys.revoke(gone.id, by=ADMIN)
    assert refusal(registry, version) == "version_disapproved", "it does not lapse with the key"
    for who in (OWNER, COLLEAGUE):
        with pytest.raises(NotPermitted):
            registry.approvals.withdraw_rejection(version.id, gone.id, who)
    for _ in range(2):  # saying it twice is saying it once
        (left,) = registry.approvals.withdraw_rejection(version.id, gone.id, ADMIN, reason="left")
        assert (left.actor, left.verdict) == (COLLEAGUE.id, YES)
    assert promote(registry, version).target == version.id


def test_an_admin_who_is_the_author_takes_nothing_back(registry: Registry) -> None:
    brought = published(registry, evidence={IMPORT: {"by": ADMIN.id}})
    registry.approvals.decide(brought.id, NO, COLLEAGUE)
    with pytest.raises(NotPermitted) as raised:
        registry.approvals.withdraw_rejection(brought.id, COLLEAGUE.id, ADMIN)
    assert raised.value.reason == "approval_by_author"
