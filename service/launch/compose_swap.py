"""Makes the owners of the swap, and wires who tells whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from adapters.registry import Registry
from adapters.registry.ports import Retention
from adapters.settings import Settings
from adapters.signing_keys import signature_policy
from service.engine.leases import Leases
from service.engine.meters import Meters
from service.engine.turns import Turns
from service.launch.process_parts import Parts
from service.metrics import Metrics
from service.reconcile.acknowledgements import Acknowledgements
from service.reconcile.audit_head import AuditHead
from service.reconcile.canary_gauges import CanaryGauges
from service.reconcile.collection_loop import CollectionLoop
from service.reconcile.gauges import Gauges, Seen
from service.reconcile.heartbeat import Heartbeat
from service.reconcile.hint_listener import HintListener
from service.reconcile.key_uses import KeyUses
from service.reconcile.loader import LoadedEngine, Loader
from service.reconcile.membership import Membership
from service.reconcile.quota_shares import QuotaShares
from service.reconcile.rollouts import RolloutSteps
from service.reconcile.route_cache import RouteCache
from service.reconcile.route_table import RouteTable
from service.reconcile.trial_counts import TrialCounts
from service.reconcile.units_watch import UnitsWatch
from service.reconcile.usage_log import Prices, UsageLog
from service.swap import Owner, Swap
from service.tokens.holders import TokenHolders
from service.tokens.issuer import issuer_of
from service.tokens.issuer_keys import IssuerKeys
from service.tokens.key_set import fetch_keys


@dataclass(frozen=True, kw_only=True)
class SwapParts:
    """What the owners of the swap are made of."""

    parts: Parts
    engine: LoadedEngine
    membership: Membership
    leases: Leases
    meters: Meters
    turns: Turns
    table: RouteTable
    units: UnitsWatch
    pepper: bytes = field(repr=False)
    is_ready: Callable[[], bool]
    metrics: Metrics

    @property
    def registry(self) -> Registry:
        """The owners' own handle."""
        return self.parts.swap_registry


class _Signals:
    """What owners tell one another. `swap` is set once all of them are made, before any runs."""

    swap: Swap

    def registered(self) -> None:
        _kick(self.swap.routes, self.swap.acknowledgements)

    def unknown(self) -> None:
        """The registry has no row of this process any more."""
        _kick(self.swap.heartbeat)

    def route_moved(self) -> None:
        """By a step of ours, or by what the database hints at."""
        _kick(self.swap.routes)

    def routes_changed(self) -> None:
        _kick(self.swap.loader)
        self.swap.rollouts.kick()
        self.swap.heartbeat.notice()

    def engine_changed(self) -> None:
        _kick(self.swap.acknowledgements)
        self.swap.heartbeat.notice()

    def acknowledged(self) -> None:
        self.swap.rollouts.kick()


def _kick(*owners: Owner) -> None:
    for owner in owners:
        owner.repeat.kick()


def compose_swap(within: SwapParts) -> Swap:
    """The owners, none of which runs yet."""
    signals = _Signals()
    loader, routes = _loader(within, signals), _routes(within, signals)
    registry, table, metrics = within.registry, within.table, within.metrics
    swap = Swap(
        registry=registry,
        membership=within.membership,
        routes=routes,
        heartbeat=_heartbeat(within, signals),
        loader=loader,
        acknowledgements=_acknowledgements(within, signals, loader),
        rollouts=RolloutSteps(
            rollouts=registry.rollouts, table=table, on_move=signals.route_moved, metrics=metrics
        ),
        trials=TrialCounts(
            canaries=registry.canaries, table=table, membership=within.membership, metrics=metrics
        ),
        hints=_hints(within, signals),
        key_uses=KeyUses(keys=registry.keys, metrics=metrics),
        tokens=_tokens(within),
        gauges=_gauges(within, loader, routes),
        canary_gauges=CanaryGauges(
            canaries=registry.canaries,
            table=table,
            is_owner=lambda: loader.owner,
            metrics=metrics,
        ),
        collector=_collector(within, loader),
        audit_head=AuditHead(audit=registry.audit, is_owner=lambda: loader.owner, metrics=metrics),
        quotas=_quotas(within, loader),
        usage=_usage(within),
    )
    signals.swap = swap
    return swap


def _loader(within: SwapParts, signals: _Signals) -> Loader:
    return Loader(
        within.engine,
        table=within.table,
        artifacts=within.parts.store,
        signatures=signature_policy(within.parts.settings),
        on_change=signals.engine_changed,
        metrics=within.metrics,
        clock=within.parts.clock,
    )


def _routes(within: SwapParts, signals: _Signals) -> RouteCache:
    return RouteCache(
        routes=within.registry.routes,
        replicas=within.registry.replicas,
        table=within.table,
        membership=within.membership,
        units=lambda: within.units.current.units,
        on_change=signals.routes_changed,
        on_unknown=signals.unknown,
        metrics=within.metrics,
        trust_seconds=within.parts.settings.key_trust_seconds,
        clock=within.parts.clock,
    )


def _heartbeat(within: SwapParts, signals: _Signals) -> Heartbeat:
    return Heartbeat(
        replicas=within.registry.replicas,
        membership=within.membership,
        ready=within.is_ready,
        on_registered=signals.registered,
        metrics=within.metrics,
        clock=within.parts.clock,
    )


def _acknowledgements(within: SwapParts, signals: _Signals, loader: Loader) -> Acknowledgements:
    return Acknowledgements(
        replicas=within.registry.replicas,
        membership=within.membership,
        state=loader.state,
        on_sent=signals.acknowledged,
        on_unknown=signals.unknown,
        metrics=within.metrics,
    )


def _hints(within: SwapParts, signals: _Signals) -> HintListener | None:
    """Where the registry's database gives any."""
    if within.parts.hints is None:
        return None
    return HintListener(within.parts.hints, on_hint=signals.route_moved, metrics=within.metrics)


def _tokens(within: SwapParts) -> TokenHolders | None:
    """Who holds tokens, where an issuer is named."""
    issuer = issuer_of(within.parts.settings)
    if issuer is None:
        return None
    keys = IssuerKeys(partial(fetch_keys, issuer), metrics=within.metrics)
    return TokenHolders(issuer, keys, pepper=within.pepper)


def _gauges(within: SwapParts, loader: Loader, routes: RouteCache) -> Gauges:
    seen = Seen(
        table=within.table,
        loader=loader,
        residency=within.engine.residency,
        held=lambda: within.leases.held,
        in_flight=lambda: within.leases.total,
        queued=lambda: within.turns.waiting,
        ready=within.is_ready,
        trust_left=lambda: routes.trust_left,
        oldest_lease=lambda: within.leases.oldest_seconds,
        units=lambda: within.units.current,
        meters=within.meters,
    )
    return Gauges(seen, within.metrics)


def _collector(within: SwapParts, loader: Loader) -> CollectionLoop:
    return CollectionLoop(
        # not the swap's: a round over a large registry may take longer than those wait
        collection=within.parts.registry.collection,
        retention=retention(within.parts.settings),
        collect_store=within.parts.collect_store,
        is_owner=lambda: loader.owner,
        metrics=within.metrics,
    )


def _quotas(within: SwapParts, loader: Loader) -> QuotaShares:
    return QuotaShares(
        quotas=within.registry.quotas,
        meters=within.meters,
        process=within.membership.process,
        limits=lambda: within.units.current.limits_by_account(within.table.principals),
        is_owner=lambda: loader.owner,
        metrics=within.metrics,
        clock=within.parts.clock,
    )


def _usage(within: SwapParts) -> UsageLog:
    settings = within.parts.settings
    return UsageLog(
        ledger=within.registry.usage,
        process=within.membership.process,
        prices=Prices(prompt=settings.price_prompt, completion=settings.price_completion),
        metrics=within.metrics,
    )


def retention(settings: Settings) -> Retention:
    """What is kept of that which nothing names any more."""
    return Retention(
        retired_versions=settings.keep_retired,
        rejected_days=settings.keep_rejected_days,
        candidate_days=settings.keep_candidate_days,
        event_days=settings.keep_history_days,
    )
