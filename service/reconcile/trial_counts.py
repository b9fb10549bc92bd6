"""Counts what canaries and shadows do in this process, and reports the totals to the registry.

A request costs a few additions in memory. Every two seconds, where something was counted, one write
replaces this process's rows: totals since its start, so that a lost answer loses nothing. What a
process has not reported when it dies is lost, which is the same for both arms.
"""

from __future__ import annotations

from adapters.domain.canaries import LATENCY_EDGES, Outcomes, latency_class
from adapters.domain.names import VersionId
from adapters.domain.shadows import Comparisons
from adapters.registry.ports import Canaries, Counted
from service.metrics import Metrics
from service.reconcile.membership import Membership
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat
from service.reconcile.route_table import RouteTable, Share, Target

REPORT_SECONDS = 2.0

Arm = tuple[int, VersionId]
"""The rollout that began a trial, and one of its versions."""


class _Tally:
    """One arm of a canary, counted in place."""

    __slots__ = ("errors", "latency")

    def __init__(self) -> None:
        self.errors = 0
        self.latency = [0] * (len(LATENCY_EDGES) + 1)

    @property
    def outcomes(self) -> Outcomes:
        answered = sum(self.latency)
        return Outcomes(
            requests=answered + self.errors, errors=self.errors, latency=tuple(self.latency)
        )


class TrialCounts:
    """Counts by trial and version."""

    def __init__(
        self,
        *,
        canaries: Canaries,
        table: RouteTable,
        membership: Membership,
        metrics: Metrics,
    ) -> None:
        self._canaries = canaries
        self._table = table
        self._membership = membership
        self._calls = RegistryCalls("trials")
        self._arms: dict[Arm, _Tally] = {}
        self._compared: dict[Arm, Comparisons] = {}
        self._fresh: set[Arm] = set()
        self.repeat = Repeat("trials", self.step, every=REPORT_SECONDS, metrics=metrics)

    def note(self, target: Target, *, failed: bool, seconds: float) -> None:
        """An answer of one of a canary's two versions; what is in no trial costs one look.

        What was asked for wrongly says nothing of it and is not noted.
        """
        if target.trial is None or target.version is None:
            return
        arm = (target.trial, target.version.id)
        tally = self._arms.get(arm)
        if tally is None:
            tally = self._arms[arm] = _Tally()
        if failed:
            tally.errors += 1
        else:
            tally.latency[latency_class(seconds)] += 1
        self._fresh.add(arm)

    def compare(self, share: Share, found: Comparisons) -> None:
        """What a copy was found to be."""
        version = share.target.version
        if version is not None:
            arm = (share.trial, version.id)
            self._compared[arm] = self._compared.get(arm, Comparisons()) + found
            self._fresh.add(arm)

    async def step(self) -> None:
        """Reports what has changed; forgets what is over."""
        self._forget(self._table.trials)
        fresh, self._fresh = self._fresh, set()
        if not fresh:
            return
        told = [
            Counted(rollout=trial, version=version, counts=self._counts((trial, version)))
            for trial, version in sorted(fresh)
        ]
        try:
            await self._calls(self._canaries.report, self._membership.process, told)
        except Exception:
            self._fresh |= fresh
            raise

    def _counts(self, arm: Arm) -> Outcomes | Comparisons:
        tally = self._arms.get(arm)
        return self._compared[arm] if tally is None else tally.outcomes

    def _forget(self, trials: frozenset[int]) -> None:
        for known in (self._arms, self._compared):
            for arm in [arm for arm in known if arm[0] not in trials]:
                del known[arm]
        self._fresh = {arm for arm in self._fresh if arm[0] in trials}

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()
