"""`/v1/models`: what this principal may put in `model`, in OpenAI's words.

Aliases with a live version, the principal's servable versions, and the base where it is granted.
`root` of an alias is the version it serves, never a path. Everything is answered from the route
table: clients ask this often, and a unit may have thousands of versions.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic_core import to_json

from adapters.domain.principals import Principal, Scope
from service.api.request import PrincipalOf, RuntimeOf
from service.reconcile.route_table import Target
from service.runtime import Runtime

router = APIRouter(prefix="/v1/models")


@router.get("")
async def list_models(runtime: RuntimeOf, principal: PrincipalOf) -> Response:
    """Every model of this principal. FastAPI's own encoder would take fifteen times as long."""
    base = [_base_card(runtime, principal)] if principal.may(Scope.BASE) else []
    visible = [_card(runtime, name, target) for name, target in runtime.table.visible(principal)]
    content = to_json({"object": "list", "data": [*base, *visible]})
    return Response(content, media_type="application/json")


@router.get("/{model}")
async def retrieve_model(model: str, runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """One model. 404 when unknown or another unit's."""
    target = runtime.table.resolve(model, principal)
    if target.version is None:
        return _base_card(runtime, principal)
    return _card(runtime, model, target)


def _card(runtime: Runtime, name: str, target: Target) -> dict[str, Any]:
    version = target.version
    assert version is not None  # noqa: S101 - only the base has none
    return {
        "id": name,
        "object": "model",
        "created": int(version.created_at),
        "owned_by": target.unit,
        "root": version.name,
        "parent": runtime.table.base_name,
    }


def _base_card(runtime: Runtime, principal: Principal) -> dict[str, Any]:
    target = runtime.table.resolve(runtime.table.base_name, principal)
    return {
        "id": target.model,
        "object": "model",
        "created": runtime.base_created,
        "owned_by": "wardrobe",
        "root": target.model,
        "parent": None,
        "max_model_len": runtime.engine.limits["max_model_len"],
    }
