"""Shows what is counted and concluded of canaries that run, as the registry knows it.

The registry adds up what all processes of all replicas have counted, and keeps the evidence that
decides. One process of an engine asks, every five seconds, for each canary that its routes name;
no request waits for it. Every replica shows the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from adapters.domain.canaries import Arms, CanaryRun
from adapters.errors import NotFound
from adapters.registry.ports import Canaries
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable

SHOW_SECONDS = 5.0
"""As often as a canary is judged."""


class CanaryGauges:
    """Asks for the canaries of the route table."""

    def __init__(
        self,
        *,
        canaries: Canaries,
        table: RouteTable,
        is_owner: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self._canaries = canaries
        self._table = table
        self._is_owner = is_owner
        self._metrics = metrics
        self._calls = RegistryCalls("canary_gauges")
        self.repeat = Repeat("canary_gauges", self.step, every=SHOW_SECONDS, metrics=metrics)

    async def step(self) -> None:
        """One look; what runs no longer is shown no longer."""
        answers: dict[tuple[str, ...], float] = {}
        errors: dict[tuple[str, ...], float] = {}
        evidence: dict[tuple[str, ...], float] = {}
        for run, arms, names in await self._running():
            route = (run.unit, run.alias)
            for arm, version in names.items():
                counted = arms.canary if arm == "canary" else arms.stable
                answers[*route, version, arm] = float(counted.requests)
                errors[*route, version, arm] = float(counted.errors)
            for signal, worse in run.evidence.worse.items():
                told = (*route, names["canary"], str(signal))
                evidence[told] = worse.log_e_value / math.log(10.0)
        self._metrics.show(self._metrics.canary_answers, answers)
        self._metrics.show(self._metrics.canary_errors, errors)
        self._metrics.show(self._metrics.canary_evidence, evidence)

    async def _running(self) -> Sequence[tuple[CanaryRun, Arms, Mapping[str, str]]]:
        """Each with the names of its two versions."""
        found: list[tuple[CanaryRun, Arms, Mapping[str, str]]] = []
        for route in self._table.routes if self._is_owner() else ():
            stable, named = self._table.version(route.stable), route.canary
            canary = None if named is None else self._table.version(named.version)
            if named is None or canary is None or stable is None:
                continue
            try:
                run, arms = await self._calls(self._canaries.newest, route.alias, route.unit)
            except NotFound:
                continue
            if run.rollout == named.rollout:
                found.append((run, arms, {"canary": canary.name, "stable": stable.name}))
        return found

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
