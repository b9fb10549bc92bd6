"""`/v1/adapters/{alias}/canary` and `…/shadow`: versions that answer a part, or only copies."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapters.domain.canaries import Score
from adapters.domain.canary_policy import CanaryPolicy, PerCent
from adapters.domain.names import Alias
from adapters.errors import NotFound
from service.api.canary_objects import wire_canary, wire_shadow
from service.api.request import PrincipalOf, RuntimeOf, body_of, unit_of_alias
from service.api.route_commands import (
    Command,
    VersionCommand,
    answer,
    command_of,
    find_version,
    load_version,
    named,
)

router = APIRouter(prefix="/v1/adapters/{alias}")

MAX_SCORES_AT_ONCE = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Start(VersionCommand, CanaryPolicy):
    """The body that starts a canary."""


class Weight(Command):
    """The body that sets a canary's weight."""

    weight: PerCent


class StartShadow(VersionCommand):
    """The body that starts a shadow."""

    share: PerCent = 10.0


class ScoreBody(_Strict):
    """What something outside says of one answer."""

    id: str = Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")
    version: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?:[1-9][0-9]{0,8}$")
    score: float = Field(ge=0.0, le=1.0, allow_inf_nan=False)


class Scores(_Strict):
    """The body of scores."""

    scores: list[ScoreBody] = Field(min_length=1, max_length=MAX_SCORES_AT_ONCE)


@router.post("/canary")
async def start_canary(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Loads a version everywhere, and gives it the first part of its schedule."""
    asked = await body_of(request, Start)
    command = command_of(runtime, principal, alias, asked)
    start = partial(runtime.registry.canaries.start, plan=asked.plan())
    return await load_version(runtime, principal, command, asked, start)


@router.get("/canary")
async def show_canary(alias: str, runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """The newest canary: how far it is, what was counted, and what that says."""
    unit = unit_of_alias(runtime, principal, alias)
    newest = runtime.registry.canaries.newest
    run, arms = await runtime.threads.read(principal, newest, Alias(alias), unit)
    by_id = runtime.registry.versions.by_id
    version = await runtime.threads.read(principal, by_id, run.version)
    return wire_canary(run, arms, version=version.name, route=runtime.table.route(run.alias, unit))


@router.post("/canary/weight")
async def set_weight(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """The canary answers that many per cent, and goes on by commands alone."""
    asked = await body_of(request, Weight)
    command = command_of(runtime, principal, alias, asked)
    change = runtime.registry.canaries.set_weight
    rollout = await runtime.threads.command(principal, change, command, asked.weight)
    return await answer(runtime, principal, rollout, asked)


@router.post("/canary/scores")
async def add_scores(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """What something outside says of answers, each once: repeating an id changes nothing."""
    unit = unit_of_alias(runtime, principal, alias)
    asked = await body_of(request, Scores)
    ids = {}
    for name in {score.version for score in asked.scores}:
        ids[name] = (await find_version(runtime, principal, *named(alias, name))).id
    scores = [
        Score(id=score.id, version=ids[score.version], value=score.score) for score in asked.scores
    ]
    add = runtime.registry.canaries.add_scores
    new = await runtime.threads.command(principal, add, Alias(alias), unit, principal, scores)
    return {"object": "adapter.scores", "alias": alias, "received": len(scores), "new": new}


@router.post("/shadow")
async def start_shadow(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Loads a version everywhere, and gives it copies of a part of the requests."""
    asked = await body_of(request, StartShadow)
    command = command_of(runtime, principal, alias, asked)
    start = partial(runtime.registry.canaries.shadow, share=asked.share)
    return await load_version(runtime, principal, command, asked, start)


@router.get("/shadow")
async def show_shadow(alias: str, runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """The shadow, and how its answers compare with those that callers got."""
    unit = unit_of_alias(runtime, principal, alias)
    of = (Alias(alias), unit)
    route = await runtime.threads.read(principal, runtime.registry.routes.route, *of)
    shadow = route.shadow
    if shadow is None:
        raise NotFound(f"{alias} has no shadow")
    compared = runtime.registry.canaries.compared
    found = await runtime.threads.read(principal, compared, shadow.rollout, shadow.version)
    by_id = runtime.registry.versions.by_id
    version = await runtime.threads.read(principal, by_id, shadow.version)
    return wire_shadow(shadow, found, alias=alias, version=version.name)


@router.post("/shadow/end")
async def end_shadow(
    alias: str, request: Request, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """No request is copied any more."""
    asked = await body_of(request, Command)
    command = command_of(runtime, principal, alias, asked)
    end = runtime.registry.canaries.end_shadow
    rollout = await runtime.threads.command(principal, end, command)
    return await answer(runtime, principal, rollout, asked)
