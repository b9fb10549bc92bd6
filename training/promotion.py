"""The automatic promotion at the end of a job: asked of the registry, carried out by the service.

A promotion that does not happen is not the job's failure: the version stays a candidate, its
owner is told why, and anyone may promote it later.
"""

from __future__ import annotations

from collections.abc import Callable

from adapters.domain.names import Alias
from adapters.domain.routes import Rollout, RolloutState
from adapters.domain.versions import Version
from adapters.errors import Conflict
from adapters.registry import Registry

PATIENCE = 1800.0
"""Seconds after which a rollout that has neither failed nor come to an end is left to others. The
service itself ends one that it cannot load, so this is for a service that is gone."""
_PAGE = 100


class NotPromoted(Exception):
    """Why the version is not live now, in words for the job's owner."""


def promote(
    registry: Registry,
    version: Version,
    *,
    actor: str,
    clock: Callable[[], float],
    pause: Callable[[], None],
) -> None:
    """Returns when `version` answers to its adapter's alias; `pause` waits a moment and may raise.

    Raises NotPromoted. Asking again after a crash finds the rollout that is under way; one that
    was completed before is not repeated over what an operator has done since.
    """
    try:
        rollout = _begin(registry, version, actor=actor, at=clock())
    except Conflict as conflict:
        raise NotPromoted(conflict.message) from conflict
    until = clock() + PATIENCE
    while rollout.state is RolloutState.LOADING:
        if clock() >= until:
            raise NotPromoted(f"its rollout is still under way after {PATIENCE:.0f} s")
        pause()
        rollout = registry.rollout(rollout.id)
    if rollout.state is RolloutState.FAILED:
        raise NotPromoted(rollout.error or "its rollout failed")


def _begin(registry: Registry, version: Version, *, actor: str, at: float) -> Rollout:
    alias = Alias(version.adapter)
    route = registry.route(alias, unit=version.unit)
    if route.stable != version.id and _completed_before(registry, alias, version, actor):
        raise NotPromoted("it was put live before, and the alias has been moved on since")
    if route.stable is not None:
        live = registry.version_by_id(route.stable)
        if live.adapter == version.adapter and live.number > version.number:
            raise NotPromoted(f"the newer {live.name} is live")
    try:
        return registry.begin_rollout(
            alias,
            version.id,
            unit=version.unit,
            action="promote",
            actor=actor,
            expected_generation=route.generation,
            at=at,
        )
    except Conflict:
        ours = _under_way(registry, alias, version)
        if ours is None:
            raise
        return ours


def _completed_before(registry: Registry, alias: Alias, version: Version, actor: str) -> bool:
    after = None
    while True:
        page = registry.rollouts(alias=alias, after=after, limit=_PAGE)
        for item in page.items:
            if (item.target, item.actor, item.state) == (version.id, actor, RolloutState.COMPLETE):
                return True
        if not page.has_more:
            return False
        after = str(page.items[-1].id)


def _under_way(registry: Registry, alias: Alias, version: Version) -> Rollout | None:
    latest = registry.rollouts(alias=alias, after=None, limit=1).items
    wanted = (RolloutState.LOADING, RolloutState.COMPLETE)
    return next(
        (item for item in latest if item.target == version.id and item.state in wanted), None
    )
