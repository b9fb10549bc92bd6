"""Decides the numbers, the verdicts and the withdrawal of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.domain.gates import GateResult, Outcome
from adapters.domain.jobs import Job
from adapters.domain.names import JobId, VersionId
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, IllegalTransition, LeaseLost
from adapters.registry.ports.versions import NewVersion


def number(new: NewVersion, *, newest: Version | None, job_id: JobId | None, at: float) -> Version:
    """`new` as the candidate that follows `newest` of its adapter; its id is still 0.

    Raises Conflict when the adapter belongs to another unit.
    """
    if newest is not None and newest.unit != new.unit:
        raise Conflict(
            f"the adapter name {new.adapter} belongs to another unit", code="foreign_adapter"
        )
    return Version(
        id=VersionId(0),
        adapter=new.adapter,
        number=newest.number + 1 if newest else 1,
        unit=new.unit,
        state=VersionState.CANDIDATE,
        digest=new.digest,
        base_fingerprint=new.base_fingerprint,
        rank=new.rank,
        size_bytes=new.size_bytes,
        job_id=job_id,
        created_at=at,
        evidence=dict(new.evidence),
        signature=new.signature,
    )


def judging_job(version: Version, made_by: JobId | None) -> JobId:
    """The job whose holder may judge `version`. Raises LeaseLost where no job has made it."""
    if made_by is None:
        raise LeaseLost(f"no job has made {version.name}, so nobody holds a lease to judge it")
    return made_by


def judge(version: Version, gates: Sequence[GateResult], evidence: Mapping[str, Any]) -> Version:
    """`version` with its verdicts, which are final; rejected when one of them is a no.

    Raises IllegalTransition (`already_judged`).
    """
    if version.gates:
        raise IllegalTransition(
            f"{version.name} has its verdicts already, and they are final", code="already_judged"
        )
    return _with_verdicts(version, gates, evidence)


def judge_again(
    version: Version, job: Job | None, gates: Sequence[GateResult], evidence: Mapping[str, Any]
) -> Version:
    """`version` with verdicts in the place of its earlier ones. Raises Conflict.

    What is or was live keeps its state: nobody's answers end because a number has moved.
    """
    check_judged_again(version, job)
    return _with_verdicts(version, gates, evidence)


def check_judged_again(version: Version, job: Job | None) -> None:
    """Whether `version`, which `job` has made, may get other verdicts. Raises Conflict."""
    if version.withdrawn_at is not None or version.collected_at is not None:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
    if version.state is VersionState.REJECTED:
        raise Conflict(
            f"{version.name} was rejected and is not served, so it cannot be evaluated; start a "
            "new job",
            code="version_rejected",
        )
    if job is not None and not job.status.finished:
        raise Conflict(
            f"{version.name} is still being judged by its job {job.id}", code="job_state"
        )


def _with_verdicts(
    version: Version, gates: Sequence[GateResult], evidence: Mapping[str, Any]
) -> Version:
    kept = replace(version, gates=tuple(gates), evidence={**(version.evidence or {}), **evidence})
    failed = any(gate.outcome is Outcome.FAILED for gate in gates)
    rejected = failed and version.state is VersionState.CANDIDATE
    return kept.to(VersionState.REJECTED) if rejected else kept


MAX_PINS = 4
"""Versions that a unit may pin: each takes a slot from everybody's engine for good."""


def pin(version: Version, *, pinned: bool, others: int, at: float) -> Version:
    """`version` pinned, or not; `others` are pinned by its unit already. Raises Conflict."""
    if not pinned or version.pinned_at is not None:
        return version if pinned else replace(version, pinned_at=None)
    if version.state is VersionState.REJECTED:
        raise Conflict(f"{version.name} was rejected", code="version_rejected")
    if not version.servable:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
    if others >= MAX_PINS:
        raise Conflict(f"a unit may pin {MAX_PINS} versions", code="too_many_pins")
    return replace(version, pinned_at=at)


def withdraw(version: Version, *, at: float) -> Version:
    """`version` taken out of service for good; a rejected one stays rejected."""
    retired = version
    if version.state is not VersionState.REJECTED:
        retired = version.to(VersionState.RETIRED)
    return replace(retired, withdrawn_at=at, pinned_at=None)
