"""`/v1/adapters` and `/v1/units`: what OpenAI has no words for.

An adapter is listed under its alias, with its route and its versions; promote and rollback move
the route. Same conventions as OpenAI's: list objects, cursors, the error envelope.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapters.domain.names import Alias, Unit, VersionId, parse_version, split_version
from adapters.domain.principals import Caller
from adapters.domain.routes import Rollout, Route, rollback_target
from adapters.domain.versions import Version
from adapters.errors import InvalidRequest
from service.api.request import (
    CallerOf,
    CursorOf,
    RuntimeOf,
    body_of,
    in_thread,
    page,
    unit_of_alias,
)
from service.reconcile import rollouts
from service.runtime import Runtime

router = APIRouter(prefix="/v1")

MAX_WAIT = 300.0


class Promote(BaseModel):
    """The body of promote."""

    model_config = ConfigDict(extra="forbid")

    version: int | str
    expected_generation: int | None = Field(default=None, ge=0)
    wait: bool = True
    timeout: float = Field(default=60.0, gt=0.0, le=MAX_WAIT)


class Rollback(BaseModel):
    """The body of rollback."""

    model_config = ConfigDict(extra="forbid")

    expected_generation: int | None = Field(default=None, ge=0)
    wait: bool = True
    timeout: float = Field(default=60.0, gt=0.0, le=MAX_WAIT)


@router.get("/units")
async def list_units(runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """The units this caller may see."""
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
        if caller.may_act_for(name)
    ]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/adapters")
async def list_adapters(runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """Every alias of the caller's units, with its route."""
    owners = sorted(runtime.units.current.units.owner_of.items())
    data = [
        _wire_adapter(runtime, alias, unit) for alias, unit in owners if caller.may_act_for(unit)
    ]
    return {"object": "list", "data": data, "has_more": False}


@router.get("/adapters/{alias}")
async def show_adapter(alias: str, runtime: RuntimeOf, caller: CallerOf) -> dict[str, Any]:
    """One alias."""
    return _wire_adapter(runtime, Alias(alias), unit_of_alias(runtime, caller, alias))


@router.get("/adapters/{alias}/versions")
async def list_versions(
    alias: str, runtime: RuntimeOf, caller: CallerOf, cursor: CursorOf
) -> dict[str, Any]:
    """The adapter's versions, newest first, rejected ones too."""
    listed = await in_thread(
        runtime.registry.versions,
        unit=unit_of_alias(runtime, caller, alias),
        adapter=alias,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([_wire_version(runtime, version) for version in listed.items], listed)


@router.get("/adapters/{alias}/versions/{number}")
async def show_version(
    alias: str, number: str, runtime: RuntimeOf, caller: CallerOf
) -> dict[str, Any]:
    """One version: its data, base, recipe, gates and state."""
    unit = unit_of_alias(runtime, caller, alias)
    version = await in_thread(runtime.registry.version, *_named(alias, number), unit=unit)
    return _wire_version(runtime, version)


@router.get("/adapters/{alias}/rollouts")
async def list_rollouts(
    alias: str, runtime: RuntimeOf, caller: CallerOf, cursor: CursorOf
) -> dict[str, Any]:
    """Who changed the route, when, and to what; newest first."""
    unit = unit_of_alias(runtime, caller, alias)
    if cursor.after is not None and not cursor.after.isdigit():
        raise InvalidRequest("`after` must be an id of this list", param="after")
    listed = await in_thread(
        runtime.registry.rollouts, alias=Alias(alias), after=cursor.after, limit=cursor.limit
    )
    items = [await _wire_rollout(runtime, rollout, unit) for rollout in listed.items]
    return page(items, listed)


@router.post("/adapters/{alias}/promote")
async def promote(
    alias: str, request: Request, runtime: RuntimeOf, caller: CallerOf
) -> dict[str, Any]:
    """Puts a version live. 409 when the route moved, another rollout runs or a gate said no."""
    unit = unit_of_alias(runtime, caller, alias)
    asked = await body_of(request, Promote)
    version = await in_thread(
        runtime.registry.version, *_named(alias, str(asked.version)), unit=unit
    )
    command = _command(caller, alias, unit, "promote", version.id)
    return await _run(
        runtime,
        dataclasses.replace(command, expected_generation=asked.expected_generation),
        wait=asked.timeout if asked.wait else 0.0,
    )


@router.post("/adapters/{alias}/rollback")
async def rollback(
    alias: str, request: Request, runtime: RuntimeOf, caller: CallerOf
) -> dict[str, Any]:
    """Returns to the previous version, which is still resident."""
    unit = unit_of_alias(runtime, caller, alias)
    asked = await body_of(request, Rollback)
    route = await in_thread(runtime.registry.route, Alias(alias), unit=unit)
    command = _command(caller, alias, unit, "rollback", rollback_target(route))
    # without a generation of the caller's, the one just read: two rollbacks at once are one
    expected = route.generation if asked.expected_generation is None else asked.expected_generation
    return await _run(
        runtime,
        dataclasses.replace(command, expected_generation=expected),
        wait=asked.timeout if asked.wait else 0.0,
    )


def _command(
    caller: Caller, alias: str, unit: Unit, action: str, target: VersionId
) -> rollouts.Command:
    return rollouts.Command(
        alias=Alias(alias),
        unit=unit,
        action=action,
        target=target,
        actor=caller.key_id,
        expected_generation=None,
    )


async def _run(runtime: Runtime, command: rollouts.Command, *, wait: float) -> dict[str, Any]:
    rollout = await rollouts.begin(runtime, command)
    if wait:
        rollout = await rollouts.complete(runtime, rollout, timeout=wait)
    return await _wire_rollout(runtime, rollout, command.unit)


def _named(alias: str, version: str) -> tuple[str, int]:
    """`8` or `support:8` → (adapter, number). Raises InvalidRequest."""
    return parse_version(version if split_version(version) else f"{alias}:{version}")


def _wire_adapter(runtime: Runtime, alias: Alias, unit: Unit) -> dict[str, Any]:
    route = runtime.converger.snapshot.routes.get(alias, Route(alias=alias, unit=unit))
    return {"id": alias, "object": "adapter", "unit": unit, "route": _wire_route(runtime, route)}


def _wire_route(runtime: Runtime, route: Route) -> dict[str, Any]:
    versions = runtime.converger.snapshot.versions
    named = {
        role: versions[version].name if version in versions else None
        for role, version in (("stable", route.stable), ("previous", route.previous))
        if version is not None
    }
    return {
        "alias": route.alias,
        "stable": named.get("stable"),
        "previous": named.get("previous"),
        "generation": route.generation,
        "updated_at": int(route.updated_at) or None,
    }


def _wire_version(runtime: Runtime, version: Version) -> dict[str, Any]:
    return {
        "id": version.name,
        "object": "adapter.version",
        "adapter": version.adapter,
        "number": version.number,
        "unit": version.unit,
        "state": str(version.state),
        "digest": version.digest,
        "base_fingerprint": version.base_fingerprint,
        "rank": version.rank,
        "bytes": version.size_bytes,
        "job_id": version.job_id,
        "created_at": int(version.created_at),
        "gates": [dataclasses.asdict(gate) for gate in version.gates],
        "evidence": version.evidence,
        "resident": version.id in runtime.engine.resident,
        "load_error": runtime.converger.failure_of(version.id),
    }


async def _wire_rollout(runtime: Runtime, rollout: Rollout, unit: Unit) -> dict[str, Any]:
    target = await in_thread(runtime.registry.version_by_id, rollout.target)
    route = await in_thread(runtime.registry.route, rollout.alias, unit=unit)
    ended = rollout.finished_at
    return {
        "id": str(rollout.id),
        "object": "adapter.rollout",
        "alias": rollout.alias,
        "action": rollout.action,
        "version": target.name,
        "state": str(rollout.state),
        "actor": rollout.actor,
        "error": rollout.error,
        "created_at": rollout.created_at,
        "finished_at": ended,
        "seconds": None if ended is None else round(ended - rollout.created_at, 4),
        "route": _wire_route(runtime, route),
    }
