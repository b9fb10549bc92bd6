"""The HTTP surface that is ours: routers beside vLLM's, all behind the gateway.

The gateway has decided on route and scope before any of these runs. Each checks that it is the one
that was decided on, takes the principal from the request and asks the registry in its name, so that
another unit's things look unknown.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from adapters.errors import NotFound, WardrobeError
from service import http_errors
from service.api import (
    adapters,
    approvals,
    audit,
    canaries,
    exchange,
    files,
    health,
    keys,
    models,
    permissions,
    provenance,
    reports,
    status,
    uploads,
    usage,
)
from service.api import fine_tuning as jobs
from service.api.request import known_query
from service.api.upload_places import Uploads


def attach(app: FastAPI) -> None:
    """Adds every router, and the one exception handler they share."""
    app.state.wardrobe_uploads = Uploads()
    app.add_exception_handler(WardrobeError, _answer_error)
    for module in (
        health,
        models,
        files,
        uploads,
        jobs,
        permissions,
        adapters,
        reports,
        exchange,
        approvals,
        provenance,
        canaries,
        audit,
        status,
        keys,
        usage,
    ):
        walls = [Depends(check_route)]
        if module is not health:  # whoever probes may say what it likes
            walls.append(Depends(known_query))
        app.include_router(module.router, dependencies=walls)


async def check_route(request: Request) -> None:
    """The second wall: what runs is what the gateway has decided on. Raises NotFound."""
    if request.scope["route"].path != getattr(request.state, "route", None):
        raise NotFound("there is no such endpoint")


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, WardrobeError)  # noqa: S101 - registered for this class only
    status_code, body, headers = http_errors.render(error)
    return Response(
        body, status_code, headers={name.decode(): value.decode() for name, value in headers}
    )
