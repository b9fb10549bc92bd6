"""Rows of the registry's tables ↔ domain values; the only place that knows both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from adapters.domain.api_keys import Key, NewKey
from adapters.domain.audit import Entry
from adapters.domain.evaluations import Evaluation, NewEvaluation, Scorer, part_of
from adapters.domain.files import StoredFile
from adapters.domain.gates import GateResult, Outcome
from adapters.domain.jobs import (
    Job,
    JobCheckpoint,
    JobError,
    JobEvent,
    JobStatus,
    Lease,
    StopRequest,
)
from adapters.domain.limits import NO_KEY_LIMITS, KeyLimits
from adapters.domain.names import Alias
from adapters.domain.permissions import Permission
from adapters.domain.principals import Role, Scope
from adapters.domain.recipes import Hyperparameters, RecipeOverrides
from adapters.domain.routes import Action, Canary, Rollout, RolloutState, Route, Shadow
from adapters.domain.uploads import Upload, UploadPart, UploadStatus
from adapters.domain.versions import ServedVersion, Version, VersionState


def key_values(key: NewKey) -> dict[str, Any]:
    """Column values of a key's record, but those that time decides."""
    values = {name: getattr(key, name) for name in key.__dataclass_fields__}
    del values["expires_in"]
    return {
        **values,
        "role": key.role.value,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "aliases": None if key.aliases is None else sorted(key.aliases),
        "limits": key.limits.said or None,
    }


_SCOPES: Mapping[str, Scope] = {scope.value: scope for scope in Scope}
_KEY_ROW_ONLY = ("seq", "revoked_by", "revision", "brought", "idempotency_key", "words")


def key_from(row: RowMapping) -> Key:
    """A key's record from its row. A scope of a newer build grants nothing here."""
    scopes, aliases = row["scopes"], row["aliases"]
    return Key(
        **{
            **_without(row, *_KEY_ROW_ONLY),
            "role": Role(row["role"]),
            "scopes": None
            if scopes is None
            else frozenset(_SCOPES[name] for name in scopes if name in _SCOPES),
            "aliases": None if aliases is None else frozenset(map(Alias, aliases)),
            "limits": _limits_from(row["limits"]),
        }
    )


def _limits_from(said: Mapping[str, int] | None) -> KeyLimits:
    """A limit of a newer build is not known here, and the others hold."""
    if not said:
        return NO_KEY_LIMITS
    known = {name: most for name, most in said.items() if name in KeyLimits.model_fields}
    return KeyLimits.model_validate(known)


_JOB_ROW_ONLY = (
    "seq",
    "idempotency_key",
    "words",
    "turn",
    "lease_owner",
    "lease_fence",
    "lease_until",
)


def file_values(file: StoredFile) -> dict[str, Any]:
    """Column values of a stored file."""
    return asdict(file)


def file_from(row: RowMapping) -> StoredFile:
    """A stored file from its row."""
    return StoredFile(**_without(row, "seq", "deleted_at"))


def upload_values(upload: Upload) -> dict[str, Any]:
    """Column values of an upload that is no file yet."""
    values = {name: getattr(upload, name) for name in upload.__dataclass_fields__}
    del values["file"]
    return values | {"status": upload.status.value}


def upload_from(row: RowMapping) -> Upload:
    """An upload from its row, without the file that it has become."""
    values = _without(row, "seq", "file_id")
    return Upload(**{**values, "status": UploadStatus(row["status"])})


def part_values(part: UploadPart) -> dict[str, Any]:
    """Column values of a part."""
    return asdict(part)


def part_from(row: RowMapping) -> UploadPart:
    """A part from its row."""
    return UploadPart(**_without(row, "seq"))


def job_values(job: Job) -> dict[str, Any]:
    """Column values of a job, its lease spread over three of them."""
    values = {name: getattr(job, name) for name in job.__dataclass_fields__}
    lease = values.pop("lease")
    return {
        **values,
        "status": job.status.value,
        "hyperparameters": job.hyperparameters.model_dump(mode="json"),
        "recipe": job.recipe and job.recipe.model_dump(mode="json", exclude_none=True),
        "result_files": list(job.result_files),
        "error": asdict(job.error) if job.error else None,
        "stop_requested": job.stop_requested.value if job.stop_requested else None,
        "lease_owner": lease.owner if lease else None,
        "lease_fence": lease.fence if lease else None,
        "lease_until": lease.until if lease else None,
    }


def job_from(row: RowMapping) -> Job:
    """A job from its row."""
    values = _without(row, *_JOB_ROW_ONLY)
    stop = row["stop_requested"]
    values |= {
        "status": JobStatus(row["status"]),
        "hyperparameters": Hyperparameters.model_validate(row["hyperparameters"]),
        "recipe": row["recipe"] and RecipeOverrides.model_validate(row["recipe"]),
        "result_files": tuple(row["result_files"]),
        "error": JobError(**row["error"]) if row["error"] else None,
        "stop_requested": StopRequest(stop) if stop else None,
        "lease": _lease_from(row),
    }
    return Job(**values)


def _lease_from(row: RowMapping) -> Lease | None:
    if row["lease_owner"] is None:
        return None
    return Lease(owner=row["lease_owner"], fence=row["lease_fence"], until=row["lease_until"])


def numbered_values(told: JobEvent | JobCheckpoint) -> dict[str, Any]:
    """Column values of what a job told, without the id: the database gives that."""
    values = asdict(told)
    del values["id"]
    return values


def event_from(row: RowMapping) -> JobEvent:
    """A job's event from its row."""
    return JobEvent(**row)


def checkpoint_from(row: RowMapping) -> JobCheckpoint:
    """A job's checkpoint from its row."""
    return JobCheckpoint(**row)


def version_values(version: Version) -> dict[str, Any]:
    """Column values of a version, without its id: the database gives that."""
    values = {name: getattr(version, name) for name in version.__dataclass_fields__}
    del values["id"]
    return values | {
        "state": version.state.value,
        "gates": [asdict(gate) for gate in version.gates],
    }


def version_from(row: RowMapping) -> Version:
    """A version from its row."""
    gates = tuple(_gate_from(gate) for gate in row["gates"])
    values = _without(row, "revision", "withdrawn_by")
    return Version(**{**values, "state": VersionState(row["state"]), "gates": gates})


def _gate_from(values: dict[str, Any]) -> GateResult:
    if "passed" in values:  # as builds wrote it whose gates knew a yes and a no
        outcome = Outcome.PASSED if values["passed"] else Outcome.FAILED
        kept = {name: values[name] for name in ("gate", "measured", "detail")}
        return GateResult(**kept, outcome=outcome, bound=values["threshold"], direction="at_least")
    return GateResult(**{**values, "outcome": Outcome(values["outcome"])})


def permission_from(row: RowMapping) -> Permission:
    """A permission from its row."""
    return Permission(**_without(row, "seq"))


def evaluation_values(new: NewEvaluation) -> dict[str, Any]:
    """Column values of an evaluation, as far as its measurer knows them."""
    values = {name: getattr(new, name) for name in NewEvaluation.__dataclass_fields__}
    return values | {
        "part": new.part.value,
        "scorer": new.scorer.value,
        "conditions": dict(new.conditions),
        "scores": dict(new.scores),
    }


def evaluation_from(row: RowMapping) -> Evaluation:
    """An evaluation from its row."""
    return Evaluation(**{**row, "part": part_of(row["part"]), "scorer": Scorer(row["scorer"])})


def served_from(row: RowMapping) -> ServedVersion:
    """As much of a version as routing needs, from a row with no more than that."""
    gone = row["withdrawn_at"] is not None or row["collected_at"] is not None
    servable = row["state"] != VersionState.REJECTED.value and not gone
    values = _without(row, "state", "withdrawn_at", "collected_at", "pinned_at")
    return ServedVersion(**values, servable=servable, pinned=row["pinned_at"] is not None)


def route_values(route: Route) -> dict[str, Any]:
    """Column values of a route, its canary and its shadow spread over three of them each."""
    values = asdict(route)
    canary, shadow = values.pop("canary"), values.pop("shadow")
    return {
        **values,
        "canary": canary and canary["version"],
        "canary_weight": canary and canary["weight"],
        "canary_rollout": canary and canary["rollout"],
        "shadow": shadow and shadow["version"],
        "shadow_share": shadow and shadow["share"],
        "shadow_rollout": shadow and shadow["rollout"],
    }


_ROUTE_ONLY = ("canary_weight", "canary_rollout", "shadow_share", "shadow_rollout", "revision")


def route_from(row: RowMapping) -> Route:
    """A route from its row."""
    canary, shadow = None, None
    if row["canary"] is not None:
        canary = Canary(
            version=row["canary"], weight=row["canary_weight"], rollout=row["canary_rollout"]
        )
    if row["shadow"] is not None:
        shadow = Shadow(
            version=row["shadow"], share=row["shadow_share"], rollout=row["shadow_rollout"]
        )
    return Route(**{**_without(row, *_ROUTE_ONLY), "canary": canary, "shadow": shadow})


def rollout_values(rollout: Rollout) -> dict[str, Any]:
    """Column values of a rollout, without its id: the database gives that."""
    values = asdict(rollout)
    del values["id"]
    return values | {"state": rollout.state.value, "action": rollout.action.value}


def rollout_from(row: RowMapping) -> Rollout:
    """A rollout from its row."""
    states = {"state": RolloutState(row["state"]), "action": Action(row["action"])}
    return Rollout(**{**row, **states})


def entry_values(entry: Entry) -> dict[str, Any]:
    """Column values of an entry of the audit log."""
    return asdict(entry)


def entry_from(row: RowMapping) -> Entry:
    """An entry of the audit log from its row."""
    return Entry(**row)


def _without(row: RowMapping, *names: str) -> dict[str, Any]:
    return {str(name): value for name, value in row.items() if name not in names}
