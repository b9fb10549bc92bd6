"""Puts one service process together from what its settings name and its engine offers."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from adapters.pepper import find_pepper
from adapters.registry.ports import ProcessId, Registration
from adapters.registry.ports.replicas import TRUSTED_KEYS
from adapters.settings import Settings
from adapters.signing_keys import find_signer, signature_policy
from service.engine.abilities import Abilities, ControlTokens
from service.engine.leases import Leases
from service.engine.meters import Meters
from service.engine.pulse import Pulse
from service.engine.quarantine import Quarantine
from service.engine.shared_residency import INCARNATION, SharedResidency
from service.engine.turns import Turns
from service.engine.vital_signs import VitalSigns
from service.launch.compose_swap import SwapParts, compose_swap
from service.launch.process_parts import Parts
from service.metrics import Metrics
from service.observe.log_target import log_target
from service.observe.request_log import RequestLog
from service.reconcile.loader import LoadedEngine
from service.reconcile.membership import Membership
from service.reconcile.route_table import RouteTable
from service.reconcile.units_watch import UnitsWatch
from service.runtime import Runtime, replica_id

MAX_SEQUENCES = 256
"""vLLM's own default, for an engine that does not say."""
SHARED_SEQUENCES = {"cpu": 16, "gpu": 128}
"""Answers at once that do not slow each other down much."""


def compose(parts: Parts) -> Runtime:
    """The runtime, none of whose tasks runs yet.

    Blocks. Raises InvalidUnits, InvalidRequest, OSError.
    """
    settings, metrics = parts.settings, Metrics(parts.prometheus)
    process = ProcessId(
        replica=replica_id(settings), incarnation=incarnation(), number=parts.process
    )
    # the heartbeat reports what the whole says of itself
    within = _swap_parts(parts, process, metrics, is_ready=lambda: runtime.ready)
    signs = _signs(settings, process, metrics)
    runtime = Runtime(
        settings=settings,
        registry=parts.registry,
        store=parts.store,
        engine=parts.engine,
        residency=within.engine.residency,
        leases=within.leases,
        signs=signs,
        pulse=Pulse(signs, parts.engine, process=process.number),
        quarantine=within.engine.quarantine,
        meters=within.meters,
        turns=within.turns,
        swap=compose_swap(within),
        units=within.units,
        metrics=metrics,
        grammars=parts.grammars,
        abilities=_abilities(parts),
        base_shapes=parts.base_shapes,
        base_created=int(parts.base_created),
        request_log=_request_log(settings, process, metrics),
        signer=find_signer(settings),
        traces=parts.traces,
        pepper=within.pepper,
        end=parts.end,
    )
    return runtime


def _swap_parts(
    parts: Parts, process: ProcessId, metrics: Metrics, *, is_ready: Callable[[], bool]
) -> SwapParts:
    settings = parts.settings
    units = UnitsWatch(settings.units, metrics, on_change=parts.on_units)
    pepper = find_pepper(settings)
    shared = engine_folder(settings, process)
    engine = _engine(parts, shared / "residency", pepper)
    return SwapParts(
        parts=parts,
        engine=engine,
        membership=_membership(parts, process),
        leases=Leases(engine.residency, parts.engine),
        meters=Meters(
            shared / "meters", process=process.number, processes=parts.processes, clock=parts.clock
        ),
        turns=_turns(parts),
        table=RouteTable(
            base_name=parts.base_name, pepper=pepper, units=lambda: units.current.units
        ),
        units=units,
        pepper=pepper,
        is_ready=is_ready,
        metrics=metrics,
    )


def _engine(parts: Parts, residency: Path, pepper: bytes) -> LoadedEngine:
    return LoadedEngine(
        port=parts.engine,
        residency=SharedResidency(residency, process=parts.process, clock=parts.clock),
        quarantine=Quarantine(
            parts.settings.state_folder.in_flight,
            key=pepper,
            alive=lambda: parts.engine.alive,
            process=parts.process,
        ),
        base_fingerprint=parts.base_fingerprint,
    )


def _signs(settings: Settings, process: ProcessId, metrics: Metrics) -> VitalSigns:
    signs = VitalSigns(settings.state_folder.vital_signs)
    if process.number == 0:  # one speaks for all: a scrape adds their counts up
        metrics.note_restarts(signs.restarts)
    return signs


def _turns(parts: Parts) -> Turns:
    """This process's part of the answers that the engine may work on at once."""
    settings = parts.settings
    shared = settings.shared_sequences or SHARED_SEQUENCES[settings.engine]
    calm = calm_sequences(settings, shared=shared, cores=len(os.sched_getaffinity(0)))
    return Turns(
        parts.engine.limits.get("max_num_seqs", MAX_SEQUENCES) // parts.processes,
        shared=shared // parts.processes,
        beside_calm=max(1, calm // parts.processes),
    )


def calm_sequences(settings: Settings, *, shared: int, cores: int) -> int:
    """Answers at once beside a unit that keeps to its part, of `shared` where all want more.

    On a CPU one for each core by default: those beyond it make every step of the engine longer.
    """
    return settings.calm_sequences or (shared if settings.engine == "gpu" else max(2, cores))


def _abilities(parts: Parts) -> Abilities:
    return Abilities(
        context=parts.engine.limits["max_model_len"],
        tools=parts.settings.calls_tools,
        vocabulary=parts.engine.limits.get("vocabulary", Abilities.vocabulary),
        control_tokens=ControlTokens(parts.control_tokens),
    )


def _membership(parts: Parts, process: ProcessId) -> Membership:
    registration = Registration(
        process=process,
        base_fingerprint=parts.base_fingerprint,
        limits={**parts.engine.limits, TRUSTED_KEYS: signature_policy(parts.settings).required},
        on_loss=parts.settings.on_registry_loss,
    )
    return Membership(
        registration, lease_seconds=parts.settings.serving_lease_seconds, clock=parts.clock
    )


def _request_log(settings: Settings, process: ProcessId, metrics: Metrics) -> RequestLog:
    """Its lines are of level `info`."""
    said = settings.log_level in ("debug", "info")
    file = settings.state_folder.logs / f"requests-{settings.port}-{process.number}.log"
    wanted = settings.request_log if said else "off"
    return RequestLog(wanted, metrics, write=log_target(file))


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
