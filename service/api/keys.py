"""`/v1/keys`: gives keys to named holders, rotates and ends them. The admin's alone.

A secret stands in the answer that made it and nowhere else: a request that is repeated with its
`Idempotency-Key` finds the key, and no secret.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from adapters.domain.api_keys import (
    DEFAULT_LIFETIME_S,
    DEFAULT_OVERLAP_S,
    MAX_LIFETIME_S,
    MAX_OVERLAP_S,
    MIN_LIFETIME_S,
    Key,
    issue,
    succeed,
)
from adapters.domain.limits import NO_KEY_LIMITS, KeyLimits
from adapters.domain.principals import SCOPES_OF, Principal, Scope
from adapters.domain.units import grant_in
from adapters.errors import Unavailable
from service.api.adapter_objects import whole
from service.api.request import (
    CursorOf,
    PrincipalOf,
    RuntimeOf,
    body_of,
    idempotency_key_of,
    page,
    tell_replay,
)
from service.api.route_commands import WhyOf
from service.runtime import Runtime

router = APIRouter(prefix="/v1/keys")


class CreateKey(BaseModel):
    """Whose key it becomes, what it may do, and for how long."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=40)
    unit: str | None = Field(default=None, max_length=40)
    scopes: list[str] = Field(min_length=1, max_length=len(Scope))
    aliases: list[str] | None = Field(default=None, min_length=1, max_length=64)
    expires_in: float | None = Field(default=None, ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)
    """Seconds; a year where nothing is said."""
    limits: KeyLimits = NO_KEY_LIMITS


class RotateKey(BaseModel):
    """How many seconds the key stays valid beside its successor."""

    model_config = ConfigDict(extra="forbid")

    overlap: float = Field(default=DEFAULT_OVERLAP_S, ge=0.0, le=MAX_OVERLAP_S)


@router.post("")
async def create_key(
    request: Request, response: Response, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Makes a key. 409 `too_many_keys` where its holder has two in force."""
    asked = await body_of(request, CreateKey)
    units = runtime.units.current.units
    grant = grant_in(units, asked.unit, scopes=asked.scopes, aliases=asked.aliases)
    lifetime_s = DEFAULT_LIFETIME_S if asked.expires_in is None else asked.expires_in
    secret, new = issue(
        grant, asked.name, lifetime_s=lifetime_s, pepper=runtime.pepper, limits=asked.limits
    )
    made = await runtime.threads.command(
        principal,
        runtime.registry.keys.issue,
        new,
        by=principal,
        idempotency_key=idempotency_key_of(request),
    )
    tell_replay(response, replayed=made.id != new.id)
    return await _shown(runtime, made, secret if made.id == new.id else None)


@router.get("")
async def list_keys(runtime: RuntimeOf, principal: PrincipalOf, cursor: CursorOf) -> dict[str, Any]:
    """Those in force, newest first."""
    listed = await runtime.threads.read(
        principal, runtime.registry.keys.list, after=cursor.after, limit=cursor.limit
    )
    return page([wire_key(key) for key in listed.items], listed)


@router.get("/{key_id}")
async def retrieve_key(key_id: str, runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """One key, in force or not."""
    return wire_key(await _key(runtime, principal, key_id))


async def _key(runtime: Runtime, principal: Principal, key_id: str) -> Key:
    return await runtime.threads.read(principal, runtime.registry.keys.get, key_id)


@router.post("/{key_id}/rotate")
async def rotate_key(
    key_id: str, request: Request, response: Response, runtime: RuntimeOf, principal: PrincipalOf
) -> dict[str, Any]:
    """Makes the key that follows this one, which expires after `overlap` seconds."""
    asked = await body_of(request, RotateKey)
    before = await _key(runtime, principal, key_id)
    secret, new = succeed(before, pepper=runtime.pepper)
    made = await runtime.threads.command(
        principal,
        runtime.registry.keys.rotate,
        before.id,
        new,
        overlap_s=asked.overlap,
        by=principal,
        idempotency_key=idempotency_key_of(request),
    )
    tell_replay(response, replayed=made.id != new.id)
    return await _shown(runtime, made, secret if made.id == new.id else None)


@router.post("/{key_id}/revoke")
async def revoke_key(
    key_id: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Ends a key for ever, within a second in every process. Repeating it changes nothing."""
    revoke = runtime.registry.keys.revoke
    ended = await runtime.threads.command(
        principal, revoke, key_id, by=principal, reason=why.reason
    )
    await _let_know(runtime)
    return wire_key(ended)


async def _shown(runtime: Runtime, key: Key, secret: str | None) -> dict[str, Any]:
    """The key with its secret, this once."""
    await _let_know(runtime)
    return {**wire_key(key), "secret": secret}


async def _let_know(runtime: Runtime) -> None:
    """Who has been answered may use the key, or no more, by this process at once."""
    with suppress(Unavailable):  # it is committed, and this process learns of it a bit later
        await runtime.swap.routes.refresh()


def wire_key(key: Key) -> dict[str, Any]:
    """The key as an object, without its hash."""
    return {
        "id": key.id,
        "object": "api_key",
        "name": key.name,
        "role": key.role,
        "unit": key.unit,
        "scopes": sorted(SCOPES_OF[key.role] if key.scopes is None else key.scopes),
        "aliases": None if key.aliases is None else sorted(key.aliases),
        "limits": key.limits.said,
        "created_at": int(key.created_at),
        "created_by": key.created_by,
        "expires_at": whole(key.expires_at),
        "revoked_at": whole(key.revoked_at),
        "last_used_at": whole(key.last_used_at),
    }
