"""Health for people and probes: open without a key, and saying nothing that needs one."""

from __future__ import annotations

import os

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.api.request import RuntimeOf
from service.launch.child_process import INSTANCE

router = APIRouter()


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The event loop turns; no registry and no engine is asked."""
    return {"status": "alive"}


@router.get("/readyz")
@router.get("/health")
async def readyz(runtime: RuntimeOf) -> JSONResponse:
    """200 when every live version answers; 503 with what is missing (counts, no names)."""
    checks = {
        "engine": "ok" if runtime.engine.alive else "has stopped",
        "registry": "ok" if runtime.converger.synced else "not read yet",
        "versions": f"{len(runtime.converger.missing)} live versions not loaded yet"
        if runtime.converger.missing
        else "ok",
        "draining": "yes" if runtime.draining else "no",
    }
    return JSONResponse(
        {
            "status": "ready" if runtime.ready else "not ready",
            "checks": checks,
            "instance": os.environ.get(INSTANCE),
        },
        status_code=200 if runtime.ready else 503,
    )
