"""`/v1/models`: what this caller may put in `model`, in OpenAI's words.

Aliases with a live version, the caller's servable versions, and the base. `root` of an alias is
the version it serves, never a path.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from adapters.domain.principals import Caller
from service.api.request import CallerOf, RuntimeOf
from service.reconcile.route_table import Target
from service.runtime import Runtime

router = APIRouter(prefix="/v1/models")


@router.get("")
async def list_models(runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """Every model of this caller."""
    table = runtime.converger.table
    visible = [
        _card(runtime, name, target)
        for name, target in sorted(table.targets.items())
        if target.unit is not None and caller.may_infer_for(target.unit)
    ]
    return {"object": "list", "data": [_base_card(runtime, caller), *visible]}


@router.get("/{model}")
async def retrieve_model(model: str, runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """One model. 404 when unknown or another unit's."""
    target = runtime.converger.table.resolve(model, caller)
    if target.version is None:
        return _base_card(runtime, caller)
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
        "parent": runtime.converger.table.base_name,
        "state": version.state,
    }


def _base_card(runtime: Runtime, caller: Caller) -> dict[str, Any]:
    target = runtime.converger.table.resolve(runtime.converger.table.base_name, caller)
    return {
        "id": target.model,
        "object": "model",
        "created": 0,
        "owned_by": "wardrobe",
        "root": target.model,
        "max_model_len": runtime.engine.limits["max_model_len"],
    }
