"""`/v1/status`: one look at the whole service, for operators and the CLI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import Unit
from adapters.domain.versions import Version
from adapters.registry import ReplicaReport
from service.api.request import CallerOf, RuntimeOf, in_thread, now, reach
from service.reconcile.converger import REPLICA_TIMEOUT
from service.runtime import Runtime

router = APIRouter(prefix="/v1/status")


@router.get("")
async def status(runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """Readiness, what is resident and what is being trained, as far as it is the caller's.

    Of the replicas, and of other units' requests, only an admin learns more than a number.
    """
    unit = reach(caller)
    found = await in_thread(runtime.registry.replicas, newer_than=now() - REPLICA_TIMEOUT)
    running = await in_thread(runtime.registry.jobs_in, JobStatus.RUNNING)
    queued = await in_thread(runtime.registry.jobs_in, JobStatus.QUEUED)
    return {
        "object": "status",
        "ready": runtime.ready,
        "draining": runtime.draining,
        "base_model": runtime.converger.table.base_name,
        "engine": dict(runtime.engine.limits),
        "requests_in_flight": runtime.leases.of_unit(unit) if unit else runtime.leases.total,
        "replica_count": len(found),
        **_versions(runtime, unit),
        "jobs": {"running": _ids(running, unit), "queued": _ids(queued, unit)},
        **({} if unit else _of_the_whole(runtime, found)),
    }


def _versions(runtime: Runtime, unit: Unit | None) -> dict[str, list[str]]:
    converger = runtime.converger

    def named(versions: Iterable[Version]) -> list[str]:
        return sorted(v.name for v in versions if unit is None or v.unit == unit)

    known = converger.snapshot.versions.values()
    return {
        "resident": named(v for v in known if v.id in runtime.engine.resident),
        "missing": named(converger.missing),
        "stranded": named(converger.stranded),
    }


def _ids(jobs: Iterable[Job], unit: Unit | None) -> list[str]:
    return [job.id for job in jobs if unit is None or job.unit == unit]


def _of_the_whole(runtime: Runtime, replicas: Iterable[ReplicaReport]) -> dict[str, Any]:
    return {
        "revision": runtime.converger.snapshot.revision,
        "replicas": [
            {
                "id": r.id,
                "ready": r.ready,
                "revision": r.revision,
                "seconds_ago": round(now() - r.at, 1),
            }
            for r in replicas
        ],
    }
