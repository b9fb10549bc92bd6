"""Decides whether a canary or a shadow may begin, and what a canary's end is called."""

from __future__ import annotations

from adapters.domain.canaries import CanaryOutcome
from adapters.domain.names import VersionId
from adapters.domain.routes import Action, Canary, Rollout, Route, Shadow
from adapters.domain.versions import Version, VersionState
from adapters.errors import Conflict


def check_stands_beside(route: Route, version: Version, stable: Version | None) -> None:
    """Raises Conflict where `version` cannot be asked beside what the route serves."""
    if stable is None:
        raise Conflict(
            f"{route.alias} serves no version to compare with; promote one first",
            code="no_stable_version",
        )
    if version.id in route.answering:
        raise Conflict(f"{version.name} answers already", code="version_live")
    if version.base_fingerprint != stable.base_fingerprint:
        raise Conflict(
            f"{version.name} and {stable.name} were trained on different base models; one engine "
            "serves only one of them",
            code="base_mismatch",
        )


def check_no_canary(route: Route, *, but: VersionId | None = None) -> None:
    """Raises Conflict while a canary answers, unless it is the version `but`."""
    if route.canary is not None and route.canary.version != but:
        raise Conflict(
            f"a canary of {route.alias} is running; promote it, abort it or roll it back first",
            code="canary_in_progress",
        )


def canary_of(route: Route) -> Canary:
    """Raises Conflict where there is none."""
    if route.canary is None:
        raise Conflict(f"{route.alias} has no canary", code="no_canary")
    return route.canary


def shadow_of(route: Route) -> Shadow:
    """Raises Conflict where there is none."""
    if route.shadow is None:
        raise Conflict(f"{route.alias} has no shadow", code="no_shadow")
    return route.shadow


def check_copied(route: Route, version: Version) -> None:
    """May `version` be asked for copies? A candidate may: it answers nobody. Raises Conflict."""
    if version.unit != route.unit:
        raise Conflict("a route names versions of its own unit only", code="foreign_version")
    if version.state is VersionState.REJECTED:
        raise Conflict(f"{version.name} was rejected", code="version_rejected")
    if not version.servable:
        raise Conflict(f"{version.name} was retired and is not kept", code="version_retired")


def outcome(rollout: Rollout, canary: Canary) -> CanaryOutcome:
    """What the end of `canary` by `rollout` is called."""
    if rollout.action is Action.PROMOTE and rollout.target == canary.version:
        return CanaryOutcome.PROMOTED
    if rollout.action is Action.ROLL_BACK:
        return CanaryOutcome.ROLLED_BACK
    return CanaryOutcome.ABORTED
