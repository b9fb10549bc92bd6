"""Decides the numbers, the verdicts and the withdrawal of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.domain.gates import GateResult
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
    )


def judging_job(version: Version) -> JobId:
    """The job whose holder may judge `version`. Raises LeaseLost where no job has made it."""
    if version.job_id is None:
        raise LeaseLost(f"no job has made {version.name}, so nobody holds a lease to judge it")
    return version.job_id


def judge(version: Version, gates: Sequence[GateResult], evidence: Mapping[str, Any]) -> Version:
    """`version` with its verdicts, which are final; rejected when one of them is a no.

    Raises IllegalTransition (`already_judged`).
    """
    if version.gates:
        raise IllegalTransition(
            f"{version.name} has its verdicts already, and they are final", code="already_judged"
        )
    kept = replace(version, gates=tuple(gates), evidence={**(version.evidence or {}), **evidence})
    failed = any(not gate.passed for gate in gates)
    return kept.to(VersionState.REJECTED) if failed else kept


def withdraw(version: Version, *, at: float) -> Version:
    """`version` taken out of service for good; a rejected one stays rejected."""
    retired = version
    if version.state is not VersionState.REJECTED:
        retired = version.to(VersionState.RETIRED)
    return replace(retired, withdrawn_at=at)
