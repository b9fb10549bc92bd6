"""Adapters, routes, versions and rollouts as clients see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from adapters.domain.evaluations import Evaluation
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.routes import Canary, Rollout, Route, Shadow
from adapters.domain.versions import Version, signed_by
from service.reconcile.load_failures import told
from service.runtime import Runtime


def wire_adapter(runtime: Runtime, alias: Alias, unit: Unit) -> dict[str, Any]:
    """An alias with its route."""
    route = runtime.table.route(alias, unit)
    return {"id": alias, "object": "adapter", "unit": unit, "route": wire_route(runtime, route)}


def wire_route(runtime: Runtime, route: Route) -> dict[str, Any]:
    """What answers, and the generation that commands must name."""
    return {
        "alias": route.alias,
        "stable": _name(runtime, route.stable),
        "canary": _canary(runtime, route.canary),
        "shadow": _shadow(runtime, route.shadow),
        "generation": route.generation,
        "updated_at": int(route.updated_at) or None,
    }


def _canary(runtime: Runtime, canary: Canary | None) -> dict[str, Any] | None:
    if canary is None:
        return None
    return {"version": _name(runtime, canary.version), "weight": canary.weight}


def _shadow(runtime: Runtime, shadow: Shadow | None) -> dict[str, Any] | None:
    if shadow is None:
        return None
    return {"version": _name(runtime, shadow.version), "share": shadow.share}


def wire_version(runtime: Runtime, version: Version) -> dict[str, Any]:
    """One version: its data, base, recipe, gates and state."""
    failure = runtime.swap.loader.failure(version.served)
    return {
        "id": version.name,
        "object": "adapter.version",
        "adapter": version.adapter,
        "number": version.number,
        "unit": version.unit,
        "state": str(version.state),
        "digest": version.digest,
        "base_fingerprint": version.base_fingerprint,
        "rank": version.rank,
        "bytes": version.size_bytes,
        "job_id": version.job_id,
        "created_at": int(version.created_at),
        "rolled_back_at": whole(version.rolled_back_at),
        "retired_at": whole(version.withdrawn_at),
        "collected_at": whole(version.collected_at),
        "pinned_at": whole(version.pinned_at),
        "signed_by": signed_by(version.signature),
        "gates": [dataclasses.asdict(gate) for gate in version.gates],
        "evidence": version.evidence,
        "resident": runtime.residency.is_resident(version.id),
        "load_error": None if failure is None else told(failure.reason),
        "load_error_code": None if failure is None else str(failure.reason),
    }


def wire_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """What a scorer gave a model on each example; rows have ids, and no text is kept."""
    return {
        "id": str(evaluation.id),
        "object": "adapter.evaluation",
        "adapter": evaluation.adapter,
        "unit": evaluation.unit,
        "subject": evaluation.subject,
        "base_fingerprint": evaluation.base_fingerprint,
        "dataset": evaluation.dataset,
        "part": evaluation.part,
        "scorer": evaluation.scorer,
        "seed": evaluation.seed,
        "conditions": dict(evaluation.conditions),
        "examples": len(evaluation.scores),
        "mean": evaluation.mean,
        "scores": dict(evaluation.scores),
        "job_id": evaluation.job_id,
        "created_at": int(evaluation.created_at),
    }


def wire_rollout(
    runtime: Runtime,
    rollout: Rollout,
    waits_for: Sequence[str] | None = (),
    *,
    version: str | None = None,
    route: Route | None = None,
) -> dict[str, Any]:
    """A rollout with the route as it is now.

    `version` is the target's name where the table does not know it any more; `waits_for` is None
    where it could not be read.
    """
    ended = rollout.finished_at
    return {
        "id": str(rollout.id),
        "object": "adapter.rollout",
        "alias": rollout.alias,
        "action": str(rollout.action),
        "weight": rollout.weight,
        "reason": rollout.reason,
        "version": version or _name(runtime, rollout.target),
        "replaced": _name(runtime, rollout.replaced),
        "state": str(rollout.state),
        "waits_for": None if waits_for is None else list(waits_for),
        "actor": rollout.actor,
        "error": rollout.error,
        "created_at": rollout.created_at,
        "flipped_at": rollout.flipped_at,
        "finished_at": ended,
        "seconds": None if ended is None else round(ended - rollout.created_at, 4),
        "route": wire_route(runtime, route or runtime.table.route(rollout.alias, rollout.unit)),
    }


def _name(runtime: Runtime, version_id: VersionId | None) -> str | None:
    version = runtime.table.version(version_id)
    return version.name if version else None


def whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
