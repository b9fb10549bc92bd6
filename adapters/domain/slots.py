"""Plans an engine's slots: what fits beside what, and which promotion would make it thrash.

An engine holds so many versions at once, and a version that is needed and not held answers nobody.
So there is an order: what routes name (live, canary, shadow), one more while a route moves, then
versions to roll back to, and what is left for versions that are only asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from adapters.domain.names import VersionId
from adapters.domain.versions import Version
from adapters.errors import Conflict

MOVING = 1
"""A route that moves needs the old version and the new one."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What one replica's engine can hold, and what it is known to hold."""

    replica: str
    slots: int
    """Versions held at once (`max_cpu_loras`)."""
    in_batch: int
    """Versions that one batch may use (`max_loras`): more are served in turn, each step slower."""
    rank: int
    """The highest that it serves (`max_lora_rank`)."""
    loaded: AbstractSet[VersionId] = frozenset()
    failed: AbstractSet[VersionId] = frozenset()
    """Versions that it could not load: they take no slot."""


def engine_of(
    replica: str,
    limits: Mapping[str, Any],
    *,
    loaded: AbstractSet[VersionId] = frozenset(),
    failed: AbstractSet[VersionId] = frozenset(),
) -> Engine | None:
    """As a replica reports it; None where it does not say what it can hold."""
    try:
        return Engine(
            replica=replica,
            slots=int(limits["max_cpu_loras"]),
            in_batch=int(limits["max_loras"]),
            rank=int(limits["max_lora_rank"]),
            loaded=loaded,
            failed=failed,
        )
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class SlotPlan:
    """How an engine's slots are used."""

    slots: int
    routes: int
    """By versions that routes name."""
    moving: int
    """Kept for a route that moves; 0 where no promotion fits."""
    rollback: int
    """By versions to roll back to: those that fit."""
    warm: int
    """Left for versions that are asked for by name."""
    lacking: int
    """Versions that routes name and that find no slot."""


def plan_slots(slots: int, *, routes: int, rollback: int) -> SlotPlan:
    """Gives out `slots` in order; `routes` and `rollback` count distinct versions of one base."""
    held = min(slots, routes)
    moving = min(MOVING, slots - held)
    kept = min(rollback, slots - held - moving)
    return SlotPlan(
        slots=slots,
        routes=held,
        moving=moving,
        rollback=kept,
        warm=slots - held - moving - kept,
        lacking=routes - held,
    )


def check_fits(target: Version, named: AbstractSet[VersionId], engines: Iterable[Engine]) -> None:
    """May `target` go live beside the versions that routes name? `engines` are those of its base.

    Raises Conflict (`rank_not_served`, `no_slot`) with the numbers of the engine that says no. What
    an engine holds already needs no other slot.
    """
    for engine in engines:
        if target.rank > engine.rank:
            raise Conflict(
                f"{target.name} has rank {target.rank}, and {engine.replica} serves at most "
                f"{engine.rank}: raise WARDROBE_MAX_LORA_RANK there, or train it with a lower rank",
                code="rank_not_served",
            )
        needed = (named - engine.failed) | {target.id}
        if target.id not in engine.loaded and len(needed) > engine.slots:
            raise Conflict(_thrashes(target, engine, needed=len(needed)), code="no_slot")


def _thrashes(target: Version, engine: Engine, *, needed: int) -> str:
    return (
        f"{target.name} finds no slot in {engine.replica}: it holds {engine.slots} versions at "
        f"once, routes name {needed - 1}, and while a route moves both of its versions are needed. "
        "A version without a slot would be loaded anew for every request. Raise "
        "WARDROBE_MAX_CPU_LORAS, or retire a version that an alias could do without"
    )
