"""The HTTP surface that is ours: routers beside vLLM's, all behind the gateway.

The gateway has authenticated the principal before any of these runs; each takes it from the request
and asks the registry in its name, so that another unit's things look unknown.
"""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from adapters.errors import WardrobeError
from service import http_errors
from service.api import adapters, files, health, models, status
from service.api import fine_tuning as jobs
from service.api.request import known_query
from service.api.uploads import Uploads


def attach(app: FastAPI) -> None:
    """Adds every router, and the one exception handler they share."""
    app.state.wardrobe_uploads = Uploads()
    app.add_exception_handler(WardrobeError, _answer_error)
    app.include_router(health.router)  # whoever probes may say what it likes
    for module in (models, files, jobs, adapters, status):
        app.include_router(module.router, dependencies=[Depends(known_query)])


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, WardrobeError)  # noqa: S101 - registered for this class only
    status_code, body, headers = http_errors.render(error)
    return Response(
        body, status_code, headers={name.decode(): value.decode() for name, value in headers}
    )
