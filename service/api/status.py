"""`/v1/status` and `/v1/replicas`: one look at the whole service, for operators and the CLI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Unit
from adapters.domain.principals import Principal
from adapters.domain.slots import plan_slots
from adapters.domain.versions import ServedVersion
from adapters.registry.ports import Replica
from service.api.adapter_objects import wire_rollout
from service.api.request import PrincipalOf, RuntimeOf, reach
from service.api.route_commands import WhyOf
from service.engine.shared_residency import Reason
from service.runtime import Runtime

router = APIRouter(prefix="/v1")


@router.get("/status")
async def status(runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """Readiness, what is resident and what is being trained, as far as it is the principal's.

    Of the replicas, and of other units' requests, only an admin learns more than a number.
    """
    unit = reach(principal)
    read, registry = runtime.threads.read, runtime.registry
    found = await read(principal, registry.replicas.list)
    running = await read(principal, registry.jobs.in_status, JobStatus.RUNNING)
    queued = await read(principal, registry.jobs.in_status, JobStatus.QUEUED)
    return {
        "object": "status",
        "ready": runtime.ready,
        "draining": runtime.draining,
        "base_model": runtime.table.base_name,
        "stranded_by_base": runtime.stranded,
        "engine": dict(runtime.engine.limits),
        "requests_in_flight": _in_flight(runtime, principal),
        "replica_count": sum(replica.reporting for replica in found),
        **_versions(runtime, unit),
        "rollouts": await _rollouts(runtime, unit),
        "jobs": {"running": _ids(running, unit), "queued": _ids(queued, unit)},
        **({} if unit else _of_the_whole(runtime, found)),
    }


@router.get("/replicas")
async def list_replicas(runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """Every replica, silent ones too."""
    found = await runtime.threads.read(principal, runtime.registry.replicas.list)
    return {"object": "list", "data": [_wire_replica(each) for each in found], "has_more": False}


@router.post("/replicas/{replica}/retire")
async def retire_replica(
    replica: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """An operator's word that a silent replica is gone. 409 where it was heard lately."""
    retire = runtime.registry.replicas.retire
    await runtime.threads.command(principal, retire, replica, by=principal, reason=why.reason)
    runtime.swap.rollouts.kick()
    return {"id": replica, "object": "replica", "retired": True}


def _in_flight(runtime: Runtime, principal: Principal) -> int:
    if principal.unit is None:
        return runtime.leases.total
    return runtime.meters.of(principal.owner).requests


def _versions(runtime: Runtime, unit: Unit | None) -> dict[str, Any]:
    loader, table = runtime.swap.loader, runtime.table

    def named(versions: Iterable[ServedVersion | None]) -> list[str]:
        return sorted(v.name for v in versions if v and (unit is None or v.unit == unit))

    unavailable = {
        alias: (version, reason)
        for alias, (version, reason) in loader.unavailable().items()
        if unit is None or version.unit == unit
    }
    return {
        "resident": named(table.version(v) for v in runtime.residency.resident()),
        "missing": named(loader.missing()),
        "stranded": named(v for v, why in unavailable.values() if why is Reason.BASE_MISMATCH),
        "unavailable": [
            {"alias": alias, "version": version.name, "unit": version.unit, "reason": str(reason)}
            for alias, (version, reason) in sorted(unavailable.items())
        ],
    }


async def _rollouts(runtime: Runtime, unit: Unit | None) -> list[dict[str, Any]]:
    mine = [o for o in runtime.table.rollouts if unit is None or o.unit == unit]
    waits = [await runtime.swap.rollouts.waits_for(rollout) for rollout in mine]
    return [
        wire_rollout(runtime, rollout, waits_for)
        for rollout, waits_for in zip(mine, waits, strict=True)
    ]


def _ids(jobs: Iterable[Job], unit: Unit | None) -> list[str]:
    return [job.id for job in jobs if unit is None or job.unit == unit]


def _slots(runtime: Runtime) -> dict[str, int]:
    """How this replica's engine is planned to be used."""
    table = runtime.table
    named = {version.id for version in table.live().values()}
    kept = Counter(version.adapter for version in table.versions.values())
    routed = {version.adapter for version in table.live().values()}
    plan = plan_slots(
        int(runtime.engine.limits["max_cpu_loras"]),
        routes=len(named),
        # one to return to for each adapter that has another
        rollback=sum(kept[adapter] > 1 for adapter in routed),
    )
    return asdict(plan)


def _of_the_whole(runtime: Runtime, replicas: Sequence[Replica]) -> dict[str, Any]:
    return {
        "slots": _slots(runtime),
        "quarantine": [
            {"id": one.id, "deaths": one.deaths, "refused": one.quarantined}
            for one in runtime.quarantine.suspects()
        ],
        "revision": runtime.table.revision,
        "replicas": [_wire_replica(replica) for replica in replicas],
    }


def _wire_replica(replica: Replica) -> dict[str, Any]:
    return {
        "id": replica.id,
        "object": "replica",
        "ready": replica.ready,
        "reporting": replica.reporting,
        "revision": replica.observed,
        "seconds_ago": round(replica.seconds_silent, 1),
        "base_fingerprint": replica.base_fingerprint,
        "on_registry_loss": replica.on_loss,
        "loaded": len(replica.loaded),
        "failed": len(replica.failed),
    }
