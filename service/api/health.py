"""Health for people and probes: open without a key, and saying nothing that needs one."""

from __future__ import annotations

import os

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.api.request import RuntimeOf
from service.instance import INSTANCE
from service.runtime import Runtime

router = APIRouter()

STRANDED = "every live version was trained on another base model"


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez() -> dict[str, str]:
    """The event loop turns; no registry and no engine is asked."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.head("/health", include_in_schema=False)
@router.get("/readyz")
@router.get("/health")
async def readyz(runtime: RuntimeOf) -> JSONResponse:
    """200 when this process may answer and every live version answers or has failed with a
    reason; 503 with what is missing (counts, no names).
    """
    swap = runtime.swap
    missing, failed = len(swap.loader.missing()), len(swap.loader.unavailable())
    checks = {
        "engine": "ok" if runtime.engine.alive else "has stopped",
        "registry": _registry(runtime),
        "versions": f"{missing} live versions not loaded yet" if missing else "ok",
        "unavailable": f"{failed} live versions cannot be served" if failed else "none",
        "base": STRANDED if runtime.stranded else "ok",
        "draining": "yes" if runtime.draining else "no",
    }
    return JSONResponse(
        {
            "status": "ready" if runtime.ready else "not ready",
            "checks": checks,
            "instance": os.environ.get(INSTANCE),
            "process": swap.membership.process.number,
        },
        status_code=200 if runtime.ready else 503,
    )


def _registry(runtime: Runtime) -> str:
    if not runtime.swap.routes.synced:
        return "not read yet"
    if not runtime.swap.routes.trusted:
        return "not read for so long that no key is believed"
    return "ok" if runtime.swap.membership.admits else "newest routes not observed"
