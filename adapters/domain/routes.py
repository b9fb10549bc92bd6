"""Routes and rollouts: which versions answer to an alias, and how that changes.

A route is one stable version, with a canary that answers a part of the requests and a shadow that
is only compared, where there are any. It changes only by compare-and-set on its generation. A
rollout is one such change:

    loading ──every reporting replica has the target──▶ flipped ──everybody observed it──▶ complete
       ├──a replica cannot load it, or its job was cancelled──▶ failed (nothing changed)
       └──it was only to be warmed──▶ complete

What needs no load (a weight, an abort) begins flipped. One rollout of an alias is loading at a
time: the second asker gets a conflict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from adapters.domain.gates import all_passed
from adapters.domain.names import Alias, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict, VersionConflict


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A version that answers a part of an alias's requests."""

    version: VersionId
    weight: float
    """Per cent of the requests, 0 to 100."""
    rollout: int
    """The id of the rollout that began it: who is in it, and what is counted, belong to that."""


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A version that is asked for copies of an alias's requests, and never answers."""

    version: VersionId
    share: float
    """Per cent of the requests that are copied, 0 to 100."""
    rollout: int
    """The id of the rollout that began it: what is compared is counted under that."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Says which versions answer to an alias."""

    alias: Alias
    unit: Unit
    stable: VersionId | None = None
    canary: Canary | None = None
    shadow: Shadow | None = None
    generation: int = 0
    updated_at: float = 0.0
    since: int = 0
    """The id of the rollout that began this route: an alias that moves to another unit starts a
    new one, and a rollback never reaches behind it."""

    @property
    def answering(self) -> tuple[VersionId, ...]:
        """The versions that answer, the stable one first."""
        stable = () if self.stable is None else (self.stable,)
        return stable if self.canary is None else (*stable, self.canary.version)

    @property
    def named(self) -> tuple[VersionId, ...]:
        """Everything that must be loaded for it."""
        return self.answering if self.shadow is None else (*self.answering, self.shadow.version)

    def flipped_by(self, rollout: Rollout, *, at: float) -> Route:
        """The route once `rollout` has moved it."""
        before = self.for_unit(rollout.unit)
        return replace(
            _moved(before, rollout),
            generation=self.generation + 1,
            updated_at=at,
            since=before.since or rollout.id,
        )

    def without(self, version: VersionId) -> Route:
        """The route once `version` is withdrawn; there is no canary beside nothing."""
        is_canary = self.canary is not None and self.canary.version == version
        is_shadow = self.shadow is not None and self.shadow.version == version
        is_stable = self.stable == version
        return replace(
            self,
            stable=None if is_stable else self.stable,
            canary=None if is_stable or is_canary else self.canary,
            shadow=None if is_stable or is_shadow else self.shadow,
        )

    def for_unit(self, unit: Unit) -> Route:
        """This route, or the one that `unit` starts with where it belonged to another."""
        if unit == self.unit:
            return self
        return Route(alias=self.alias, unit=unit, generation=self.generation)


def _moved(route: Route, rollout: Rollout) -> Route:
    target, weight = rollout.target, rollout.weight or 0.0
    match rollout.action:
        case Action.CANARY:
            began = Canary(version=target, weight=weight, rollout=rollout.id)
            return replace(route, canary=began)
        case Action.WEIGHT if route.canary is not None:
            return replace(route, canary=replace(route.canary, weight=weight))
        case Action.SHADOW:
            copied = Shadow(version=target, share=weight, rollout=rollout.id)
            return replace(route, shadow=copied)
        case Action.UNSHADOW:
            return replace(route, shadow=None)
        case Action.PROMOTE | Action.ROLL_BACK:
            is_shadow = route.shadow is not None and route.shadow.version == target
            shadow = None if is_shadow else route.shadow
            return replace(route, stable=target, canary=None, shadow=shadow)
        case _:
            return replace(route, canary=None)


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


class Action(StrEnum):
    """What a rollout does to its route."""

    PROMOTE = "promote"
    """The target becomes the stable version."""
    ROLL_BACK = "rollback"
    """The target becomes the stable version again; what it replaces is marked."""
    CANARY = "canary"
    """The target answers a part of the requests."""
    WEIGHT = "weight"
    """The canary answers another part."""
    ABORT = "abort"
    """The canary ends without a mark; or what was loading has ended."""
    SHADOW = "shadow"
    """The target is asked for copies of requests."""
    UNSHADOW = "unshadow"
    """It is asked for no more."""
    WARM = "warm"
    """The target is loaded, and the route stays as it is."""

    @property
    def loads(self) -> bool:
        """Whether the target must be loaded first. The others need what answers already."""
        return self not in (Action.WEIGHT, Action.ABORT, Action.UNSHADOW)


SETS_STABLE = (Action.PROMOTE, Action.ROLL_BACK)
"""The actions that a rollback looks back through."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One change of one route, from the command to its end."""

    id: int
    alias: Alias
    unit: Unit
    action: Action
    target: VersionId
    replaced: VersionId | None
    """What the route served when it was asked for; of what ends a canary, the canary."""
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
    weight: float | None = None
    """Per cent of the requests, of what sets any."""
    reason: str | None = None
    """Why it was asked for, in the asker's words, or with the numbers that decided it."""


def check_promotable(route: Route, version: Version) -> None:
    """May `version` answer to `route.alias`? Raises Conflict with the reason."""
    if version.unit != route.unit:
        raise Conflict("a route serves versions of its own unit only", code="foreign_version")
    if version.withdrawn_at is not None or version.collected_at is not None:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")
    if version.state is VersionState.REJECTED:
        failed = ", ".join(gate.gate for gate in version.gates if gate.holds_up) or "a gate"
        raise Conflict(f"{version.name} was rejected by {failed}", code="version_rejected")
    if (version.job_id is not None or version.imported) and not all_passed(version.gates):
        raise Conflict(
            f"{version.name} has not passed its gates; `wardrobe adapters evaluate {version.name}` "
            + (
                f"evaluates it again once its job {version.job_id} has ended"
                if version.job_id is not None
                else "evaluates it on the test part of the adapter's newest job"
            ),
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
            and flip.action in SETS_STABLE
            and candidate.id != route.stable
            and candidate.servable
            and candidate.rolled_back_at is None
        ):
            return candidate.id
    raise Conflict(
        f"{route.alias} has served no other good version before; promote one by name",
        code="nothing_to_roll_back",
    )
