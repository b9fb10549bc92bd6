"""`/v1/fine_tuning/checkpoints/{checkpoint}/permissions`: which other units may use a version.

OpenAI's checkpoint permissions: a checkpoint that has a name is a version, a project is a unit. A
permission is about answers under the version's own name, and about nothing else: the other unit
sees no data, no report and no history, cannot train it further, move it or delete it, and its
requests count as its own.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapters.domain.names import PermissionId, Unit, split_version
from adapters.domain.pages import Page
from adapters.domain.permissions import Permission
from adapters.domain.principals import Principal
from adapters.domain.versions import Version
from adapters.errors import InvalidRequest, NotFound
from service.api.request import CursorOf, PrincipalOf, RuntimeOf, Text, body_of, page
from service.api.route_commands import WhyOf
from service.reconcile.route_table import unknown_model
from service.runtime import Runtime

router = APIRouter(prefix="/v1/fine_tuning/checkpoints/{checkpoint}/permissions")

MAX_UNITS = 100
_ORDERS = ("ascending", "descending")


class GrantPermissions(BaseModel):
    """The body of `permissions.create`."""

    model_config = ConfigDict(extra="forbid")

    project_ids: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(
        min_length=1, max_length=MAX_UNITS
    )


@router.post("")
async def grant(
    checkpoint: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Lets units be answered by a version; one that is let already stays so."""
    asked = await body_of(request, GrantPermissions)

    def granted() -> dict[str, Any]:
        version = _version(runtime, principal, checkpoint)
        units = [_unit(runtime, version, named) for named in asked.project_ids]
        found = runtime.registry.permissions.grant(version.id, units, principal)
        whole = Page(items=found, has_more=False)
        return page([wire_permission(each) for each in found], whole)

    answer = await runtime.threads.command(principal, granted)
    runtime.swap.routes.repeat.kick()
    return answer


@router.get("")
async def list_permissions(
    checkpoint: str,
    runtime: RuntimeOf,
    principal: PrincipalOf,
    cursor: CursorOf,
    project_id: Text = None,
    order: Text = None,
) -> dict[str, Any]:
    """Who may use a version; newest first unless `order=ascending`."""
    if order not in (None, *_ORDERS):
        raise InvalidRequest("`order` must be `ascending` or `descending`", param="order")

    def read() -> dict[str, Any]:
        version = _version(runtime, principal, checkpoint)
        listed = runtime.registry.permissions.list(
            version.id,
            principal,
            unit=None if project_id is None else Unit(project_id),
            after=cursor.after,
            limit=cursor.limit,
            newest_first=order != "ascending",
        )
        return page([wire_permission(each) for each in listed.items], listed)

    return await runtime.threads.read(principal, read)


@router.delete("/{permission_id}")
async def withdraw(
    checkpoint: str, permission_id: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Ends a permission: requests that come after every replica has seen it are refused."""

    def end() -> None:
        version = _version(runtime, principal, checkpoint)
        permission = PermissionId(permission_id)
        runtime.registry.permissions.withdraw(version.id, permission, principal, reason=why.reason)

    await runtime.threads.command(principal, end)
    runtime.swap.routes.repeat.kick()
    return {"id": permission_id, "object": "checkpoint.permission", "deleted": True}


def _version(runtime: Runtime, principal: Principal, checkpoint: str) -> Version:
    name = split_version(checkpoint)
    if name is None:
        raise unknown_model()
    try:
        return runtime.registry.versions.get(*name, principal)
    except NotFound:
        raise unknown_model() from None


def _unit(runtime: Runtime, version: Version, named: str) -> Unit:
    units = runtime.units.current.units.by_name
    if named not in units:
        raise NotFound(f"there is no unit `{named}`", param="project_ids", code="unit_not_found")
    if named == version.unit:
        raise InvalidRequest(f"{version.name} is {named}'s own", param="project_ids")
    return Unit(named)


def wire_permission(permission: Permission) -> dict[str, Any]:
    """OpenAI's checkpoint permission object; a project is a unit."""
    return {
        "id": permission.id,
        "object": "checkpoint.permission",
        "created_at": int(permission.created_at),
        "project_id": permission.unit,
    }
