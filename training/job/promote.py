"""The automatic promotion at the end of a job: asked of the registry, carried out by the service.

By the unit's policy a version goes live at once, or as a canary beside the live one, which the
service moves on or rolls back by itself. A promotion that does not happen is not the job's failure:
the version stays a candidate, its owner is told why, and anyone may promote it later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.domain.canaries import CanaryPlan
from adapters.domain.gates import Outcome
from adapters.domain.names import Alias, VersionId
from adapters.domain.principals import Principal
from adapters.domain.routes import SETS_STABLE, Action, Rollout, RolloutState, Route
from adapters.domain.versions import Version
from adapters.errors import Conflict
from adapters.registry.ports import Canaries, Rollouts, RouteCommand, Routes, Versions

PATIENCE = 1800.0
"""Seconds after which a rollout that has neither failed nor come to an end is left to others. The
service itself ends one that it cannot load, so this is for a service that is gone."""
OBSERVING = 10.0
"""Seconds that replicas have to observe a flip before the missing ones are named; who answers
needs less than one."""
_PAGE = 100
_LIVE = (RolloutState.FLIPPED, RolloutState.COMPLETE)
_BRINGS = (*SETS_STABLE, Action.CANARY)


class NotPromoted(Exception):
    """Why the version is not live now, in words for the job's owner."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """How a version answers now."""

    weight: float | None = None
    """Per cent of the requests, as a canary; None is all of them."""
    waits_for: Sequence[str] = ()
    """The ids of replicas that have not observed it: none where the rollout is complete."""


@dataclass(frozen=True, kw_only=True)
class Promoter:
    """Puts versions live; `pause` waits a moment and may raise."""

    versions: Versions
    routes: Routes
    rollouts: Rollouts
    canaries: Canaries
    plan: CanaryPlan | None = None
    """The schedule of a canary; None puts a version live at once."""
    clock: Callable[[], float]
    pause: Callable[[], None]

    def promote(self, version: Version, principal: Principal) -> Promotion:
        """Returns once `version` answers to its adapter's alias, all requests or a canary's.

        Raises NotPromoted. Asking again after a crash finds the rollout that is under way; one that
        moved the route before is not repeated over what an operator has done since.
        """
        try:
            rollout = self._begin(version, principal)
        except Conflict as conflict:
            raise NotPromoted(conflict.message) from conflict
        if rollout is None:
            return self._promotion(version)
        rollout = self._while(RolloutState.LOADING, rollout, PATIENCE)
        if rollout.state is RolloutState.LOADING:
            raise NotPromoted(f"its rollout is still under way after {PATIENCE:.0f} s")
        if rollout.state is RolloutState.FAILED:
            raise NotPromoted(rollout.error or "its rollout failed")
        rollout = self._while(RolloutState.FLIPPED, rollout, OBSERVING)
        done = rollout.state is RolloutState.COMPLETE
        return self._promotion(version, () if done else self.rollouts.waits_for(rollout.id))

    def _promotion(self, version: Version, waits_for: Sequence[str] = ()) -> Promotion:
        canary = self.routes.route(Alias(version.adapter), version.unit).canary
        weight = canary.weight if canary is not None and canary.version == version.id else None
        return Promotion(weight=weight, waits_for=waits_for)

    def _while(self, state: RolloutState, rollout: Rollout, patience: float) -> Rollout:
        """The rollout when it has left `state`, or after `patience` seconds."""
        until = self.clock() + patience
        while rollout.state is state and self.clock() < until:
            self.pause()
            rollout = self.rollouts.get(rollout.id)
        return rollout

    def _begin(self, version: Version, principal: Principal) -> Rollout | None:
        """The rollout that brings `version`; None where nothing is left to wait for."""
        # The route first: whatever is decided after this look moves its generation.
        route = self.routes.route(Alias(version.adapter), version.unit)
        if version.id in route.answering:
            newest = self._newest(route, version.id)
            return newest if newest and newest.state in _LIVE else None
        self._check_wanted(route, version.id, principal)
        try:
            return self._ask(route, version, principal)
        except Conflict:
            newest = self._newest(route, version.id)
            if newest is None or newest.state is RolloutState.FAILED:
                raise
            return newest

    def _ask(self, route: Route, version: Version, principal: Principal) -> Rollout:
        if self.plan is None or not self._has_beside(route, version):
            return self.rollouts.promote(
                route.alias,
                version.id,
                principal,
                unit=version.unit,
                expected_generation=route.generation,
            )
        command = RouteCommand(
            alias=route.alias,
            unit=version.unit,
            principal=principal,
            expected_generation=route.generation,
        )
        return self.canaries.start(command, version.id, self.plan)

    def _has_beside(self, route: Route, version: Version) -> bool:
        """Whether a live version can be compared with; another base's is answered by no engine."""
        if route.stable is None:
            return False
        return self.versions.by_id(route.stable).base_fingerprint == version.base_fingerprint

    def _check_wanted(self, route: Route, version_id: VersionId, principal: Principal) -> None:
        """Raises NotPromoted where a newer version is live or an operator has decided otherwise."""
        version = self.versions.by_id(version_id)
        if version.rolled_back_at is not None:
            raise NotPromoted("it was rolled back")
        if self._moved_route_before(route, version_id, principal):
            raise NotPromoted("it was put live before, and the alias has been moved on since")
        if route.stable is None:
            return
        live = self.versions.by_id(route.stable)
        if live.adapter == version.adapter and live.number > version.number:
            raise NotPromoted(f"the newer {live.name} is live")
        if not _stands_beside(version, live):
            raise NotPromoted(
                f"it was not compared with {live.name}, which is live now; "
                f"`wardrobe adapters evaluate {version.name}` does"
            )

    def _moved_route_before(
        self, route: Route, version_id: VersionId, principal: Principal
    ) -> bool:
        after = None
        while True:
            page = self.rollouts.history(route.alias, route.unit, after=after, limit=_PAGE)
            for item in page.items:
                if (item.target, item.actor) == (version_id, principal.id) and item.state in _LIVE:
                    return True
            if not page.has_more:
                return False
            after = str(page.items[-1].id)

    def _newest(self, route: Route, version_id: VersionId) -> Rollout | None:
        """The newest rollout of the alias, if it lets this version answer."""
        latest = self.rollouts.history(route.alias, route.unit, after=None, limit=1).items
        wanted = (item for item in latest if item.action in _BRINGS)
        return next((item for item in wanted if item.target == version_id), None)


def _stands_beside(version: Version, live: Version) -> bool:
    """Whether its gates say that it is no worse than `live`, or that nothing can be compared."""
    if not version.gates:  # brought by hand: no job judges it
        return True
    return any(
        gate.against == live.name and gate.outcome in (Outcome.PASSED, Outcome.SKIPPED)
        for gate in version.gates
    )
