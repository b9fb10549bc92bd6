"""Wardrobe as a vLLM endpoint plugin: our routers, and the runtime behind them.

Loaded by vLLM through the `vllm.endpoint_plugins` entry point when `VLLM_PLUGINS` names it.
"""

from __future__ import annotations

import asyncio
import signal
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import prometheus_client
import structlog
from fastapi import FastAPI

from adapters.admission.base_model import fingerprint
from adapters.domain.units import Units, load_units
from adapters.errors import EngineUnavailable
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.store.open import open_store
from service.api import attach
from service.engine.vllm_engine import VllmEngine, base_name, engine_limits
from service.gateway.leases import Leases
from service.launch.bootstrap_keys import ensure_keys
from service.launch.logs import configure_logs
from service.launch.units_watch import UnitsWatch
from service.metrics import Metrics
from service.reconcile.converger import Converger, Replica
from service.reconcile.route_table import build_table
from service.runtime import Runtime, replica_id

SHUTDOWN_SECONDS = 5.0
"""What vLLM's web server waits for open connections at its end; without, it waits for ever."""

log = structlog.get_logger("wardrobe.service")


class WardrobePlugin:
    """What vLLM's plugin protocol asks for."""

    name: ClassVar[str] = "wardrobe"
    required_tasks: ClassVar[tuple[str, ...]] = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds our routes; ours replace vLLM's where the path is the same."""
        attach(app)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Builds the runtime, reads the registry once, and starts the swap loop."""
        settings = Settings()
        configure_logs(settings.log_level)
        engine = VllmEngine(
            engine_client, state.openai_serving_models, engine_limits(engine_client)
        )
        runtime = await asyncio.to_thread(build_runtime, settings, engine)
        await first_tick(runtime)
        runtime.start()
        state.wardrobe = runtime
        state.wardrobe_sigterm = asyncio.create_task(drain_on_sigterm(runtime, state))
        log.info("service_started", replica=replica_id(settings), **engine.limits)


async def first_tick(runtime: Runtime) -> None:
    """Loads what is live. What cannot be had now, the loop will get; readiness waits for it.

    Raises EngineUnavailable when the engine has died: vLLM's watchdog does not look yet, and with
    this error the process ends and is started again.
    """
    await runtime.converger.attempt()
    if not runtime.engine.alive:
        raise EngineUnavailable("the engine died while the live versions were loaded")


async def drain_on_sigterm(runtime: Runtime, state: Any) -> None:
    """Makes SIGTERM a drain, once the server runs and vLLM's own handler (which aborts) is set.

    What is drained, or whose engine has died, must end: the server gets a limit for that.
    """
    while not getattr(getattr(state, "server", None), "started", False):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    state.server.config.timeout_graceful_shutdown = SHUTDOWN_SECONDS
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runtime.start_drain)


def build_runtime(settings: Settings, engine: Any) -> Runtime:
    """Opens what the settings name. Blocks: it reads the base model and the registry."""
    folder = settings.state_folder
    registry = open_registry(folder.database_url)
    metrics = Metrics(prometheus_client.REGISTRY)
    pepper = folder.pepper()
    ensure_keys(settings, registry, load_units(settings.units))

    def new_unit_keys(units: Units) -> None:
        for owner in ensure_keys(settings, registry, units):
            log.info("key_made", owner=owner, kept_in=folder.keys.name)

    leases = Leases()
    store = open_store(settings)
    converger = Converger(
        replica=Replica(id=replica_id(settings), base_fingerprint=fingerprint(Path(settings.base))),
        registry=registry,
        store=store,
        engine=engine,
        leases=leases,
        metrics=metrics,
        build=partial(build_table, base_name=base_name(settings), pepper=pepper),
    )
    return Runtime(
        settings=settings,
        registry=registry,
        store=store,
        engine=engine,
        leases=leases,
        converger=converger,
        units=UnitsWatch(settings.units, metrics, on_change=new_unit_keys),
        metrics=metrics,
        pepper=pepper,
    )
