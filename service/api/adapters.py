"""`/v1/adapters` and `/v1/units`: what OpenAI has no words for.

An adapter is listed under its alias, with its route and its versions; promote, rollback and abort
move the route, warm and pin load a version, retire withdraws one. Same conventions as OpenAI's:
list objects, cursors, the error envelope.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from adapters.domain.evaluations import BASE
from adapters.domain.names import Alias, VersionId, version_name
from adapters.errors import InvalidRequest
from service.api.adapter_objects import (
    wire_adapter,
    wire_evaluation,
    wire_rollout,
    wire_version,
)
from service.api.request import (
    CursorOf,
    PrincipalOf,
    RuntimeOf,
    Text,
    aliases_of,
    body_of,
    page,
    unit_of_alias,
)
from service.api.route_commands import (
    Command,
    Reason,
    VersionCommand,
    Waiting,
    Why,
    WhyOf,
    answer,
    command_of,
    find_version,
    load_version,
    named,
    needs_approval,
    seen_generation,
    version_to_load,
)
from service.runtime import Runtime

router = APIRouter(prefix="/v1")


class Promote(Waiting):
    """The body of promote."""

    version: int | str
    expected_generation: int | None = Field(default=None, ge=0)
    reason: Reason = None


class Warm(VersionCommand):
    """The body of warm; the generation may be left out, for no route moves."""


class Pin(Why):
    """The body of pin."""

    pinned: bool = True


@router.get("/units")
async def list_units(runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """The units this principal may see."""
    units = runtime.units.current.units
    data = [
        {
            "id": config.unit,
            "object": "unit",
            "display_name": config.display_name or config.unit,
            "aliases": list(config.aliases),
            "recipe": config.recipe.model_dump(exclude_none=True),
            "gates": config.gates.model_dump(),
            "limits": config.limits.model_dump(),
        }
        for name, config in sorted(units.by_name.items())
        if principal.may_act_for(name)
    ]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/adapters")
async def list_adapters(runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """Every alias of the principal's units, with its route."""
    owners = sorted(runtime.units.current.units.owner_of.items())
    data = [
        wire_adapter(runtime, alias, unit) for alias, unit in owners if principal.may_act_for(unit)
    ]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/adapters/{alias}")
async def show_adapter(alias: str, runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """One alias."""
    return wire_adapter(runtime, Alias(alias), unit_of_alias(runtime, principal, alias))


@router.get("/adapters/{alias}/versions")
async def list_versions(
    alias: str, runtime: RuntimeOf, principal: PrincipalOf, cursor: CursorOf
) -> dict[str, Any]:
    """The adapter's versions, newest first, rejected ones too."""
    unit_of_alias(runtime, principal, alias)
    listed = await runtime.threads.read(
        principal,
        runtime.registry.versions.list,
        principal,
        adapter=alias,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([wire_version(runtime, version) for version in listed.items], listed)


@router.get("/adapters/{alias}/versions/{number}")
async def show_version(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """One version: its data, base, recipe, gates and state."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    return wire_version(runtime, version)


@router.post("/adapters/{alias}/versions/{number}/retire")
async def retire(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Withdraws a version for good. 409 while its alias serves it.

    Also where no unit names the alias any more: that is when versions are left behind.
    """
    version = await find_version(runtime, principal, *named(alias, number))
    retired = await runtime.threads.command(
        principal,
        runtime.registry.versions.retire,
        version.id,
        principal,
        aliases=aliases_of(runtime, version.unit),
        reason=why.reason,
    )
    runtime.swap.routes.repeat.kick()
    return wire_version(runtime, retired)


@router.get("/adapters/{alias}/evaluations")
async def list_evaluations(
    alias: str,
    runtime: RuntimeOf,
    principal: PrincipalOf,
    cursor: CursorOf,
    subject: Text = None,
) -> dict[str, Any]:
    """What the gates are computed from, newest first; `subject` is `base` or a version."""
    unit_of_alias(runtime, principal, alias)
    if subject not in (None, BASE):
        subject = version_name(*named(alias, str(subject)))
    listed = await runtime.threads.read(
        principal,
        runtime.registry.evaluations.list,
        principal,
        adapter=alias,
        subject=subject,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([wire_evaluation(each) for each in listed.items], listed)


@router.get("/adapters/{alias}/rollouts")
async def list_rollouts(
    alias: str, runtime: RuntimeOf, principal: PrincipalOf, cursor: CursorOf
) -> dict[str, Any]:
    """Who changed the route, when, and to what; newest first."""
    unit = unit_of_alias(runtime, principal, alias)
    if cursor.after is not None and not cursor.after.isdigit():
        raise InvalidRequest("`after` must be an id of this list", param="after")
    listed = await runtime.threads.read(
        principal,
        runtime.registry.rollouts.history,
        Alias(alias),
        unit,
        after=cursor.after,
        limit=cursor.limit,
    )
    targets = {rollout.target for rollout in listed.items}
    names = await runtime.threads.read(principal, _names_of, runtime, targets)
    items = [
        wire_rollout(
            runtime,
            rollout,
            await runtime.swap.rollouts.waits_for(rollout),
            version=names[rollout.target],
        )
        for rollout in listed.items
    ]
    return page(items, listed)


def _names_of(runtime: Runtime, versions: Iterable[VersionId]) -> dict[VersionId, str]:
    """Also of those that are not served any more. Blocks."""
    return {each: runtime.registry.versions.by_id(each).name for each in versions}


@router.post("/adapters/{alias}/promote")
async def promote(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Puts a version live. 409 when the route moved, another rollout runs or a gate said no."""
    unit = unit_of_alias(runtime, principal, alias)
    asked = await body_of(request, Promote)
    version = await version_to_load(runtime, principal, alias, asked.version)
    rollout = await runtime.threads.command(
        principal,
        runtime.registry.rollouts.promote,
        Alias(alias),
        version.id,
        principal,
        unit=unit,
        expected_generation=asked.expected_generation,
        reason=asked.reason,
        needs_approval=needs_approval(runtime, unit),
    )
    return await answer(runtime, principal, rollout, asked, version=version.name)


@router.post("/adapters/{alias}/rollback")
async def rollback(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Returns to the newest good version before the live one, which is marked; while a canary
    answers, takes that out and marks it.

    It names the generation it was decided on: repeating the request is the same rollback.
    """
    unit = unit_of_alias(runtime, principal, alias)
    asked = await body_of(request, Command)
    rollout = await runtime.threads.command(
        principal,
        runtime.registry.rollouts.roll_back,
        Alias(alias),
        principal,
        unit=unit,
        expected_generation=seen_generation(alias, asked),
        reason=asked.reason,
    )
    return await answer(runtime, principal, rollout, asked)


@router.post("/adapters/{alias}/abort")
async def abort(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Ends what is under way: what is loading fails, and a canary answers no more."""
    asked = await body_of(request, Command)
    command = command_of(runtime, principal, alias, asked)
    rollout = await runtime.threads.command(principal, runtime.registry.rollouts.abort, command)
    return await answer(runtime, principal, rollout, asked)


@router.post("/adapters/{alias}/warm")
async def warm(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Loads a version everywhere, so that its first answer waits for nothing; moves no route."""
    asked = await body_of(request, Warm)
    command = command_of(runtime, principal, alias, asked, needs_seen=False)
    warm_up = runtime.registry.rollouts.warm
    return await load_version(runtime, principal, command, asked, warm_up)


@router.post("/adapters/{alias}/versions/{number}/pin")
async def pin(
    alias: str, number: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Keeps a version resident in every engine of its base, and its files; or no longer."""
    unit_of_alias(runtime, principal, alias)
    asked = await body_of(request, Pin)
    version = await find_version(runtime, principal, *named(alias, number))
    change = runtime.registry.versions.pin
    pinned = await runtime.threads.command(
        principal, change, version.id, principal, pinned=asked.pinned, reason=asked.reason
    )
    runtime.swap.routes.repeat.kick()
    return wire_version(runtime, pinned)
