"""Every command of every port is in the audit log, or is named here with the reason it is not.

What a command is, the code says: a method that opens a transaction to write. A new one that is in
neither table fails the first test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

import pytest

from adapters.domain.approvals import Verdict
from adapters.domain.audit import Entry, verify
from adapters.domain.canaries import CanaryPlan, Outcomes, Score, Step
from adapters.domain.erasures import ErasedTerm
from adapters.domain.jobs import JobError, JobStatus, StopRequest
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Role
from adapters.domain.versions import WEAKENED, Version
from adapters.registry import Registry
from adapters.registry.ports import Counted, Retention, RouteCommand, Which
from tests.adapters.registry.backends import Clock
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    ALIASES,
    OWNER,
    SALES,
    SUPPORT,
    a_build,
    a_file,
    a_gate,
    a_job,
    a_key,
    a_process,
    acknowledge,
    added_file,
    an_evaluation,
    an_upload,
    carried_out,
    claimed,
    created,
    fence_of,
    flip_and_complete,
    in_status,
    joined,
    judged,
    load,
    promote,
    promoted,
    published,
    queued,
    roll_back,
    running,
    trained,
    went_live,
)

REPORTS = "a process reports what it is or holds; nobody has decided anything"
OF_A_RUN = "a running job's own progress, under its fence; its events tell it"

EXEMPT = {
    "keys.note_used": "a use, to the hour; nobody may do more or less by it",
    "keys.check_pepper": "keeps the first start's fingerprint; forgetting it (`reset`) is audited",
    "datasets.assign": OF_A_RUN,
    "datasets.record": OF_A_RUN,
    "uploads.add_part": "bytes on their way: the file that they come to is audited",
    "jobs.claim": "a lease for some seconds; what the job then comes to is audited",
    "jobs.heartbeat": OF_A_RUN,
    "jobs.resolve": OF_A_RUN,
    "jobs.report_progress": OF_A_RUN,
    "jobs.trained": OF_A_RUN,
    "jobs.say": OF_A_RUN,
    "usage.add": "counts what requests have used; requests are no commands",
    "quotas.share": "replicas divide a limit among them, which the units folder sets",
    "replicas.register": REPORTS,
    "replicas.heartbeat": REPORTS,
    "replicas.observe": REPORTS,
    "replicas.acknowledge": REPORTS,
    "replicas.unloaded": REPORTS,
    "replicas.leave": REPORTS,
    "canaries.report": REPORTS,
    "collection.condemn": "marks bytes that no row names; what is given up was audited by then",
    "collection.clear": "takes such marks away",
    "collection.clear_abandoned": "takes such marks away",
}

Given = Callable[[], object]
"""What is left to do, once things are as the command needs them."""


def _issue_key(registry: Registry) -> Given:
    key = a_key(name="shop", expires_in=60.0)
    return lambda: registry.keys.issue(key, by=ADMIN, idempotency_key=None)


def _rotate_key(registry: Registry) -> Given:
    _issue_key(registry)()
    successor = a_key("key_2", name="shop")
    return lambda: registry.keys.rotate(
        "key_1", successor, overlap_s=1.0, by=ADMIN, idempotency_key=None
    )


def _add_keys(registry: Registry) -> Given:
    return lambda: registry.keys.add([a_key()])


def _bring(registry: Registry) -> Given:
    registry.keys.bring(a_key("key_1"))
    return lambda: registry.keys.bring(a_key("key_2"))


def _revoke(registry: Registry) -> Given:
    registry.keys.add([a_key()])
    return lambda: registry.keys.revoke("key_1", by=ADMIN, reason="left the team")


def _reset(registry: Registry) -> Given:
    registry.keys.add([a_key(), a_key("key_2", role=Role.ADMIN, unit=None)])
    return lambda: registry.keys.reset(by=ADMIN, reason="the pepper leaked")


def _make_data_key(registry: Registry) -> Given:
    return lambda: registry.erasures.key(SUPPORT)


def _erase(registry: Registry) -> Given:
    terms = [ErasedTerm(digest=b"d" * 16, words=2)]
    return lambda: registry.erasures.add(SUPPORT, terms, OWNER, reason="asked to be forgotten")


def _add_file(registry: Registry) -> Given:
    return lambda: registry.files.add(a_file(), by=OWNER)


def _begin_upload(registry: Registry) -> Given:
    return lambda: registry.uploads.begin(an_upload(), by=OWNER)


def _complete_upload(registry: Registry) -> Given:
    upload = registry.uploads.begin(an_upload(), by=OWNER)
    return lambda: registry.uploads.complete(upload.id, a_file(), OWNER)


def _cancel_upload(registry: Registry) -> Given:
    upload = registry.uploads.begin(an_upload(), by=OWNER)
    return lambda: registry.uploads.cancel(upload.id, OWNER, reason="the wrong one")


def _expire_file(registry: Registry, clock: Clock) -> Given:
    added_file(registry, lifetime=3600)
    clock.pass_by(3600.0)
    return lambda: registry.collection.collect(Retention())


def _delete_file(registry: Registry) -> Given:
    file = added_file(registry)
    return lambda: registry.files.delete(file.id, OWNER, reason="asked to be forgotten")


def _create_job(registry: Registry) -> Given:
    job = a_job(registry)
    return lambda: registry.jobs.create(job, OWNER, idempotency_key="once")


def _accept(registry: Registry) -> Given:
    job = created(registry)
    return lambda: registry.jobs.accept(job.id, error=None)


def _refuse(registry: Registry) -> Given:
    job = created(registry)
    error = JobError(code="invalid_training_file", message="line 3 says what nobody may read")
    return lambda: registry.jobs.accept(job.id, error=error)


def _cancel(registry: Registry) -> Given:
    job = queued(registry)
    return lambda: registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER, reason="typo")


def _cancel_running(registry: Registry) -> Given:
    job = running(registry)
    return lambda: registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)


def _pause(registry: Registry) -> Given:
    job = queued(registry)
    return lambda: registry.jobs.request_stop(job.id, StopRequest.PAUSE, OWNER)


def _resume(registry: Registry) -> Given:
    job = in_status(registry, JobStatus.PAUSED)
    return lambda: registry.jobs.resume(job.id, OWNER, reason="the night is cheap")


def _finish(registry: Registry) -> Given:
    job = running(registry)
    error = JobError(code="diverged", message="loss is nan")
    return lambda: registry.jobs.finish(job.id, JobStatus.FAILED, fence=fence_of(job), error=error)


def _evaluate(registry: Registry) -> Given:
    version = published(registry)
    new = [an_evaluation(), an_evaluation(version)]
    return lambda: registry.evaluations.add(new, job_id=None, fence=None)


def _publish(registry: Registry) -> Given:
    job = running(registry)
    return lambda: registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))


def _publish_copy(registry: Registry) -> Given:
    job, version = trained(registry)
    copy = replace(a_build(digest="d" * 64), evidence={WEAKENED: {"of": version.name}})
    return lambda: registry.versions.publish_copy(copy, job_id=job.id, fence=fence_of(job))


def _reject(registry: Registry) -> Given:
    job, version = trained(registry)
    gates = [a_gate(), a_gate(passed=False, gate="task")]
    return lambda: registry.versions.record_gates(
        version.id, gates, fence=fence_of(job), evidence={}
    )


def _judge_again(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.versions.judge_again(version.id, [a_gate()], evidence={})


def _retire(registry: Registry) -> Given:
    version = published(registry)
    promoted(registry, version)
    return lambda: registry.versions.retire(version.id, OWNER, aliases=[], reason="it was rude")


def _share(registry: Registry) -> Given:
    version = published(registry)
    registry.permissions.grant(version.id, [SALES], ADMIN)
    return lambda: registry.permissions.grant(version.id, [SALES, Unit("hr")], ADMIN)


def _unshare(registry: Registry) -> Given:
    version = published(registry)
    (permission,) = registry.permissions.grant(version.id, [SALES], ADMIN)
    return lambda: registry.permissions.withdraw(
        version.id, permission.id, ADMIN, reason="they have their own"
    )


def _promote(registry: Registry) -> Given:
    version = judged(registry, a_gate())
    return lambda: registry.rollouts.promote(
        ALIAS, version.id, OWNER, unit=SUPPORT, expected_generation=0, reason="it is better"
    )


def _roll_back(registry: Registry) -> Given:
    went_live(registry, 2)
    return lambda: roll_back(registry, 2)


def _flip(registry: Registry) -> Given:
    (old,) = went_live(registry, 1)
    new = published(registry)
    rollout = promote(registry, new, by=OWNER)
    process = joined(registry)
    load(registry, process, rollout.target, old)
    return lambda: flip_and_complete(registry, process)


def _seen(generation: int) -> RouteCommand:
    return RouteCommand(
        alias=ALIAS,
        unit=SUPPORT,
        principal=OWNER,
        expected_generation=generation,
        reason="to see",
    )


PLAN = CanaryPlan(steps=(Step(weight=5.0),))


def _start_canary(registry: Registry) -> Given:
    went_live(registry, 1)
    canary = published(registry)
    return lambda: registry.canaries.start(_seen(1), canary.id, PLAN)


def _canaried(registry: Registry) -> Version:
    went_live(registry, 1)
    canary = published(registry)
    carried_out(registry, registry.canaries.start(_seen(1), canary.id, PLAN))
    return canary


def _set_weight(registry: Registry) -> Given:
    _canaried(registry)
    return lambda: registry.canaries.set_weight(_seen(2), 20.0)


def _abort(registry: Registry) -> Given:
    _canaried(registry)
    return lambda: registry.rollouts.abort(_seen(2))


def _abort_loading(registry: Registry) -> Given:
    promote(registry, published(registry))
    return lambda: registry.rollouts.abort(_seen(0))


def _score(registry: Registry) -> Given:
    canary = _canaried(registry)
    score = Score(id="1", version=canary.id, value=0.5)
    return lambda: registry.canaries.add_scores(ALIAS, SUPPORT, OWNER, [score])


def _fail_canary(registry: Registry, clock: Clock) -> Given:
    canary = _canaried(registry)
    run, _ = registry.canaries.newest(ALIAS, SUPPORT)
    stable = registry.routes.route(ALIAS, SUPPORT).stable
    assert stable is not None

    def look(errors: int, requests: int) -> None:
        arms = ((canary.id, errors), (stable, 0))
        told = [
            Counted(
                rollout=run.rollout,
                version=version,
                counts=Outcomes(requests=requests, errors=bad),
            )
            for version, bad in arms
        ]
        registry.canaries.report(a_process(), told)
        clock.pass_by(6.0)
        registry.rollouts.advance()

    look(0, 100)
    return lambda: look(80, 200)


def _shadow(registry: Registry) -> Given:
    went_live(registry, 1)
    version = published(registry)
    return lambda: registry.canaries.shadow(_seen(1), version.id, 10.0)


def _end_shadow(registry: Registry) -> Given:
    went_live(registry, 1)
    version = published(registry)
    carried_out(registry, registry.canaries.shadow(_seen(1), version.id, 10.0))
    return lambda: registry.canaries.end_shadow(_seen(2))


def _warm(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.rollouts.warm(_seen(0), version.id)


def _pin(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.versions.pin(version.id, OWNER, pinned=True, reason="to compare")


def _approve(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.approvals.decide(version.id, Verdict.APPROVED, OWNER, reason="good")


def _disapprove(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.approvals.decide(version.id, Verdict.REJECTED, OWNER, reason="rude")


def _withdraw_rejection(registry: Registry) -> Given:
    version = published(registry)
    registry.approvals.decide(version.id, Verdict.REJECTED, OWNER, reason="rude")
    return lambda: registry.approvals.withdraw_rejection(
        version.id, OWNER.id, ADMIN, reason="has left"
    )


def _sign(registry: Registry) -> Given:
    version = published(registry)
    return lambda: registry.versions.sign({version.id: "0" * 16 + ":x"}, ADMIN, reason="ours")


def _fail_to_load(registry: Registry) -> Given:
    rollout = promote(registry, published(registry), by=OWNER)
    acknowledge(registry, joined(registry), rollout.target, error="damaged")
    return registry.rollouts.advance


def _retire_replica(registry: Registry, clock: Clock) -> Given:
    process = joined(registry)
    clock.pass_by(60.0)
    return lambda: registry.replicas.retire(process.replica, by=ADMIN, reason="it burnt")


def _clear_quarantine(registry: Registry) -> Given:
    ids = ["0" * 32, "1" * 32]
    return lambda: registry.replicas.note_cleared("node-1", ids, by=ADMIN, reason="it was mended")


def _collect(registry: Registry, clock: Clock) -> Given:
    file = added_file(registry)
    registry.files.delete(file.id, OWNER)
    published(registry)
    clock.pass_by(100 * 86_400.0)
    return lambda: registry.collection.collect(Retention())


AUDITED: dict[str, Sequence[tuple[Callable[..., Given], Sequence[tuple[str, str, str, str]]]]] = {
    "erasures.key": [
        (_make_data_key, [("system", "data_key.made", "data_key/support", "support")])
    ],
    "erasures.add": [(_erase, [("key_1", "records.erased", "records/support", "support")])],
    "keys.add": [(_add_keys, [("system", "key.created", "key/key_1", "support")])],
    "keys.issue": [(_issue_key, [("key_admin", "key.created", "key/key_1", "support")])],
    "keys.rotate": [
        (
            _rotate_key,
            [
                ("key_admin", "key.created", "key/key_2", "support"),
                ("key_admin", "key.rotated", "key/key_1", "support"),
            ],
        )
    ],
    "keys.bring": [
        (
            _bring,
            [
                ("system", "key.created", "key/key_2", "support"),
                ("system", "key.revoked", "key/key_1", "support"),
            ],
        )
    ],
    "keys.revoke": [(_revoke, [("key_admin", "key.revoked", "key/key_1", "support")])],
    "keys.reset": [
        (
            _reset,
            [
                ("key_admin", "key.revoked", "key/key_1", "support"),
                ("key_admin", "key.revoked", "key/key_2", ""),
                ("key_admin", "keys.reset", "keys", ""),
            ],
        )
    ],
    "files.add": [(_add_file, [("key_1", "file.created", "file/*", "support")])],
    "permissions.grant": [
        (_share, [("key_admin", "version.shared", "version/support:1", "support")]),
    ],
    "permissions.withdraw": [
        (_unshare, [("key_admin", "version.unshared", "version/support:1", "support")]),
    ],
    "uploads.begin": [
        (_begin_upload, [("key_1", "upload.begun", "upload/*", "support")]),
    ],
    "uploads.complete": [
        (_complete_upload, [("key_1", "file.created", "file/*", "support")]),
    ],
    "uploads.cancel": [
        (_cancel_upload, [("key_1", "upload.cancelled", "upload/*", "support")]),
    ],
    "files.delete": [(_delete_file, [("key_1", "file.deleted", "file/*", "support")])],
    "jobs.create": [(_create_job, [("key_1", "job.created", "job/*", "support")])],
    "jobs.accept": [
        (_accept, [("system", "job.queued", "job/*", "support")]),
        (_refuse, [("system", "job.ended", "job/*", "support")]),
    ],
    "jobs.request_stop": [
        (_cancel, [("key_1", "job.ended", "job/*", "support")]),
        (_cancel_running, [("key_1", "job.stop_requested", "job/*", "support")]),
        (_pause, [("key_1", "job.paused", "job/*", "support")]),
    ],
    "jobs.resume": [(_resume, [("key_1", "job.resumed", "job/*", "support")])],
    "jobs.finish": [(_finish, [("ftjob-*", "job.ended", "job/*", "support")])],
    "evaluations.add": [
        (
            _evaluate,
            [
                ("system", "evaluation.added", "adapter/support", "support"),
                ("system", "evaluation.added", "version/support:1", "support"),
            ],
        )
    ],
    "versions.publish": [
        (_publish, [("ftjob-*", "version.published", "version/support:1", "support")])
    ],
    "versions.publish_copy": [
        (_publish_copy, [("ftjob-*", "version.published", "version/support:2", "support")])
    ],
    "versions.record_gates": [
        (_reject, [("ftjob-*", "version.judged", "version/support:1", "support")])
    ],
    "versions.judge_again": [
        (_judge_again, [("system", "version.judged", "version/support:1", "support")])
    ],
    "versions.retire": [
        (
            _retire,
            [
                ("key_1", "route.emptied", "route/support", "support"),
                ("key_1", "version.retired", "version/support:1", "support"),
            ],
        )
    ],
    "rollouts.promote": [(_promote, [("key_1", "rollout.begun", "route/support", "support")])],
    "rollouts.roll_back": [(_roll_back, [("key_1", "rollout.begun", "route/support", "support")])],
    "rollouts.advance": [
        (
            _flip,
            [
                ("system", "version.moved", "version/support:2", "support"),
                ("system", "version.moved", "version/support:1", "support"),
                ("system", "rollout.flipped", "route/support", "support"),
                ("system", "rollout.completed", "route/support", "support"),
            ],
        ),
        (_fail_to_load, [("system", "rollout.failed", "route/support", "support")]),
        (
            _fail_canary,
            [
                ("system", "rollout.begun", "route/support", "support"),
                ("system", "version.moved", "version/support:2", "support"),
                ("system", "rollout.flipped", "route/support", "support"),
            ],
        ),
    ],
    "rollouts.abort": [
        (
            _abort,
            [
                ("key_1", "rollout.begun", "route/support", "support"),
                ("system", "version.moved", "version/support:2", "support"),
                ("system", "rollout.flipped", "route/support", "support"),
            ],
        ),
        (_abort_loading, [("key_1", "rollout.failed", "route/support", "support")]),
    ],
    "rollouts.warm": [(_warm, [("key_1", "rollout.begun", "route/support", "support")])],
    "canaries.start": [(_start_canary, [("key_1", "rollout.begun", "route/support", "support")])],
    "canaries.set_weight": [
        (
            _set_weight,
            [
                ("key_1", "rollout.begun", "route/support", "support"),
                ("system", "rollout.flipped", "route/support", "support"),
            ],
        )
    ],
    "canaries.add_scores": [(_score, [("key_1", "canary.scored", "route/support", "support")])],
    "canaries.shadow": [(_shadow, [("key_1", "rollout.begun", "route/support", "support")])],
    "canaries.end_shadow": [
        (
            _end_shadow,
            [
                ("key_1", "rollout.begun", "route/support", "support"),
                ("system", "rollout.flipped", "route/support", "support"),
            ],
        )
    ],
    "versions.pin": [(_pin, [("key_1", "version.pinned", "version/support:1", "support")])],
    "approvals.decide": [
        (_approve, [("key_1", "version.approved", "version/support:1", "support")]),
        (_disapprove, [("key_1", "version.disapproved", "version/support:1", "support")]),
    ],
    "approvals.withdraw_rejection": [
        (
            _withdraw_rejection,
            [("key_admin", "version.rejection_withdrawn", "version/support:1", "support")],
        )
    ],
    "versions.sign": [(_sign, [("key_admin", "version.signed", "version/support:1", "support")])],
    "replicas.retire": [
        (_retire_replica, [("key_admin", "replica.retired", "replica/replica-1", "")])
    ],
    "replicas.note_cleared": [
        (_clear_quarantine, [("key_admin", "quarantine.cleared", "quarantine/node-1", "")])
    ],
    "collection.collect": [
        (
            _collect,
            [
                ("system", "version.collected", "version/support:1", "support"),
                ("system", "registry.collected", "registry", ""),
            ],
        ),
        (
            _expire_file,
            [
                ("system", "file.deleted", "file/*", "support"),
                ("system", "registry.collected", "registry", ""),
            ],
        ),
    ],
}
CASES = [
    pytest.param(given, said, id=f"{name}-{given.__name__.strip('_')}")
    for name, cases in AUDITED.items()
    for given, said in cases
]


def commands(registry: Registry) -> Iterator[str]:
    """Every method of every port that opens a transaction to write, itself or by another."""
    for port in fields(registry):
        found = getattr(registry, port.name)
        for name, method in inspect.getmembers(found, inspect.ismethod):
            if not name.startswith("_") and _writes(found, method):
                yield f"{port.name}.{name}"


def _writes(port: object, method: Callable[..., object]) -> bool:
    source = inspect.getsource(method)
    helpers = set(re.findall(r"self\.(_[a-z_]+)\(", source))
    return "_database.write()" in source or any(
        _writes(port, getattr(port, helper)) for helper in helpers
    )


def test_every_command_is_audited_or_exempt_with_a_reason(registry: Registry) -> None:
    found = set(commands(registry))
    assert found == AUDITED.keys() | EXEMPT.keys()
    assert not AUDITED.keys() & EXEMPT.keys()
    assert all(EXEMPT.values())
    assert "jobs.heartbeat" in found, "commands are found through what they call"
    assert "rollouts.history" not in found


def entries_of(registry: Registry) -> list[Entry]:
    """Oldest first."""
    listed = registry.audit.list(SYSTEM, Which(), after=None, limit=1000)
    return list(listed.items)[::-1]


@pytest.mark.parametrize(("given", "said"), CASES)
def test_a_command_says_who_did_what_to_whose(
    registry: Registry,
    clock: Clock,
    given: Callable[..., Given],
    said: Sequence[tuple[str, str, str, str]],
) -> None:
    wanted = inspect.signature(given).parameters
    command = given(*[registry, clock][: len(wanted)])
    before = len(entries_of(registry))
    command()
    told = entries_of(registry)[before:]
    assert [
        (shortened(e.actor), e.action, shortened(e.subject), e.unit or "") for e in told
    ] == list(said)
    assert all(entry.at == clock.now for entry in told)
    assert verify(registry.audit.parts(), anchors=[]).intact


def shortened(name: str) -> str:
    """Ids that are drawn have no place in a table."""
    ids = r"(file/|job/|upload/)?(file-|ftjob-|upload_)[0-9a-f]{24}"
    return re.sub(ids, lambda m: f"{m[1] or m[2]}*", name)


def test_a_repeated_command_changes_nothing_and_says_nothing(registry: Registry) -> None:
    job = a_job(registry)
    registry.jobs.create(job, OWNER, idempotency_key="once")
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    registry.keys.add([a_key()])
    registry.keys.revoke("key_1", by=ADMIN)
    version = published(registry)
    promote(registry, version, by=OWNER, expected=0)
    registry.collection.collect(Retention())
    before = len(entries_of(registry))
    registry.jobs.create(job, OWNER, idempotency_key="once")
    registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)
    registry.keys.revoke("key_1", by=ADMIN)
    promote(registry, version, by=OWNER, expected=0)
    registry.collection.collect(Retention())
    assert len(entries_of(registry)) == before


def test_what_a_run_reports_is_not_audited(registry: Registry) -> None:
    """Nor are claims: a service with a hundred replicas and jobs must not fill the log."""
    queued(registry)
    process = joined(registry)
    before = len(entries_of(registry))
    job = claimed(registry)
    registry.jobs.heartbeat(job.id, fence=fence_of(job), lease_seconds=9.0)
    registry.jobs.resolve(job.id, fence=fence_of(job), recipe={"rank": 8})
    registry.jobs.trained(job.id, fence=fence_of(job), tokens=9)
    registry.jobs.say(job.id, "x")
    registry.replicas.heartbeat(process, ready=True, lease_seconds=9.0)
    registry.replicas.observe(process, registry.routes.revision())
    assert len(entries_of(registry)) == before


def test_an_entry_says_what_was_and_what_is_and_why(registry: Registry) -> None:
    old, new = went_live(registry, 2)
    registry.rollouts.roll_back(
        ALIAS, OWNER, unit=SUPPORT, expected_generation=2, reason="the tone was off"
    )
    begun = entries_of(registry)[-1]
    assert begun.reason == "the tone was off"
    assert begun.after == {
        "rollout": 3,
        "action": "rollback",
        "version": old.name,
        "state": "loading",
        "asked_by": "key_1",
    }
    process = joined(registry)
    load(registry, process, old)
    flip_and_complete(registry, process)
    *_, marked, flipped, _ = entries_of(registry)
    assert marked.subject == f"version/{new.name}"
    assert (marked.before or {})["state"] == "live"
    assert (marked.after or {}) == {
        "state": "retired",
        "digest": new.digest,
        "rolled_back": True,
    }
    assert flipped.before == {"stable": new.name, "generation": 2}
    assert flipped.after == {
        "stable": old.name,
        "generation": 3,
        "rollout": 3,
        "action": "rollback",
        "asked_by": "key_1",
    }


def test_why_a_job_failed_is_a_word_and_not_its_message(registry: Registry) -> None:
    _refuse(registry)()
    ended = entries_of(registry)[-1]
    assert ended.reason == "invalid_training_file"
    assert "nobody may read" not in repr(ended)


def test_an_aliass_foreign_rollout_ends_with_an_entry_for_its_own_unit(
    registry: Registry,
) -> None:
    """An alias that was moved: the unit that began the rollout reads why it ended."""
    sales = Unit("sales")
    theirs = published(registry, sales)
    promote(registry, theirs, unit=sales)
    promote(registry, published(registry))
    ended, begun = entries_of(registry)[-2:]
    assert (ended.action, ended.unit, ended.reason) == (
        "rollout.failed",
        "sales",
        "the alias was moved to another unit",
    )
    assert (begun.action, begun.unit) == ("rollout.begun", "support")


def test_a_retired_version_names_its_routes_that_were_emptied(registry: Registry) -> None:
    (version,) = went_live(registry, 1)
    registry.versions.retire(version.id, ADMIN, aliases=ALIASES[1:], reason="it was rude")
    emptied, retired = entries_of(registry)[-2:]
    assert emptied.before == {"stable": version.name, "generation": 1}
    assert emptied.after == {"generation": 2}
    assert (retired.reason, (retired.after or {})["withdrawn"]) == ("it was rude", True)
