"""`…/versions/{number}/approve` and `…/reject`: what somebody says of a version of others,
and `…/reject/withdraw`, for somebody who is no longer there to take it back.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from adapters.domain.approvals import Approval, Verdict
from adapters.domain.principals import Principal
from service.api.request import PrincipalOf, RuntimeOf, body_of, unit_of_alias
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


class Withdrawal(Why):
    """Whose reject is taken back, and why."""

    actor: Annotated[str, Field(min_length=1, max_length=128)]
    """As the reject's `actor` was told."""


async def _withdrawal_of(request: Request) -> Withdrawal:
    return await body_of(request, Withdrawal)


@router.post("/reject/withdraw")
async def withdraw(
    alias: str,
    number: str,
    runtime: RuntimeOf,
    principal: PrincipalOf,
    said: Annotated[Withdrawal, Depends(_withdrawal_of)],
) -> dict[str, Any]:
    """Takes back what somebody else has said against a version: what is left. For admins."""
    unit_of_alias(runtime, principal, alias)
    version = await find_version(runtime, principal, *named(alias, number))
    left = await runtime.threads.command(
        principal,
        runtime.registry.approvals.withdraw_rejection,
        version.id,
        said.actor,
        principal,
        reason=said.reason,
    )
    return {"object": "list", "data": [wire_approval(version.name, each) for each in left]}


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
