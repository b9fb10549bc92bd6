"""What to load and what to unload: pure functions of the registry and the engine.

    desired(snapshot, warm)  which versions should be resident, most wanted first
    plan(desired, …)         the loads and unloads that bring the engine there

Live versions and rollout targets come first, then the few asked for by name last (a candidate on
trial is one of them), then what a rollback would need, then the rest of what was asked for;
whatever does not fit waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from adapters.domain.names import VersionId
from adapters.registry import Snapshot

ASKED_FIRST = 4
"""Versions asked for by name that come before rollback targets: enough that a candidate is always
evaluated, too few for one unit's old versions to push out another's way back."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps for the swap loop. Unloads come first: they make the room the loads need."""

    unload: tuple[VersionId, ...] = ()
    load: tuple[VersionId, ...] = ()
    waiting: tuple[VersionId, ...] = ()
    """Wanted and not here: every slot is taken by something more wanted or still answering."""


def required(snapshot: Snapshot) -> tuple[VersionId, ...]:
    """Versions that must be resident: live ones, then targets of rollouts."""
    live = [route.stable for route in snapshot.routes.values() if route.stable is not None]
    targets = [rollout.target for rollout in snapshot.rollouts]
    return _known(snapshot, [*live, *targets])


def desired(snapshot: Snapshot, warm: Sequence[VersionId]) -> tuple[VersionId, ...]:
    """Every version worth a slot, most wanted first; `warm` is most recent first."""
    previous = [route.previous for route in snapshot.routes.values() if route.previous is not None]
    asked, rest = warm[:ASKED_FIRST], warm[ASKED_FIRST:]
    return _known(snapshot, [*required(snapshot), *asked, *previous, *rest])


def plan(
    wanted: Sequence[VersionId],
    *,
    servable: AbstractSet[VersionId],
    loaded: AbstractSet[VersionId],
    leased: AbstractSet[VersionId],
    capacity: int,
) -> Plan:
    """Brings `loaded` towards the first `capacity` of `wanted`.

    Never unloads a leased version and never holds more than `capacity` at once. What is no
    longer servable goes at once; what is merely unwanted keeps its slot until one is needed,
    for it may be asked for again.
    """
    chosen = wanted[:capacity]
    missing = [version for version in chosen if version not in loaded]
    rank = {version: place for place, version in enumerate(wanted)}
    gone = sorted(loaded - servable - leased)
    removable = sorted(
        (loaded & servable) - set(chosen) - leased,
        key=lambda version: (-rank.get(version, len(wanted)), version),
    )
    free = capacity - len(loaded) + len(gone)
    unload = [*gone, *removable[: max(0, len(missing) - free)]]
    load = missing[: max(0, capacity - len(loaded) + len(unload))]
    waiting = [version for version in wanted if version not in loaded and version not in load]
    return Plan(unload=tuple(unload), load=tuple(load), waiting=tuple(waiting))


def _known(snapshot: Snapshot, versions: Sequence[VersionId]) -> tuple[VersionId, ...]:
    return tuple(dict.fromkeys(version for version in versions if version in snapshot.versions))
