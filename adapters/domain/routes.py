"""Routes and rollouts: which version answers to an alias, and how that changes.

A route changes only by compare-and-set on its generation. A rollout is the change under way:

    begin (generation checked) ─▶ loading ─▶ every live replica has it ─▶ complete (route flipped)
                                     └────▶ a replica cannot load it ──▶ failed (nothing changed)

One rollout per alias at a time: the second asker gets a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.gates import all_passed
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, VersionConflict


@dataclass(frozen=True, kw_only=True)
class Route:
    """alias → version. `previous` stays resident, so that a rollback is instant."""

    alias: Alias
    unit: Unit
    stable: VersionId | None = None
    previous: VersionId | None = None
    generation: int = 0
    updated_at: float = 0.0

    def flipped_to(self, version: VersionId, *, at: float) -> Route:
        """The route after a rollout to `version` completes."""
        return Route(
            alias=self.alias,
            unit=self.unit,
            stable=version,
            previous=self.stable,
            generation=self.generation + 1,
            updated_at=at,
        )


class RolloutState(StrEnum):
    """How far a change of route has come."""

    LOADING = "loading"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One change of one route, from the command to its end."""

    id: int
    alias: Alias
    action: str
    """`promote` or `rollback`."""
    target: VersionId
    generation: int
    """The route's generation it started from."""
    state: RolloutState
    actor: str
    """Who asked: a key's id or a job's."""
    created_at: float
    finished_at: float | None = None
    error: str | None = None


def check_promotable(route: Route, version: Version) -> None:
    """May `version` answer to `route.alias`? Raises Conflict with the reason."""
    if version.unit != route.unit:
        raise Conflict("a route serves versions of its own unit only", code="foreign_version")
    if version.state is VersionState.REJECTED:
        failed = ", ".join(gate.gate for gate in version.gates if not gate.passed) or "a gate"
        raise Conflict(f"{version.name} was rejected by {failed}", code="version_rejected")
    if version.job_id is not None and not all_passed(version.gates):
        raise Conflict(
            f"{version.name} has not passed its gates; only its job {version.job_id} can prove it, "
            "and if that has ended, a new job must",
            code="version_unproven",
        )


def check_generation(route: Route, expected: int | None) -> None:
    """Raises VersionConflict when `route` is not the one the caller saw."""
    if expected is not None and expected != route.generation:
        raise VersionConflict(
            f"route {route.alias} is at generation {route.generation}, not {expected}; look again",
            param="expected_generation",
        )


def rollback_target(route: Route) -> VersionId:
    """The version a rollback returns to. Raises Conflict when there is none."""
    if route.previous is None:
        raise Conflict(f"{route.alias} has no previous version", code="nothing_to_roll_back")
    return route.previous
