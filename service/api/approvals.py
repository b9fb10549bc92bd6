"""`…/versions/{number}/approve` and `…/reject`: what somebody says of a version of others."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from adapters.domain.approvals import Approval, Verdict
from adapters.domain.principals import Principal
from service.api.request import PrincipalOf, RuntimeOf, unit_of_alias
from service.api.route_commands import Why, WhyOf, find_version, named
from service.runtime import Runtime

router = APIRouter(prefix="/v1/adapters/{alias}/versions/{number}")


@router.post("/approve")
async def approve(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Says that a version may go live. 403 for its own author."""
    return await _decide(runtime, principal, (alias, number), (Verdict.APPROVED, why))


@router.post("/reject")
async def reject(
    alias: str, number: str, runtime: RuntimeOf, principal: PrincipalOf, why: WhyOf
) -> dict[str, Any]:
    """Says that a version may not go live; no route moves, what is live stays so."""
    return await _decide(runtime, principal, (alias, number), (Verdict.REJECTED, why))


async def _decide(
    runtime: Runtime, principal: Principal, of: tuple[str, str], said: tuple[Verdict, Why]
) -> dict[str, Any]:
    (alias, number), (verdict, why) = of, said
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    approval = await runtime.threads.command(
        principal,
        runtime.registry.approvals.decide,
        version.id,
        verdict,
        principal,
        reason=why.reason,
    )
    return wire_approval(version.name, approval)


def wire_approval(version: str, approval: Approval) -> dict[str, Any]:
    """What somebody said, and when."""
    return {
        "object": "adapter.approval",
        "version": version,
        "verdict": str(approval.verdict),
        "actor": approval.actor,
        "role": approval.role,
        "reason": approval.reason,
        "created_at": int(approval.at),
    }
