"""Keeps this engine's shares of what is limited for all replicas together.

One process of an engine asks the registry for all of them, every two seconds, and within half a
second where a request was refused that others may have room for. No request waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from adapters.domain.limits import Limits, Quota
from adapters.registry.ports import Claim, ProcessId, Quotas, Share
from service.engine.meters import Meter, Meters, Moment
from service.metrics import Metrics
from service.reconcile.registry_calls import RegistryCalls
from service.reconcile.repeat import Repeat

LOOK_SECONDS = 0.5
ASK_SECONDS = 2.0
AGAIN_SECONDS = 10.0
"""A share that nothing has happened to is claimed again after this, before it counts as given back.
"""
LATELY_SECONDS = 6.0
"""How long the most that was in flight keeps its share: requests come in bursts."""


class QuotaShares:
    """Claims what was used, and puts the shares where all processes of the engine see them."""

    def __init__(
        self,
        *,
        quotas: Quotas,
        meters: Meters,
        process: ProcessId,
        limits: Callable[[], Mapping[str, Limits]],
        is_owner: Callable[[], bool],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limits` are those of every account that has any."""
        self._quotas = quotas
        self._meters = meters
        self._process = process
        self._limits = limits
        self._is_owner = is_owner
        self._clock = clock
        self._asked_at = -ASK_SECONDS
        self._active: frozenset[str] = frozenset()
        self._wanted: dict[tuple[str, Quota], int] = {}
        """What each meter's `wanted` was when it was claimed last."""
        self._claimed: dict[tuple[str, Quota], tuple[Claim, float]] = {}
        self._lately: dict[tuple[str, Quota], tuple[int, float]] = {}
        """The most that was in flight, and when."""
        self._calls = RegistryCalls("quotas")
        self.repeat = Repeat("quotas", self.step, every=LOOK_SECONDS, metrics=metrics)

    async def step(self) -> bool:
        """Asks where it is time to, or somebody was refused."""
        if not self._is_owner():
            return False
        told = self._meters.knows_time
        claims = self._claims() if told else []
        # without a claim, too: what time it is, and how many replicas there are
        due = self._clock() - self._asked_at >= ASK_SECONDS
        if not (due or any(claim.wanted for claim in claims)):
            return False
        answer = await self._calls(self._quotas.share, self._process, claims)
        self._meters.set_clock(answer.at, replicas=answer.replicas)
        self._active = frozenset(answer.active)
        self._take(answer.shares)
        # what is given up is another's only once the registry hears that this one goes by less
        given_up = any(
            each.share < each.claim.holds and each.claim.account in answer.active
            for each in answer.shares
        )
        self._asked_at = self._clock() - (ASK_SECONDS if given_up else 0.0)
        return not told  # with the registry's time, what is used can be claimed

    def close(self) -> None:
        """Lets go of the thread."""
        self._calls.close()

    def _claims(self) -> Sequence[Claim]:
        limits = self._limits()
        return [
            claim
            for account, meter in self._meters.accounts(sorted(limits))
            for quota, most in zip(Quota, limits[account].most, strict=True)
            if most is not None and (claim := self._claim(account, meter, quota, most)) is not None
        ]

    def _claim(self, account: str, meter: Meter, quota: Quota, limit: int) -> Claim | None:
        """None where nobody uses any of it, here or elsewhere."""
        now = self._meters.now()
        claim = Claim(
            account=account,
            quota=quota,
            period=now.period(quota),
            limit=limit,
            used=self._used(account, meter, quota, now),
            wanted=meter.wanted(quota) - self._wanted.get((account, quota), 0),
            holds=meter.allowed(quota, limit, now),
        )
        if not (claim.used or claim.wanted or account in self._active or quota.is_budget):
            return None
        before, at = self._claimed.get((account, quota), (None, 0.0))
        is_news = claim != before or account in self._active
        return claim if is_news or self._clock() - at >= AGAIN_SECONDS else None

    def _used(self, account: str, meter: Meter, quota: Quota, now: Moment) -> int:
        used, clock = meter.used(quota, now), self._clock()
        if not quota.is_concurrent:
            return used
        most, at = self._lately.get((account, quota), (0, clock))
        if used >= most or clock - at >= LATELY_SECONDS:
            most, at = used, clock
        self._lately[account, quota] = (most, at)
        return most

    def _take(self, shares: Sequence[Share]) -> None:
        now = self._meters.now()
        for each in shares:
            claim = each.claim
            at = (claim.account, claim.quota)
            self._wanted[at] = self._wanted.get(at, 0) + claim.wanted
            self._claimed[at] = (claim, self._clock())
            if claim.period == now.period(claim.quota):
                self._meters.of(claim.account).give(
                    claim.quota, share=each.share, elsewhere=each.elsewhere, now=now
                )
