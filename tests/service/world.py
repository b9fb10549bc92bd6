"""A whole service in this process; all of it is real but the engine, which is simulated."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import openai
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from adapters.domain.names import Alias, Digest, Unit
from adapters.domain.routes import Rollout
from adapters.domain.units import load_units
from adapters.domain.versions import Version
from adapters.registry import NewVersion, Registry
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.store.folder import FolderStore
from service.api import attach
from service.gateway.gateway import Gateway
from service.gateway.leases import Leases
from service.launch.bootstrap_keys import ensure_keys
from service.launch.units_watch import UnitsWatch
from service.metrics import Metrics
from service.reconcile.converger import Converger, Replica
from service.reconcile.route_table import build_table
from service.runtime import Runtime, replica_id
from tests.service.simulated import BASE, SimulatedEngine

FINGERPRINT = Digest("b" * 64)
UNITS = {"support": ["support"], "sales": ["sales"], "hr": ["hr", "hr-screening"]}


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_units(folder: Path, extra: dict[str, str] | None = None) -> None:
    """One YAML file per unit; `extra` appends lines to a unit's file."""
    folder.mkdir(parents=True, exist_ok=True)
    for unit, aliases in UNITS.items():
        text = f"unit: {unit}\naliases: {json.dumps(aliases)}\n" + (extra or {}).get(unit, "")
        (folder / f"{unit}.yaml").write_text(text)


@dataclass
class World:
    """A running service and what tests ask of it."""

    settings: Settings
    runtime: Runtime
    engine: SimulatedEngine
    prometheus: CollectorRegistry
    opened: list[openai.OpenAI | httpx2.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def key(self, owner: str) -> str:
        """`admin`, `trainer` or a unit's."""
        keys = json.loads(self.settings.state_folder.keys.read_text())
        return str(keys.get(owner) or keys["units"][owner])

    def client(self, owner: str = "support", **options: Any) -> Any:
        """The real SDK with `owner`'s key; untyped, for tests send it wrong things too."""
        client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.key(owner), **{"max_retries": 0, **options}
        )
        self.opened.append(client)
        return client

    def http(self, owner: str | None = "admin") -> httpx2.Client:
        """A plain HTTP client."""
        headers = {"Authorization": f"Bearer {self.key(owner)}"} if owner else {}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=30)
        self.opened.append(client)
        return client

    def publish(
        self, adapter: str, unit: str | None = None, *, base: Digest = FINGERPRINT
    ) -> Version:
        """A candidate whose artifact is really in the store."""
        folder = self.settings.state / "made" / f"{adapter}-{time.monotonic_ns()}"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(str(folder).encode())
        new = NewVersion(
            adapter=adapter,
            unit=Unit(unit or adapter),
            digest=self.runtime.store.publish_adapter(folder),
            base_fingerprint=base,
            rank=8,
            size_bytes=100,
            evidence={},
        )
        return self.runtime.registry.publish_version(new, job_id=None, fence=None, at=time.time())

    def begin(self, version: Version) -> Rollout:
        """Its promotion, as far as the registry goes; the swap loop does the rest."""
        return self.runtime.registry.begin_rollout(
            Alias(version.adapter), version.id, unit=version.unit, action="promote",
            actor="test", expected_generation=None, at=time.time(),
        )  # fmt: skip

    def make_live(self, version: Version) -> Version:
        """Promoted without asking any replica, as if it had been long ago."""
        self.runtime.registry.complete_rollout(self.begin(version).id, at=time.time())
        return version


def build(
    state: Path,
    engine: SimulatedEngine,
    *,
    port: int,
    registry: Registry | None = None,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> tuple[Runtime, CollectorRegistry]:
    """The runtime as the plugin builds it, around a simulated engine; draining it ends nothing."""
    units = state.parent / "units"
    if not units.exists():
        write_units(units)
    configured = Settings(state=state, units=units, port=port, base="unused", **settings)
    folder = configured.state_folder.create()
    registry = registry or open_registry(folder.database_url)
    prometheus = CollectorRegistry()
    metrics = Metrics(prometheus)
    ensure_keys(configured, registry, load_units(units))
    leases, store, pepper = Leases(), FolderStore(folder.artifacts), folder.pepper()
    converger = Converger(
        replica=Replica(id=replica_id(configured), base_fingerprint=FINGERPRINT),
        registry=registry,
        store=store,
        engine=engine,
        leases=leases,
        metrics=metrics,
        build=partial(build_table, base_name=BASE, pepper=pepper),
        clock=clock,
    )
    runtime = Runtime(
        settings=configured,
        registry=registry,
        store=store,
        engine=engine,
        leases=leases,
        converger=converger,
        units=UnitsWatch(
            units,
            metrics,
            on_change=lambda changed: ensure_keys(configured, registry, changed),
        ),
        metrics=metrics,
        pepper=pepper,
        end=lambda: None,
    )
    return runtime, prometheus


@contextmanager
def offline(state: Path, engine: SimulatedEngine | None = None, **options: Any) -> Iterator[World]:
    """The same without a server and without its loops: a test ticks by itself. As for `build`."""
    engine = engine or SimulatedEngine()
    runtime, prometheus = build(state, engine, port=1, **options)
    try:
        yield World(runtime.settings, runtime, engine, prometheus)
    finally:
        runtime.registry.close()


@contextmanager
def running(state: Path, engine: SimulatedEngine | None = None, **settings: Any) -> Iterator[World]:
    """A service on a free port, stopped cleanly afterwards."""
    engine = engine or SimulatedEngine()
    port = free_port()
    made: list[tuple[Runtime, CollectorRegistry]] = []
    stop, ready = threading.Event(), threading.Event()

    async def serve() -> None:
        app = FastAPI()
        attach(app)
        engine.attach(app)
        app.add_middleware(Gateway)
        runtime, prometheus = build(state, engine, port=port, **settings)
        app.state.wardrobe = runtime
        await runtime.converger.attempt()
        runtime.start()
        server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off")
        )
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        made.append((runtime, prometheus))
        ready.set()
        while not stop.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        server.should_exit = True
        await task
        await runtime.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        if not ready.wait(20):
            raise RuntimeError("the service did not start")
        runtime, prometheus = made[0]
        world = World(runtime.settings, runtime, engine, prometheus)
        try:
            yield world
        finally:
            for client in world.opened:
                client.close()
    finally:
        stop.set()
        thread.join(20)
