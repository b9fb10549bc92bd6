"""`/v1/status`: one look at the whole service, for operators and the CLI."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from adapters.jobs import JobStatus
from adapters.keys import Role
from service.api.request import CallerOf, RuntimeOf, in_thread, now, reach
from service.converger import REPLICA_TIMEOUT

router = APIRouter(prefix="/v1/status")


@router.get("")
async def status(runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """Readiness, replicas, what is resident and what is being trained."""
    unit = reach(caller) if caller.role is not Role.TRAINER else None
    snapshot = runtime.converger.snapshot
    replicas = await in_thread(runtime.registry.replicas, newer_than=now() - REPLICA_TIMEOUT)
    running = await in_thread(runtime.registry.jobs_in, JobStatus.RUNNING)
    queued = await in_thread(runtime.registry.jobs_in, JobStatus.QUEUED)
    visible = [v for v in snapshot.versions.values() if unit is None or v.unit == unit]
    return {
        "object": "status",
        "ready": runtime.ready,
        "draining": runtime.draining,
        "base_model": runtime.converger.table.base_name,
        "engine": dict(runtime.engine.limits),
        "requests_in_flight": runtime.leases.total,
        "revision": snapshot.revision,
        "resident": sorted(v.name for v in visible if v.id in runtime.engine.resident),
        "missing": sorted(v.name for v in runtime.converger.missing if v in visible),
        "replicas": [
            {
                "id": r.id,
                "ready": r.ready,
                "revision": r.revision,
                "seconds_ago": round(now() - r.at, 1),
            }
            for r in replicas
        ],
        "jobs": {
            "running": [job.id for job in running if unit is None or job.unit == unit],
            "queued": [job.id for job in queued if unit is None or job.unit == unit],
        },
    }
