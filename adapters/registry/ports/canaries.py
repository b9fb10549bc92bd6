"""Canaries and shadows: versions that answer a part of an alias's requests, or only copies of them.

What begins and ends them are rollouts, as every change of a route is. What was counted of them
comes from every process that answers, and is judged by whoever calls `Rollouts.advance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.domain.canaries import Arms, CanaryPlan, CanaryRun, Outcomes, Score
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.principals import Principal
from adapters.domain.routes import Rollout
from adapters.domain.shadows import Comparisons
from adapters.registry.ports.replicas import ProcessId


@dataclass(frozen=True, kw_only=True)
class RouteCommand:
    """Who wants to change which route, and why."""

    alias: Alias
    unit: Unit
    principal: Principal
    expected_generation: int | None
    """The generation that was seen; repeating a command that names it is the same command."""
    reason: str | None = None
    needs_approval: bool = False
    """Whether the unit asks for two people before a version of it answers."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What one process has counted of one version since a canary or a shadow began."""

    rollout: int
    version: VersionId
    counts: Outcomes | Comparisons


class Canaries(Protocol):
    """Takes the commands that begin and move canaries, and keeps what is counted of them."""

    def start(self, command: RouteCommand, version_id: VersionId, plan: CanaryPlan) -> Rollout:
        """Starts loading a version that is to answer a part of the requests; bumps the revision.

        Repeating it returns the rollout it began, unless that failed. Raises VersionConflict,
        NotFound, Conflict (`no_stable_version`, `canary_in_progress`, `rollout_in_progress`,
        `version_live`, `base_mismatch`, what `check_promotable` and `check_approved` say;
        `job_state` where the principal is a cancelled job's).
        """
        ...

    def set_weight(self, command: RouteCommand, weight: float) -> Rollout:
        """The canary answers that many per cent from now on, and goes on by commands alone.

        Bumps the revision. Raises VersionConflict, Conflict (`no_canary`, `rollout_in_progress`).
        """
        ...

    def shadow(self, command: RouteCommand, version_id: VersionId, share: float) -> Rollout:
        """Starts loading a version that is to get copies of so many per cent of the requests.

        It takes the place of the shadow before. Bumps the revision. Raises VersionConflict,
        NotFound, Conflict (`no_stable_version`, `rollout_in_progress`, `version_live`,
        `base_mismatch`, `foreign_version`, `version_retired`, `version_rejected`).
        """
        ...

    def end_shadow(self, command: RouteCommand) -> Rollout:
        """No request is copied any more; bumps the revision.

        Raises VersionConflict, Conflict (`no_shadow`, `rollout_in_progress`).
        """
        ...

    def report(self, process: ProcessId, counted: Sequence[Counted]) -> None:
        """Keeps what a process has counted; totals, so that repeating it changes nothing.

        What belongs to no canary or shadow any more is left out. Never bumps the revision.
        """
        ...

    def add_scores(
        self, alias: Alias, unit: Unit, principal: Principal, scores: Sequence[Score]
    ) -> int:
        """Keeps what something outside says of answers, once each; how many were new.

        Raises NotFound, Conflict (`no_canary`; `not_compared` where a version is in neither arm;
        `too_many_scores`).
        """
        ...

    def newest(self, alias: Alias, unit: Unit) -> tuple[CanaryRun, Arms]:
        """The alias's newest canary, with what was counted of it. Raises NotFound."""
        ...

    def compared(self, rollout: int, version: VersionId) -> Comparisons:
        """What was found by the copies of a shadow."""
        ...
