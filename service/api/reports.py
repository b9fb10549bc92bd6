"""`/v1/adapters/…/report`: a version's report as one HTML page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from adapters.domain.principals import Scope
from service.api.request import PrincipalOf, RuntimeOf, unit_of_alias
from service.api.route_commands import find_version, named
from service.report.facts import collect
from service.report.page import POLICY, render

router = APIRouter(prefix="/v1")
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@router.get("/adapters/{alias}/versions/{number}/report")
async def report(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf
) -> HTMLResponse:
    """What its gates say, with pictures; the worst examples for keys that may read content."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))

    def written() -> str:
        return render(
            collect(
                version,
                registry=runtime.registry,
                store=runtime.store,
                content=principal.may(Scope.CONTENT),
            )
        )

    # The test part may have to be fetched from an object store: a file's thread waits for that.
    return HTMLResponse(await runtime.threads.file(principal, written), headers=_HEADERS)
