"""What the audit log tells of each kind of thing: names, ids, digests, states and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.domain.api_keys import Key
from adapters.domain.audit import Action, Facts
from adapters.domain.evaluations import Evaluation
from adapters.domain.files import StoredFile
from adapters.domain.gates import Outcome
from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import VersionId
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version, signed_by


def of_key(key: Key) -> Facts:
    """Who may call with it, for what and how long; never its hash."""
    return {
        "role": key.role.value,
        "unit": key.unit,
        "name": key.name,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "aliases": None if key.aliases is None else sorted(key.aliases),
        "expires_at": key.expires_at,
        "limits": dict(key.limits.said),
    }


def of_file(file: StoredFile) -> Facts:
    """Without its name, which is the uploader's own text."""
    return {"purpose": file.purpose, "size_bytes": file.size_bytes, "digest": file.digest}


def of_job(job: Job) -> Facts:
    """Without metadata and messages, which are texts of its owner's."""
    return {
        "status": job.status.value,
        "stop_requested": job.stop_requested.value if job.stop_requested else None,
        "adapter": job.adapter,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "version": job.fine_tuned_model,
        "attempts": job.attempts,
    }


def of_evaluation(evaluation: Evaluation) -> Facts:
    """How many examples, not how each was answered."""
    return {
        "id": evaluation.id,
        "scorer": evaluation.scorer.value,
        "part": evaluation.part.value,
        "dataset": evaluation.dataset,
        "examples": len(evaluation.scores),
    }


def of_version(version: Version) -> Facts:
    """Where it stands, and what its gates said."""
    return {
        "state": version.state.value,
        "digest": version.digest,
        "job": version.job_id,
        "gates_failed": [g.gate for g in version.gates if g.outcome is Outcome.FAILED] or None,
        "gates": len(version.gates) or None,
        "rolled_back": version.rolled_back_at is not None or None,
        "withdrawn": version.withdrawn_at is not None or None,
        "pinned": version.pinned_at is not None or None,
        "signed_by": signed_by(version.signature),
    }


def of_route(route: Route, named: Mapping[VersionId, str]) -> Facts:
    """What answers to the alias, and what gets copies; `named` are those versions' names."""
    canary, shadow = route.canary, route.shadow
    return {
        "stable": None if route.stable is None else named[route.stable],
        "canary": canary and named[canary.version],
        "weight": canary and canary.weight,
        "shadow": shadow and named[shadow.version],
        "share": shadow and shadow.share,
        "generation": route.generation,
    }


def of_rollout(rollout: Rollout, target: Version) -> Facts:
    """What it does, and who has asked for it."""
    return {
        "rollout": rollout.id,
        "action": rollout.action.value,
        "weight": rollout.weight,
        "version": target.name,
        "state": rollout.state.value,
        "asked_by": rollout.actor,
    }


def job_action(before: Job, after: Job) -> Action | None:
    """What happened to a job; None for what the log does not tell: leases, progress, results."""
    if after.status is not before.status:
        return _moved(before.status, after.status)
    stopping = after.stop_requested not in (None, before.stop_requested)
    return Action.JOB_STOP_REQUESTED if stopping else None


def _moved(before: JobStatus, after: JobStatus) -> Action | None:
    if after.finished:
        return Action.JOB_ENDED
    if after is JobStatus.QUEUED:
        return Action.JOB_RESUMED if before is JobStatus.PAUSED else Action.JOB_QUEUED
    return Action.JOB_PAUSED if after is JobStatus.PAUSED else None
