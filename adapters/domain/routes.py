"""Routes and rollouts: which version answers to an alias, and how that changes.

A route changes only by compare-and-set on its generation. A rollout is the change under way:

    loading ──every reporting replica has the target──▶ flipped ──everybody observed it──▶ complete
       └──a replica cannot load it, or its job was cancelled──▶ failed (nothing changed)

One rollout of an alias is loading at a time: the second asker gets a conflict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapters.domain.gates import all_passed
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, VersionConflict


@dataclass(frozen=True, kw_only=True)
class Route:
    """Says which version answers to an alias."""

    alias: Alias
    unit: Unit
    stable: VersionId | None = None
    generation: int = 0
    updated_at: float = 0.0
    since: int = 0
    """The id of the rollout that began this route: an alias that moves to another unit starts a
    new one, and a rollback never reaches behind it."""

    def flipped_by(self, rollout: Rollout, *, at: float) -> Route:
        """The route once `rollout` has moved it."""
        return Route(
            alias=self.alias,
            unit=rollout.unit,
            stable=rollout.target,
            generation=self.generation + 1,
            updated_at=at,
            since=self.since if self.unit == rollout.unit and self.since else rollout.id,
        )

    def for_unit(self, unit: Unit) -> Route:
        """This route, or the one that `unit` starts with where it belonged to another."""
        if unit == self.unit:
            return self
        return Route(alias=self.alias, unit=unit, generation=self.generation)


class RolloutState(StrEnum):
    """How far a change of route has come."""

    LOADING = "loading"
    """Replicas load the target; the route is as it was."""
    FLIPPED = "flipped"
    """The route has moved; a replica that may still answer has not observed it yet."""
    COMPLETE = "complete"
    """Nobody answers by the old route any more."""
    FAILED = "failed"
    """Nothing changed."""

    @property
    def open(self) -> bool:
        """Whether something follows."""
        return self in (RolloutState.LOADING, RolloutState.FLIPPED)


PROMOTE = "promote"
ROLL_BACK = "rollback"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One change of one route, from the command to its end."""

    id: int
    alias: Alias
    unit: Unit
    action: str
    """`promote` or `rollback`."""
    target: VersionId
    replaced: VersionId | None
    """What the route served when it was asked for."""
    generation: int
    """The route's generation it started from."""
    state: RolloutState
    actor: str
    """Who asked: a key's id or a job's."""
    created_at: float
    flipped_at: float | None = None
    flip_revision: int | None = None
    """The registry's revision that shows the flip: what replicas must observe."""
    finished_at: float | None = None
    error: str | None = None


def check_promotable(route: Route, version: Version) -> None:
    """May `version` answer to `route.alias`? Raises Conflict with the reason."""
    if version.unit != route.unit:
        raise Conflict("a route serves versions of its own unit only", code="foreign_version")
    if version.withdrawn_at is not None or version.collected_at is not None:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
    if version.state is VersionState.REJECTED:
        failed = ", ".join(gate.gate for gate in version.gates if gate.holds_up) or "a gate"
        raise Conflict(f"{version.name} was rejected by {failed}", code="version_rejected")
    if version.job_id is not None and not all_passed(version.gates):
        raise Conflict(
            f"{version.name} has not passed its gates; `wardrobe adapters evaluate {version.name}` "
            f"evaluates it again once its job {version.job_id} has ended",
            code="version_unproven",
        )


def check_generation(route: Route, expected: int | None) -> None:
    """Raises VersionConflict when `route` is not the one the caller saw."""
    if expected is not None and expected != route.generation:
        raise VersionConflict(
            f"route {route.alias} is at generation {route.generation}, not {expected}; look again",
            param="expected_generation",
        )


def rollback_target(
    route: Route, flips: Sequence[Rollout], versions: Mapping[VersionId, Version]
) -> VersionId:
    """The newest good version that the route served before the one it serves now.

    `flips` are the route's rollouts that moved it, newest first; `versions` those they name. Good
    is what is servable and no rollback has ever taken out of service. Raises Conflict
    (`nothing_to_roll_back`).
    """
    for flip in flips:
        candidate = versions[flip.target]
        if (
            flip.id >= route.since
            and candidate.id != route.stable
            and candidate.servable
            and candidate.rolled_back_at is None
        ):
            return candidate.id
    raise Conflict(
        f"{route.alias} has served no other good version before; promote one by name",
        code="nothing_to_roll_back",
    )
