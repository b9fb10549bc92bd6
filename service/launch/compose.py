"""Puts one service process together from what its settings name and its engine offers."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from adapters.admission.base_model import BaseShapes
from adapters.domain.names import Digest
from adapters.domain.units import Units
from adapters.pepper import find_pepper
from adapters.registry import Registry
from adapters.registry.ports import Hints, ProcessId, Registration, Retention
from adapters.settings import Settings
from adapters.signing_keys import find_signer, signature_policy
from adapters.store import ArtifactStore
from service.engine.abilities import Abilities, ControlTokens
from service.engine.grammars import Grammars
from service.engine.leases import Leases
from service.engine.meters import Meters
from service.engine.port import Engine
from service.engine.pulse import Pulse
from service.engine.quarantine import Quarantine
from service.engine.shared_residency import INCARNATION, SharedResidency
from service.engine.turns import Turns
from service.engine.vital_signs import VitalSigns
from service.metrics import Metrics
from service.observe.log_target import log_target
from service.observe.request_log import RequestLog
from service.observe.traces import Traces
from service.reconcile.acknowledgements import Acknowledgements
from service.reconcile.audit_head import AuditHead
from service.reconcile.collection_loop import CollectionLoop
from service.reconcile.gauges import Gauges, Seen
from service.reconcile.heartbeat import Heartbeat
from service.reconcile.hint_listener import HintListener
from service.reconcile.key_uses import KeyUses
from service.reconcile.loader import Loader
from service.reconcile.membership import Membership
from service.reconcile.quota_shares import QuotaShares
from service.reconcile.rollouts import RolloutSteps
from service.reconcile.route_cache import RouteCache
from service.reconcile.route_table import RouteTable
from service.reconcile.trial_counts import TrialCounts
from service.reconcile.units_watch import UnitsWatch
from service.reconcile.usage_log import Prices, UsageLog
from service.runtime import Owner, Runtime, Swap, interrupt, replica_id
from service.tokens.holders import TokenHolders
from service.tokens.issuer import issuer_of
from service.tokens.issuer_keys import IssuerKeys
from service.tokens.key_set import fetch_keys

MAX_SEQUENCES = 256
"""vLLM's own default, for an engine that does not say."""
SHARED_SEQUENCES = {"cpu": 16, "gpu": 128}
"""Answers at once that do not slow each other down much."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a process is made of, opened by whoever composes it."""

    settings: Settings
    engine: Engine
    grammars: Grammars
    registry: Registry
    """For requests."""
    swap_registry: Registry
    """For the owners of the swap: another pool, so that no request's writer starves them."""
    store: ArtifactStore
    base_name: str
    base_fingerprint: Digest
    prometheus: CollectorRegistry
    base_shapes: BaseShapes = field(default_factory=dict)
    base_created: float = 0.0
    """When the base was put where it is, in seconds since 1970."""
    control_tokens: Sequence[str] = ()
    """The base's."""
    process: int = 0
    """Which of the engine's API processes this is."""
    processes: int = 1
    """How many those are."""
    on_units: Callable[[Units], object] = lambda _: None
    """Called when the units have changed; blocks."""
    hints: Hints | None = None
    """Of the registry's database, where it gives any."""
    collect_store: Callable[[], object] | None = None
    traces: Traces | None = None
    end: Callable[[], None] = interrupt
    clock: Callable[[], float] = time.monotonic


def compose(parts: Parts) -> Runtime:
    """The runtime, none of whose tasks runs yet.

    Blocks. Raises InvalidUnits, InvalidRequest, OSError.
    """
    settings, metrics = parts.settings, Metrics(parts.prometheus)
    units = UnitsWatch(settings.units, metrics, on_change=parts.on_units)
    pepper = find_pepper(settings)
    process = ProcessId(
        replica=replica_id(settings), incarnation=incarnation(), number=parts.process
    )
    shared = engine_folder(settings, process)
    residency = SharedResidency(shared / "residency", process=process.number, clock=parts.clock)
    leases = Leases(residency, parts.engine)
    signs = VitalSigns(settings.state_folder.vital_signs)
    if process.number == 0:  # one speaks for all: a scrape adds their counts up
        metrics.note_restarts(signs.restarts)
    meters = Meters(
        shared / "meters", process=process.number, processes=parts.processes, clock=parts.clock
    )
    table = RouteTable(base_name=parts.base_name, pepper=pepper, units=lambda: units.current.units)
    quarantine = Quarantine(
        settings.state_folder.in_flight,
        key=pepper,
        alive=lambda: parts.engine.alive,
        process=process.number,
    )
    within = _Within(
        parts=parts,
        metrics=metrics,
        units=units,
        pepper=pepper,
        membership=_membership(parts, process),
        residency=residency,
        leases=leases,
        quarantine=quarantine,
        meters=meters,
        table=table,
    )
    runtime = Runtime(
        settings=settings,
        registry=parts.registry,
        store=parts.store,
        engine=parts.engine,
        residency=residency,
        leases=leases,
        signs=signs,
        pulse=Pulse(signs, parts.engine, process=process.number),
        quarantine=quarantine,
        meters=meters,
        turns=Turns(
            parts.engine.limits.get("max_num_seqs", MAX_SEQUENCES) // parts.processes,
            shared=(settings.shared_sequences or SHARED_SEQUENCES[settings.engine])
            // parts.processes,
        ),
        # the heartbeat reports what the whole says of itself
        swap=_swap(within, is_ready=lambda: runtime.ready),
        units=units,
        metrics=metrics,
        grammars=parts.grammars,
        abilities=Abilities(
            context=parts.engine.limits["max_model_len"],
            tools=settings.calls_tools,
            control_tokens=ControlTokens(parts.control_tokens),
        ),
        base_shapes=parts.base_shapes,
        base_created=int(parts.base_created),
        request_log=_request_log(settings, process, metrics),
        signer=find_signer(settings),
        traces=parts.traces,
        pepper=pepper,
        end=parts.end,
    )
    return runtime


@dataclass(frozen=True, kw_only=True)
class _Within:
    """What the owners of the swap share."""

    parts: Parts
    metrics: Metrics
    units: UnitsWatch
    pepper: bytes = field(repr=False)
    membership: Membership
    residency: SharedResidency
    leases: Leases
    quarantine: Quarantine
    meters: Meters
    table: RouteTable


def _membership(parts: Parts, process: ProcessId) -> Membership:
    registration = Registration(
        process=process,
        base_fingerprint=parts.base_fingerprint,
        limits=parts.engine.limits,
        on_loss=parts.settings.on_registry_loss,
    )
    return Membership(
        registration, lease_seconds=parts.settings.serving_lease_seconds, clock=parts.clock
    )


def _swap(within: _Within, *, is_ready: Callable[[], bool]) -> Swap:
    """The owners, each made to tell the others what may concern them."""
    parts, metrics, membership = within.parts, within.metrics, within.membership
    registry, table = parts.swap_registry, within.table
    heartbeat = Heartbeat(
        replicas=registry.replicas,
        membership=membership,
        ready=is_ready,
        on_registered=lambda: _kick(routes, acknowledgements),
        metrics=metrics,
        clock=parts.clock,
    )

    def on_engine_changed() -> None:
        _kick(acknowledgements)
        heartbeat.notice()

    loader = Loader(
        table=table,
        engine=parts.engine,
        residency=within.residency,
        quarantine=within.quarantine,
        artifacts=parts.store,
        base_fingerprint=parts.base_fingerprint,
        signatures=signature_policy(parts.settings),
        on_change=on_engine_changed,
        metrics=metrics,
        clock=parts.clock,
    )
    acknowledgements = Acknowledgements(
        replicas=registry.replicas,
        membership=membership,
        state=loader.state,
        on_sent=lambda: rollouts.kick(),  # noqa: PLW0108 - made below
        on_unknown=lambda: _kick(heartbeat),
        metrics=metrics,
    )
    rollouts = RolloutSteps(
        rollouts=registry.rollouts,
        table=table,
        on_move=lambda: _kick(routes),
        metrics=metrics,
    )

    def on_routes_changed() -> None:
        _kick(loader)
        rollouts.kick()
        heartbeat.notice()

    routes = RouteCache(
        routes=registry.routes,
        replicas=registry.replicas,
        table=table,
        membership=membership,
        units=lambda: within.units.current.units,
        on_change=on_routes_changed,
        on_unknown=lambda: _kick(heartbeat),
        metrics=metrics,
    )
    return Swap(
        registry=registry,
        membership=membership,
        routes=routes,
        heartbeat=heartbeat,
        loader=loader,
        acknowledgements=acknowledgements,
        rollouts=rollouts,
        trials=TrialCounts(
            canaries=registry.canaries,
            table=table,
            membership=membership,
            metrics=metrics,
        ),
        hints=None
        if parts.hints is None
        else HintListener(parts.hints, on_hint=lambda: _kick(routes), metrics=metrics),
        key_uses=KeyUses(keys=registry.keys, metrics=metrics),
        tokens=_tokens(within),
        gauges=Gauges(
            Seen(
                table=table,
                loader=loader,
                residency=within.residency,
                held=lambda: within.leases.held,
                ready=is_ready,
                oldest_lease=lambda: within.leases.oldest_seconds,
            ),
            metrics,
        ),
        collector=CollectionLoop(
            # not the swap's: a round over a large registry may take longer than those wait
            collection=parts.registry.collection,
            retention=retention(parts.settings),
            collect_store=parts.collect_store,
            is_owner=lambda: loader.owner,
            metrics=metrics,
        ),
        audit_head=AuditHead(audit=registry.audit, is_owner=lambda: loader.owner, metrics=metrics),
        quotas=QuotaShares(
            quotas=registry.quotas,
            meters=within.meters,
            process=membership.process,
            limits=lambda: within.units.current.limits_by_account(table.principals),
            is_owner=lambda: loader.owner,
            metrics=metrics,
            clock=parts.clock,
        ),
        usage=UsageLog(
            ledger=registry.usage,
            process=membership.process,
            prices=Prices(
                prompt=parts.settings.price_prompt, completion=parts.settings.price_completion
            ),
            metrics=metrics,
        ),
    )


def _tokens(within: _Within) -> TokenHolders | None:
    """Who holds tokens, where an issuer is named."""
    issuer = issuer_of(within.parts.settings)
    if issuer is None:
        return None
    keys = IssuerKeys(partial(fetch_keys, issuer), metrics=within.metrics)
    return TokenHolders(issuer, keys, pepper=within.pepper)


def _request_log(settings: Settings, process: ProcessId, metrics: Metrics) -> RequestLog:
    """Its lines are of level `info`."""
    said = settings.log_level in ("debug", "info")
    file = settings.state_folder.logs / f"requests-{settings.port}-{process.number}.log"
    wanted = settings.request_log if said else "off"
    return RequestLog(wanted, metrics, write=log_target(file))


def retention(settings: Settings) -> Retention:
    """What is kept of that which nothing names any more."""
    return Retention(
        retired_versions=settings.keep_retired,
        rejected_days=settings.keep_rejected_days,
        candidate_days=settings.keep_candidate_days,
        event_days=settings.keep_history_days,
    )


def _kick(*owners: Owner) -> None:
    for owner in owners:
        owner.repeat.kick()


def incarnation() -> str:
    """This start's random name, as whoever started the engine's processes chose it."""
    return os.environ.get(INCARNATION) or secrets.token_hex(8)


def engine_folder(settings: Settings, process: ProcessId) -> Path:
    """For what the processes of this start share; what earlier starts left is removed.

    Whoever serves at a port holds its state folder's lock: nobody else uses the older ones.
    """
    engines = settings.state_folder.engines
    folder = engines / f"{settings.port}-{process.incarnation}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in engines.glob(f"{settings.port}-*"):
        if left != folder:
            shutil.rmtree(left, ignore_errors=True)
    return folder
