"""Mirrors this process's state into its gauges, and drops the series of what is gone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

import structlog

from adapters.domain.evaluations import BASE
from adapters.domain.limits import Quota
from adapters.domain.names import VersionId
from adapters.domain.principals import unit_account
from adapters.domain.versions import ServedVersion
from service.engine.meters import Meters
from service.engine.shared_residency import SharedResidency
from service.metrics import Metrics
from service.reconcile.loader import Loader
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable
from service.reconcile.units_watch import CurrentUnits

SHOW_SECONDS = 1.0
ENDING_SECONDS = 14 * 86_400.0
"""How long before its end a holder's last key is told of."""
_PERIODS = {Quota.TOKENS_PER_DAY: "day", Quota.TOKENS_PER_MONTH: "month"}

log = structlog.get_logger("wardrobe.keys")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the gauges ask of the process."""

    table: RouteTable
    loader: Loader
    residency: SharedResidency
    held: Callable[[], Container[VersionId]]
    """Versions that answer a request of this process."""
    in_flight: Callable[[], int]
    """Requests that it is answering."""
    queued: Callable[[], int]
    """Requests that wait for their turn in the engine."""
    ready: Callable[[], bool]
    trust_left: Callable[[], float]
    """Seconds that keys are believed without a new look at the registry."""
    oldest_lease: Callable[[], float]
    """Seconds that the oldest of them has taken so far."""
    units: Callable[[], CurrentUnits]
    meters: Meters


def budgets_used(units: CurrentUnits, meters: Meters) -> Mapping[tuple[str, ...], float]:
    """By unit and `day` or `month`: what is used of each budget that there is, with what is
    reserved; of other replicas, what they had used when the registry was asked last.
    """
    now = meters.now()
    found: dict[tuple[str, ...], float] = {}
    for unit in units.units.by_name:
        budgets = [(quota, most) for quota, most in units.limits_of(unit).quotas if quota.is_budget]
        if not budgets:
            continue
        meter = meters.of(unit_account(unit))
        meter.move(now)
        for quota, most in budgets:
            used = meter.used(quota, now) + meter.elsewhere(quota, now)
            found[unit, _PERIODS[quota]] = used / most if most else 1.0
    return found


class Gauges:
    """Sets the gauges to the present state."""

    def __init__(self, seen: Seen, metrics: Metrics) -> None:
        self._seen = seen
        self._metrics = metrics
        self._live: frozenset[VersionId] = frozenset()
        self._draining: dict[VersionId, float] = {}
        self._ending: Mapping[str, int] = {}
        self.repeat = Repeat("gauges", self.step, every=SHOW_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """One look."""
        table, metrics = self._seen.table, self._metrics
        resident = [
            version
            for version in map(table.version, self._seen.residency.resident())
            if version is not None
        ]
        metrics.show(metrics.resident, {(v.name,): 1.0 for v in resident})
        metrics.show(metrics.resident_by_tier, self._by_tier(resident))
        metrics.waiting.set(self._seen.loader.waiting)
        metrics.in_flight.set(self._seen.in_flight())
        metrics.queued.set(self._seen.queued())
        metrics.oldest_lease.set(self._seen.oldest_lease())
        metrics.show(metrics.generation, {(r.alias,): float(r.generation) for r in table.routes})
        metrics.show(metrics.weight, self._weights())
        metrics.show(metrics.budget_used, budgets_used(self._seen.units(), self._seen.meters))
        metrics.show(
            metrics.unavailable,
            {
                (version.unit, alias, version.name, str(reason)): 1.0
                for alias, (version, reason) in self._seen.loader.unavailable().items()
            },
        )
        metrics.show(
            metrics.open_rollouts,
            {(o.unit, o.alias, str(o.state)): 1.0 for o in table.rollouts},
        )
        metrics.ready.set(self._seen.ready())
        metrics.key_trust.set(self._seen.trust_left())
        ending = table.keys_ending(ENDING_SECONDS)
        metrics.show(metrics.keys_ending, {(unit,): float(n) for unit, n in ending.items()})
        self._tell_of_keys(ending)
        metrics.drop_requests_of(self._is_gone)
        self._time_drains()

    def close(self) -> None:
        """It holds nothing."""

    def _weights(self) -> dict[tuple[str, ...], float]:
        table = self._seen.table
        return {
            (route.unit, route.alias, version.name): route.canary.weight
            for route in table.routes
            if route.canary is not None
            and (version := table.version(route.canary.version)) is not None
        }

    def _by_tier(self, resident: Sequence[ServedVersion]) -> Mapping[tuple[str, ...], float]:
        """How many there are of each; a tier that is empty says so."""
        live = {version.id for version in self._seen.table.live().values()}
        targets = {rollout.target for rollout in self._seen.table.rollouts} - live
        counts = Counter(
            "live" if v.id in live else "target" if v.id in targets else "idle" for v in resident
        )
        return {(tier,): float(counts[tier]) for tier in ("live", "target", "idle")}

    def _is_gone(self, alias: str, version: str) -> bool:
        return version != BASE and not self._seen.table.knows(version)

    def _tell_of_keys(self, ending: Mapping[str, int]) -> None:
        """Logs, once, that another holder's last key is about to end."""
        for unit, holders in ending.items():
            if holders > self._ending.get(unit, 0):
                log.warning("keys_end_soon", unit=unit, holders=holders)
        self._ending = ending

    def _time_drains(self) -> None:
        """From the flip away from a version to its last answer."""
        now, held = time.monotonic(), self._seen.held()
        live = frozenset(version.id for version in self._seen.table.answering())
        for version in self._live - live:
            self._draining[version] = now
        self._live = live
        for version in [v for v in self._draining if v not in held]:
            seconds = now - self._draining.pop(version)
            self._metrics.swap_phase.labels(phase="drain").observe(seconds)
