"""`/v1/models`: what this principal may put in `model`, in OpenAI's words.

Aliases with a live version, the principal's servable versions, and the base where it is granted.
`root` of an alias is the version it serves, never a path. Everything is answered from the route
table: clients ask this often, and a unit may have thousands of versions. To delete a fine-tuned
model is to withdraw a version that nothing needs.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic_core import to_json

from adapters.domain.names import Alias, split_version
from adapters.domain.principals import Principal, Scope
from adapters.errors import Conflict, NotFound, Unavailable
from service.api.request import PrincipalOf, RuntimeOf, aliases_of
from service.api.route_commands import Why, WhyOf
from service.reconcile.route_table import Target, unknown_model
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


@router.delete("/{model}")
async def delete_model(
    model: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Withdraws a version for good; doing it twice is doing it once.

    409 for the base and for aliases, which are no fine-tuned models, and while anything could still
    name the version: it is live or pinned, a rollback returns to it, an unfinished job makes it or
    begins with it. 404 when unknown or another unit's.
    """
    await runtime.threads.command(principal, _withdraw, runtime, principal, model, why)
    with suppress(Unavailable):  # the version is withdrawn, and this table learns it a bit later
        await runtime.swap.routes.refresh()
    return {"id": model, "object": "model", "deleted": True}


def _withdraw(runtime: Runtime, principal: Principal, model: str, why: Why) -> None:
    name = split_version(model)
    if name is None:
        raise _no_version(runtime, principal, model)
    versions = runtime.registry.versions
    try:
        version = versions.get(*name, principal)
    except NotFound:
        raise unknown_model() from None
    versions.retire(
        version.id,
        principal,
        aliases=aliases_of(runtime, version.unit),
        unneeded=True,
        reason=why.reason,
    )


def _no_version(runtime: Runtime, principal: Principal, model: str) -> NotFound | Conflict:
    owner = runtime.units.current.units.owner_of.get(Alias(model))
    of_mine = owner is not None and principal.may_act_for(owner)
    if not of_mine and not (model == runtime.table.base_name and principal.may(Scope.BASE)):
        return unknown_model()
    return Conflict(
        f"`{model}` is no fine-tuned model; those have names like `support:8`",
        param="model",
        code="not_a_fine_tuned_model",
    )


def _card(runtime: Runtime, name: str, target: Target) -> dict[str, Any]:
    version = target.version
    assert version is not None  # noqa: S101 - only the base has none
    return {
        "id": name,
        "object": "model",
        "created": int(version.created_at),
        "owned_by": version.unit,
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
