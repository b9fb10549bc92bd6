"""The owners of the swap: what brings this replica to the registry's desired state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from adapters.registry import Registry
from service.reconcile.acknowledgements import Acknowledgements
from service.reconcile.audit_head import AuditHead
from service.reconcile.canary_gauges import CanaryGauges
from service.reconcile.collection_loop import CollectionLoop
from service.reconcile.gauges import Gauges
from service.reconcile.heartbeat import Heartbeat
from service.reconcile.hint_listener import HintListener
from service.reconcile.key_uses import KeyUses
from service.reconcile.loader import Loader
from service.reconcile.membership import Membership
from service.reconcile.quota_shares import QuotaShares
from service.reconcile.repeat import Repeat
from service.reconcile.rollouts import RolloutSteps
from service.reconcile.route_cache import RouteCache
from service.reconcile.trial_counts import TrialCounts
from service.reconcile.usage_log import UsageLog
from service.tokens.holders import TokenHolders


class Owner(Protocol):
    """One part of the swap with a step of its own."""

    repeat: Repeat

    def close(self) -> None:
        """Lets go of what it holds outside of memory."""


@dataclass(frozen=True, kw_only=True)
class Swap:
    """The owners that bring this replica to the registry's desired state; none waits for another.

    Their registry calls go through a handle of their own, `registry`.
    """

    registry: Registry = field(repr=False)
    membership: Membership
    routes: RouteCache
    heartbeat: Heartbeat
    loader: Loader
    acknowledgements: Acknowledgements
    rollouts: RolloutSteps
    trials: TrialCounts
    hints: HintListener | None
    key_uses: KeyUses
    tokens: TokenHolders | None
    gauges: Gauges
    canary_gauges: CanaryGauges
    collector: CollectionLoop
    audit_head: AuditHead
    quotas: QuotaShares
    usage: UsageLog

    @property
    def owners(self) -> Sequence[Owner]:
        return (
            self.heartbeat,
            self.routes,
            self.loader,
            self.acknowledgements,
            self.rollouts,
            self.trials,
            self.key_uses,
            self.gauges,
            self.canary_gauges,
            self.collector,
            self.audit_head,
            self.quotas,
            self.usage,
            *([self.hints] if self.hints else []),
            *([self.tokens.keys] if self.tokens else []),
        )

    def stop(self) -> None:
        """Lets the present step of each be its last."""
        for owner in self.owners:
            owner.repeat.stop()
        if self.hints:
            self.hints.stop()

    def close(self) -> None:
        """Lets go of threads and connections."""
        if self.hints:
            self.hints.stop()
        for owner in self.owners:
            owner.close()
        self.registry.close()
