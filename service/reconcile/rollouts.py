"""Promote and roll back: the commands that move a route, and the wait until it has moved.

The registry decides who wins; the swap loops of all replicas do the work; this only asks and
waits. A rollout is complete when every live replica routes by it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.routes import Rollout, RolloutState
from adapters.errors import RolloutFailed, Unavailable
from service.reconcile.converger import REPLICA_TIMEOUT
from service.runtime import Runtime

WATCH_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Command:
    """What someone asked of a route."""

    alias: Alias
    unit: Unit
    action: str
    target: VersionId
    actor: str
    expected_generation: int | None


async def begin(runtime: Runtime, command: Command) -> Rollout:
    """Starts a rollout. Raises Conflict and VersionConflict as the registry does."""
    rollout = await asyncio.to_thread(
        runtime.registry.begin_rollout,
        command.alias,
        command.target,
        unit=command.unit,
        action=command.action,
        actor=command.actor,
        expected_generation=command.expected_generation,
        at=time.time(),
    )
    runtime.converger.kick()
    return rollout


async def complete(runtime: Runtime, rollout: Rollout, *, timeout: float) -> Rollout:
    """Waits until the rollout has ended and every live replica routes by it.

    The answer is still `loading` when `timeout` seconds were not enough for that. Raises
    RolloutFailed, and Unavailable (`rollout_unobserved`) when the route has moved but a live
    replica may still route by the old one.
    """
    deadline = time.monotonic() + timeout
    begun = await asyncio.to_thread(runtime.registry.revision)
    while rollout.state is RolloutState.LOADING and time.monotonic() < deadline:
        await _next_tick(runtime, partial(_has_ended, runtime, rollout.id, begun), deadline)
        rollout = await asyncio.to_thread(runtime.registry.rollout, rollout.id)
    if rollout.state is RolloutState.FAILED:
        raise RolloutFailed(f"nothing changed: {rollout.error}")
    if rollout.state is RolloutState.COMPLETE:
        await _observed(runtime, deadline)
    return rollout


def _has_ended(runtime: Runtime, rollout_id: int, begun: int) -> bool:
    """In a snapshot older than the rollout (its revision is below `begun`) it is absent, too."""
    snapshot = runtime.converger.snapshot
    return snapshot.revision >= begun and all(o.id != rollout_id for o in snapshot.rollouts)


async def _observed(runtime: Runtime, deadline: float) -> None:
    """Until every live replica has read a snapshot at least as new as the flip."""
    revision = await asyncio.to_thread(runtime.registry.revision)
    while not await _is_read(runtime, revision):
        if time.monotonic() >= deadline:
            raise Unavailable(
                "the route has moved, but not every replica routes by it yet: look again",
                code="rollout_unobserved",
            )
        await _next_tick(runtime, lambda: runtime.converger.table.revision >= revision, deadline)
        await asyncio.sleep(WATCH_SECONDS)


async def _is_read(runtime: Runtime, revision: int) -> bool:
    replicas = await asyncio.to_thread(
        runtime.registry.replicas, newer_than=time.time() - REPLICA_TIMEOUT
    )
    return runtime.converger.table.revision >= revision and all(
        replica.revision >= revision for replica in replicas
    )


async def _next_tick(runtime: Runtime, condition: Callable[[], bool], deadline: float) -> None:
    if not condition():
        await runtime.converger.until(
            condition, timeout=min(1.0, max(0.0, deadline - time.monotonic()))
        )
