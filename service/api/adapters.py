"""`/v1/adapters` and `/v1/units`: what OpenAI has no words for.

An adapter is listed under its alias, with its route and its versions; promote and rollback move
the route, retire withdraws a version. Same conventions as OpenAI's: list objects, cursors, the
error envelope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapters.domain.evaluations import BASE
from adapters.domain.names import Alias, Unit, VersionId, parse_version, split_version, version_name
from adapters.domain.principals import Principal
from adapters.domain.routes import Rollout, Route
from adapters.domain.versions import Version
from adapters.errors import Conflict, InvalidRequest, WardrobeError
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
    body_of,
    page,
    unit_of_alias,
)
from service.reconcile.rollouts import LAST_LOOK_SECONDS, Outcome
from service.runtime import Runtime

router = APIRouter(prefix="/v1")

MAX_WAIT = 300.0


class Waiting(BaseModel):
    """How long a command's answer waits for its rollout. Types are taken at their word."""

    model_config = ConfigDict(extra="forbid", strict=True)

    wait: bool = True
    timeout: float = Field(default=60.0, gt=0.0, le=MAX_WAIT)


class Promote(Waiting):
    """The body of promote."""

    version: int | str
    expected_generation: int | None = Field(default=None, ge=0)


class Rollback(Waiting):
    """The body of rollback."""

    expected_generation: int | None = Field(default=None, ge=0)


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
    version = await _version(runtime, principal, *_named(alias, number))
    return wire_version(runtime, version)


@router.post("/adapters/{alias}/versions/{number}/retire")
async def retire(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Withdraws a version for good. 409 while its alias serves it.

    Also where no unit names the alias any more: that is when versions are left behind.
    """
    version = await _version(runtime, principal, *_named(alias, number))
    retired = await runtime.threads.command(
        principal,
        runtime.registry.versions.retire,
        version.id,
        principal,
        aliases=_aliases_of(runtime, version.unit),
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
        subject = version_name(*_named(alias, str(subject)))
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


def _aliases_of(runtime: Runtime, unit: Unit) -> set[Alias]:
    """Those that the configuration gives to the unit; none where it is gone."""
    owners = runtime.units.current.units.owner_of.items()
    return {alias for alias, owner in owners if owner == unit}


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


async def _version(runtime: Runtime, principal: Principal, adapter: str, number: int) -> Version:
    get = runtime.registry.versions.get
    return await runtime.threads.read(principal, get, adapter, number, principal)


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
    version = await _version(runtime, principal, *_named(alias, str(asked.version)))
    await _check_base(runtime, principal, version)
    rollout = await runtime.threads.command(
        principal,
        runtime.registry.rollouts.promote,
        Alias(alias),
        version.id,
        principal,
        unit=unit,
        expected_generation=asked.expected_generation,
    )
    return await _answer(runtime, principal, rollout, asked, version=version.name)


async def _check_base(runtime: Runtime, principal: Principal, version: Version) -> None:
    """Raises Conflict where no replica is of the version's base: nobody would ever load it."""
    replicas = await runtime.threads.read(principal, runtime.registry.replicas.list)
    if all(replica.base_fingerprint != version.base_fingerprint for replica in replicas):
        raise Conflict(
            f"{version.name} was trained on another base model than the one served; train it anew",
            code="base_mismatch",
        )


@router.post("/adapters/{alias}/rollback")
async def rollback(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Returns to the newest good version before the live one, which is marked.

    It names the generation it was decided on: repeating the request is the same rollback.
    """
    unit = unit_of_alias(runtime, principal, alias)
    asked = await body_of(request, Rollback)
    if asked.expected_generation is None:
        raise InvalidRequest(
            f"name the route's generation that you saw: `route.generation` of GET "
            f"/v1/adapters/{alias}; repeating the request is then the same rollback",
            param="expected_generation",
            code="missing_required_parameter",
        )
    rollout = await runtime.threads.command(
        principal,
        runtime.registry.rollouts.roll_back,
        Alias(alias),
        principal,
        unit=unit,
        expected_generation=asked.expected_generation,
    )
    return await _answer(runtime, principal, rollout, asked)


async def _answer(
    runtime: Runtime,
    principal: Principal,
    rollout: Rollout,
    asked: Waiting,
    *,
    version: str | None = None,
) -> dict[str, Any]:
    """The rollout as it is once it has ended, or after `timeout` seconds.

    It is committed: nothing from here on is an error that a client repeats, but for a rollout that
    has failed, which says so and changed nothing.
    """
    runtime.swap.rollouts.kick()
    runtime.swap.routes.repeat.kick()
    outcome = Outcome(rollout=rollout)
    if asked.wait:
        outcome = await runtime.swap.rollouts.wait(rollout, timeout=asked.timeout)
    elif rollout.state.open:
        waits_for = await runtime.swap.rollouts.waits_for(rollout)
        outcome = Outcome(rollout=rollout, waits_for=waits_for)
    return wire_rollout(
        runtime,
        outcome.rollout,
        outcome.waits_for,
        version=version,
        route=await _route(runtime, principal, outcome.rollout),
    )


async def _route(runtime: Runtime, principal: Principal, rollout: Rollout) -> Route:
    of = (rollout.alias, rollout.unit)
    try:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            return await runtime.threads.read(principal, runtime.registry.routes.route, *of)
    except (WardrobeError, TimeoutError):  # the table's will do
        return runtime.table.route(*of)


def _named(alias: str, version: str) -> tuple[str, int]:
    """`8` or `support:8` → (adapter, number). Raises InvalidRequest."""
    return parse_version(version if split_version(version) else f"{alias}:{version}")
