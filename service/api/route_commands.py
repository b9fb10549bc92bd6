"""What every command over a route has in common: its body, its version, its wait and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from adapters.domain.audit import parse_reason
from adapters.domain.names import Alias, Unit, VersionId, parse_version, split_version
from adapters.domain.principals import Principal
from adapters.domain.routes import Rollout, RolloutState, Route
from adapters.domain.versions import Version
from adapters.errors import Conflict, InvalidRequest, WardrobeError
from adapters.registry.ports import RouteCommand
from service.api.adapter_objects import wire_rollout
from service.api.request import body_of, unit_of_alias
from service.reconcile.rollouts import LAST_LOOK_SECONDS, Outcome
from service.runtime import Runtime

MAX_WAIT = 300.0


def _parsed(reason: str | None) -> str | None:
    try:
        return parse_reason(reason)
    except InvalidRequest as error:
        raise ValueError(error.message) from None


Reason = Annotated[str | None, AfterValidator(_parsed)]
"""Why, in the operator's words; kept with the rollout and in the audit log."""


class Why(BaseModel):
    """The body of a command that says nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Reason = None


async def _why_of(request: Request) -> Why:
    return await body_of(request, Why)


WhyOf = Annotated[Why, Depends(_why_of)]


class Waiting(BaseModel):
    """How long a command's answer waits for its rollout. Types are taken at their word."""

    model_config = ConfigDict(extra="forbid", strict=True)

    wait: bool = True
    timeout: float = Field(default=60.0, gt=0.0, le=MAX_WAIT)


class Command(Waiting):
    """The body of a command that names the generation it was decided on."""

    expected_generation: int | None = Field(default=None, ge=0)
    reason: Reason = None


class VersionCommand(Command):
    """The body of a command that names a version to load."""

    version: int | str


def seen_generation(alias: str, asked: Command) -> int:
    """Raises InvalidRequest where none is named."""
    if asked.expected_generation is None:
        raise InvalidRequest(
            f"name the route's generation that you saw: `route.generation` of GET "
            f"/v1/adapters/{alias}; repeating the request is then the same command",
            param="expected_generation",
            code="missing_required_parameter",
        )
    return asked.expected_generation


def command_of(
    runtime: Runtime, principal: Principal, alias: str, asked: Command, *, needs_seen: bool = True
) -> RouteCommand:
    """Raises NotFound for an alias that is not the principal's, InvalidRequest."""
    unit = unit_of_alias(runtime, principal, alias)
    seen = seen_generation(alias, asked) if needs_seen else asked.expected_generation
    return RouteCommand(
        alias=Alias(alias),
        unit=unit,
        principal=principal,
        expected_generation=seen,
        reason=asked.reason,
        needs_approval=needs_approval(runtime, unit),
    )


def needs_approval(runtime: Runtime, unit: Unit) -> bool:
    """Whether the unit asks for two people."""
    return runtime.units.current.units.get(unit).gates.approval == "second_person"


async def find_version(
    runtime: Runtime, principal: Principal, adapter: str, number: int
) -> Version:
    """Raises NotFound."""
    get = runtime.registry.versions.get
    return await runtime.threads.read(principal, get, adapter, number, principal)


async def version_to_load(
    runtime: Runtime, principal: Principal, alias: str, named_so: int | str
) -> Version:
    """Raises NotFound, and Conflict where no replica is of its base: nobody would ever load it."""
    version = await find_version(runtime, principal, *named(alias, str(named_so)))
    replicas = await runtime.threads.read(principal, runtime.registry.replicas.list)
    if all(replica.base_fingerprint != version.base_fingerprint for replica in replicas):
        raise Conflict(
            f"{version.name} was trained on another base model than the one served; train it anew",
            code="base_mismatch",
        )
    return version


async def load_version(
    runtime: Runtime,
    principal: Principal,
    command: RouteCommand,
    asked: VersionCommand,
    begin: Callable[[RouteCommand, VersionId], Rollout],
) -> dict[str, Any]:
    """Begins a rollout that loads the version asked for, and answers with it.

    Raises what `version_to_load` raises, and `begin`.
    """
    version = await version_to_load(runtime, principal, command.alias, asked.version)
    rollout = await runtime.threads.command(principal, begin, command, version.id)
    return await answer(runtime, principal, rollout, asked, version=version.name)


async def answer(
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
    if asked.wait and rollout.state is not RolloutState.FAILED:  # else it was ended by an abort
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


def named(alias: str, version: str) -> tuple[str, int]:
    """`8` or `support:8` → (adapter, number). Raises InvalidRequest."""
    return parse_version(version if split_version(version) else f"{alias}:{version}")
