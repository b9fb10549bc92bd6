"""The desired state of an engine: what routes, rollouts and requests want of it, and since when.

The memory behind the plan; the plan itself is a pure function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from adapters.domain.names import Unit, VersionId
from adapters.domain.versions import ServedVersion
from service.engine.shared_residency import SharedResidency
from service.reconcile import plan as planning
from service.reconcile.load_failures import LoadFailures
from service.reconcile.route_table import RouteTable

SLOT_SECONDS = 60.0
"""How long a wanted version waits for a slot: leases end meanwhile, a full engine stays full."""

log = structlog.get_logger("wardrobe.swap")


class Desired:
    """What is wanted of one engine; asked by its loader alone."""

    def __init__(
        self,
        *,
        table: RouteTable,
        residency: SharedResidency,
        failures: LoadFailures,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._residency = residency
        self._failures = failures
        self._clock = clock
        self._asked_at: dict[VersionId, float] = {}
        self._turns: dict[Unit, float] = {}
        self._slotless: dict[VersionId, float] = {}
        self._was_required: frozenset[VersionId] = frozenset()

    def plan(self, *, capacity: int) -> planning.Plan:
        """What brings an engine of `capacity` slots there."""
        resident = self._residency.resident()
        steps = planning.plan(
            planning.desired(self._required_ids(resident), self._uses(resident), self._turns),
            servable=self._table.versions.keys(),
            loaded=resident,
            leased=self._residency.leased(resident),
            capacity=capacity,
        )
        return replace(steps, load=self._in_turn(steps.load))

    def _in_turn(self, load: Sequence[VersionId]) -> tuple[VersionId, ...]:
        """Live versions first, then one of each unit in turn: a unit that promotes one version
        after the other has a target to load at any time, and others' requests wait, too.
        """
        live = {version.id for version in self._table.answering()}

        def turn(version_id: VersionId) -> tuple[bool, float]:
            version = self._table.version(version_id)
            if version is None or version_id in live:
                return (version_id not in live, 0.0)
            return (True, self._turns.get(version.unit, 0.0))

        return tuple(sorted(load, key=turn))

    def note_turn(self, unit: Unit) -> None:
        """One of the unit's versions is loaded now: other units that wait come first."""
        self._turns[unit] = self._clock()

    def newly_required(self) -> frozenset[VersionId]:
        """What a command has named since the last call."""
        required = frozenset(version.id for version in self._table.required())
        new, self._was_required = required - self._was_required, required
        return new

    def without_slot(self, steps: planning.Plan, *, capacity: int) -> Sequence[ServedVersion]:
        """What routes and rollouts need and finds no slot, once that has lasted.

        A live version at once: live versions that are resident are never pushed out.
        """
        now = self._clock()
        required = [v for v in self._table.required() if v.id in steps.waiting]
        live = {v.id for v in self._table.answering() if self._failures.may_be_tried(v)}
        for version in required:
            if version.id not in self._slotless:
                log.warning("version_waits_for_a_slot", version=version.name)
        self._slotless = {v.id: self._slotless.get(v.id, now) for v in required}
        full = len(live) > capacity
        return [
            v
            for v in required
            if (full and v.id in live) or now - self._slotless[v.id] >= SLOT_SECONDS
        ]

    def _required_ids(self, resident: frozenset[VersionId]) -> Sequence[VersionId]:
        """Live versions, those that are here first: more of them than slots must not take turns."""
        live = [v for v in self._table.answering() if self._failures.may_be_tried(v)]
        live.sort(key=lambda v: (v.id not in resident, -self._residency.last_use(v.id), v.id))
        others = [v for v in self._table.required() if self._failures.may_be_tried(v)]
        return list(dict.fromkeys(version.id for version in (*live, *others)))

    def _uses(self, resident: frozenset[VersionId]) -> Sequence[planning.Use]:
        asked = self._residency.asked()
        now = self._clock()
        self._asked_at = {version: self._asked_at.get(version, now) for version in asked}
        found = (self._table.version(version) for version in resident | asked)
        return [
            planning.Use(
                version=version.id,
                unit=version.unit,
                resident=version.id in resident,
                last_use=self._residency.last_use(version.id),
                asked_at=self._asked_at.get(version.id),
            )
            for version in found
            if version is not None
            and (version.id in resident or self._failures.may_be_tried(version))
        ]
