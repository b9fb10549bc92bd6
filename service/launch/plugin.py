"""Wardrobe as a vLLM endpoint plugin: our routers, and the runtime behind them.

Loaded by vLLM through the `vllm.endpoint_plugins` entry point when `VLLM_PLUGINS` names it.
"""

from __future__ import annotations

import asyncio
import signal
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import prometheus_client
import structlog
from fastapi import FastAPI

from adapters.admission.base_model import base_shapes, fingerprint
from adapters.domain.units import load_units
from adapters.errors import EngineUnavailable
from adapters.logs import configure_logs
from adapters.registry.open import open_registry
from adapters.registry.sql.hints import open_hints
from adapters.settings import Settings
from adapters.store.collector import Collector
from adapters.store.open import open_store
from service.api import attach
from service.engine.client_facts import control_tokens, process_count, process_number
from service.engine.engine_version import notice
from service.engine.grammars import CompiledGrammars, Grammars, NoGrammars
from service.engine.port import Engine
from service.engine.vllm_arguments import base_name
from service.engine.vllm_engine import (
    VllmEngine,
    engine_limits,
    installed_version,
    shape_forced_calls,
    warm_grammars,
)
from service.launch.bootstrap_keys import KeyKeeper
from service.launch.compose import compose
from service.launch.connection_bounds import BoundedHttp
from service.launch.process_parts import Parts
from service.launch.tls import CertificateWatch, certificate_files
from service.observe.traces import open_traces
from service.reconcile.registry_calls import PATIENCE_SECONDS
from service.runtime import Runtime, replica_id

LOOK_SECONDS = 0.1
SHUTDOWN_SECONDS = 5.0
"""What vLLM's web server waits for open connections at its end; without, it waits for ever."""

GRACE_SECONDS = 3600.0
"""Artifacts younger than this are never collected: their row may be about to be written."""

log = structlog.get_logger("wardrobe.service")


class WardrobePlugin:
    """Implements vLLM's plugin protocol."""

    name: ClassVar[str] = "wardrobe"
    required_tasks: ClassVar[tuple[str, ...]] = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Adds our routes; ours replace vLLM's where the path is the same."""
        attach(app)

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Builds the runtime and starts its tasks; readiness waits for the live versions."""
        settings = Settings()
        configure_logs(settings.log_level)
        shape_forced_calls()
        engine = VllmEngine(
            engine_client, state.openai_serving_models, engine_limits(engine_client)
        )
        if lacking := notice(installed_version()):
            log.warning("engine_version", notice=lacking)
        grammars = await open_grammars(engine_client)
        runtime = await asyncio.to_thread(
            build_runtime,
            settings,
            engine,
            grammars,
            control_tokens=control_tokens(engine_client),
            process=process_number(engine_client),
            processes=process_count(engine_client),
        )
        runtime.start()
        state.wardrobe = runtime
        state.wardrobe_following = asyncio.create_task(follow_server(runtime, state))
        state.wardrobe_tls = asyncio.create_task(watch_certificate(settings, state))
        log.info(
            "service_started",
            replica=replica_id(settings),
            process=process_number(engine_client),
            **engine.limits,
        )


async def open_grammars(engine_client: Any) -> Grammars:
    """Warms the engine's grammar compiler, and starts ours. Raises EngineUnavailable.

    Where only ours does not start, it is tried again for each schema: other requests go on.
    """
    facts = await warm_grammars(engine_client)
    if facts is None:
        return NoGrammars()
    grammars = CompiledGrammars(facts)
    try:
        await grammars.start()
    except EngineUnavailable:
        log.warning("grammar_compiler_failed")
    return grammars


async def server_of(state: Any) -> Any:
    """vLLM's web server, once it runs."""
    while not getattr(getattr(state, "server", None), "started", False):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    return state.server


async def watch_certificate(settings: Settings, state: Any) -> None:
    """Takes up a certificate that changes. vLLM's own way leaves a server with half a pair where
    the two files are not written at once, so it is not used.
    """
    files = certificate_files(settings)
    if files is not None:
        server = await server_of(state)
        await CertificateWatch(server.config.ssl, files).run()


async def follow_server(runtime: Runtime, state: Any) -> None:
    """Makes SIGTERM a drain, once the server runs and vLLM's own handler (which aborts) is set;
    bounds what comes over its connections, too, now that there is a server.

    What is drained, or whose engine has died, must end: the server gets a limit for that. Whoever
    comes once it ends is the fallback server's.
    """
    await server_of(state)
    state.server.config.timeout_graceful_shutdown = SHUTDOWN_SECONDS
    # looked up for each connection; the contract tests say so
    state.server.config.http_protocol_class = BoundedHttp
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runtime.start_drain)
    while not state.server.should_exit:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    runtime.signs.cease()


def build_runtime(
    settings: Settings,
    engine: Engine,
    grammars: Grammars,
    *,
    control_tokens: Sequence[str] = (),
    process: int = 0,
    processes: int = 1,
) -> Runtime:
    """Opens what the settings name. Blocks: it reads the base model and the registry."""
    registry = open_registry(settings.registry_url)
    store = open_store(settings)
    keys = KeyKeeper(settings, registry)
    keys.ensure(load_units(settings.units))
    return compose(
        Parts(
            settings=settings,
            engine=engine,
            grammars=grammars,
            registry=registry,
            swap_registry=open_registry(settings.registry_url, patience_s=PATIENCE_SECONDS),
            hints=open_hints(settings.registry_url),
            store=store,
            collect_store=Collector(store, registry.collection, grace_s=GRACE_SECONDS).run,
            base_name=base_name(settings),
            base_fingerprint=fingerprint(Path(settings.base)),
            base_shapes=base_shapes(Path(settings.base)),
            base_created=(Path(settings.base) / "config.json").stat().st_mtime,
            prometheus=prometheus_client.REGISTRY,
            control_tokens=control_tokens,
            process=process,
            processes=processes,
            on_units=keys.ensure,
            traces=open_traces(wanted=settings.traces),
        )
    )
