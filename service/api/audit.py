"""`/v1/audit`: who changed what, from what to what and why; OpenAI has no words for most of it.

A unit reads what concerns it, an admin everything. The whole log's head, and whether the log is
intact, are the admin's to ask for.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from adapters.domain.audit import Entry, Head, Verdict, parse_anchor, verify
from adapters.domain.names import Unit
from adapters.domain.principals import Principal, Role
from adapters.errors import NotPermitted
from adapters.registry.ports import Audit, Which
from service.api.request import CursorOf, PrincipalOf, RuntimeOf, page, reach

router = APIRouter(prefix="/v1/audit")


def which_of(
    unit: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> Which:
    """The query's choice."""
    return Which(
        unit=None if unit is None else Unit(unit), actor=actor, action=action, subject=subject
    )


WhichOf = Annotated[Which, Depends(which_of)]


@router.get("")
async def list_entries(
    runtime: RuntimeOf, principal: PrincipalOf, cursor: CursorOf, which: WhichOf
) -> dict[str, Any]:
    """Newest first; `unit`, `actor`, `action` and `subject` choose among them."""
    reach(principal)
    listed = await runtime.threads.read(
        principal,
        runtime.registry.audit.list,
        principal,
        which,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([_wire_entry(entry, principal) for entry in listed.items], listed)


@router.get("/head")
async def head(runtime: RuntimeOf, principal: PrincipalOf) -> dict[str, Any]:
    """What stands for the log as it is; keep its `anchor` where nobody can change it."""
    _check_admin(principal)
    return wire_head(await runtime.threads.read(principal, runtime.registry.audit.head))


@router.get("/verify")
async def verify_log(
    runtime: RuntimeOf,
    principal: PrincipalOf,
    anchor: Annotated[list[str], Query(default_factory=list)],
) -> dict[str, Any]:
    """Walks the whole log; `anchor`, which may be repeated, is a head that was kept elsewhere."""
    _check_admin(principal)
    anchors = [parse_anchor(text) for text in anchor]
    audit = runtime.registry.audit
    return wire_verdict(await runtime.threads.read(principal, _verified, audit, anchors))


def _verified(audit: Audit, anchors: list[Head]) -> Verdict:
    return verify(audit.parts(), anchors=anchors)


def _check_admin(principal: Principal) -> None:
    if not principal.sees_every_unit:
        raise NotPermitted("the whole log is the admin's to verify")


def _wire_entry(entry: Entry, principal: Principal) -> dict[str, Any]:
    wire = {
        "id": str(entry.seq),
        "object": "audit.entry",
        "created_at": entry.at,
        "actor": entry.actor,
        "role": entry.role,
        "unit": entry.unit,
        "action": entry.action,
        "subject": entry.subject,
        "before": entry.before,
        "after": entry.after,
        "reason": entry.reason,
        "hash": entry.hash,
    }
    # the one before may be another unit's
    return wire if principal.role is Role.UNIT else {**wire, "prev_hash": entry.prev_hash}


def wire_head(found: Head) -> dict[str, Any]:
    """A head, and the words that anchor it."""
    return {
        "object": "audit.head",
        "entries": found.seq,
        "hash": found.hash,
        "anchor": str(found),
    }


def wire_verdict(verdict: Verdict) -> dict[str, Any]:
    """What was found; `entry` is the number of the one that does not fit or is missing."""
    return {
        "object": "audit.verdict",
        "intact": verdict.intact,
        "damage": None if verdict.damage is None else verdict.damage.value,
        "entry": verdict.at,
        "verified": wire_head(verdict.head),
    }
