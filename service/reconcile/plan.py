"""Plans what to load and what to unload: pure functions of the routes and the engine.

    desired(required, uses)  which versions should be resident, most wanted first
    plan(desired, …)         the loads and unloads that bring the engine there

Live versions and rollout targets come first, then the rest by use, one of each unit in turn: a
unit that names many versions pushes out its own before another's. Whatever does not fit waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from adapters.domain.names import Unit, VersionId


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps for the loader. Unloads come first: they make the room the loads need."""

    unload: tuple[VersionId, ...] = ()
    load: tuple[VersionId, ...] = ()
    waiting: tuple[VersionId, ...] = ()
    """Wanted and not here: every slot is taken by something more wanted or still answering."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """How a version is used that no route needs."""

    version: VersionId
    unit: Unit
    resident: bool
    last_use: float
    """By any request of any process; monotonic seconds."""
    asked_at: float | None = None
    """Since when requests wait for it; None where none does."""

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Within its unit. What requests wait for comes first, in the order they came, and what
        of that is resident before all: who waits for it has not taken it up yet.
        """
        if self.asked_at is None:
            return (True, False, -self.last_use)
        return (False, not self.resident, self.asked_at)


def by_use(uses: Iterable[Use], turns: Mapping[Unit, float]) -> tuple[VersionId, ...]:
    """The most wanted of each unit, then the second of each, and so on.

    `turns` says when a unit last had a load of its own choice: who waited longest is first.
    """
    of_unit: dict[Unit, list[Use]] = defaultdict(list)
    for use in uses:
        of_unit[use.unit].append(use)
    ranked = [
        (place, use.asked_at is None, *_turn(use, turns), use.version)
        for used in of_unit.values()
        for place, use in enumerate(sorted(used, key=lambda use: use.order))
    ]
    return tuple(version for *_, version in sorted(ranked))


def _turn(use: Use, turns: Mapping[Unit, float]) -> tuple[float, float]:
    """Among the same place of several units: whose turn it is where requests wait, else use."""
    if use.asked_at is None:
        return (0.0, -use.last_use)
    return (turns.get(use.unit, 0.0), use.asked_at)


def desired(
    required: Sequence[VersionId], uses: Iterable[Use], turns: Mapping[Unit, float]
) -> tuple[VersionId, ...]:
    """Every version worth a slot, most wanted first."""
    return tuple(dict.fromkeys([*required, *by_use(uses, turns)]))


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
