"""A whole service in this process; all of it is real but the engine, which is simulated."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from adapters.domain.jobs import Job
from adapters.domain.names import Alias, Digest, Unit
from adapters.domain.principals import SYSTEM
from adapters.domain.routes import Rollout
from adapters.domain.units import load_units
from adapters.domain.versions import Version
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import Acknowledgement, NewVersion, ProcessId, Registration
from adapters.registry.sql.hints import open_hints
from adapters.settings import Settings
from adapters.store.folder import FolderStore
from service.api import attach
from service.engine.grammars import CompiledGrammars
from service.engine.port import Engine
from service.gateway.gateway import Gateway
from service.launch.bootstrap_keys import ensure_keys
from service.launch.compose import compose
from service.launch.connection_bounds import BoundedHttp
from service.launch.key_files import read_kept
from service.launch.process_parts import Parts
from service.observe.traces import Traces
from service.runtime import Runtime
from tests.adapters.admission.tensors import SHAPES
from tests.empty_registry import new_state_folder
from tests.service.tiny_tokenizer import tiny_tokenizer
from tests.simulation.engine import BASE, SimulatedEngine
from tests.simulation.weights import write_adapter

FINGERPRINT = Digest("b" * 64)
BASE_CREATED = 1_800_000_000.5
CONTROL_TOKENS = ("<|start|>", "<|end|>", "<|user|>", "<|assistant|>")
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
        secrets = read_kept(self.settings.state_folder).secrets
        return secrets.get(owner) or secrets[f"units.{owner}"]

    def client(self, owner: str = "support", **options: Any) -> Any:
        """The real SDK with `owner`'s key; untyped, for tests send it wrong things too."""
        client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            **{"api_key": self.key(owner), "max_retries": 0, **options},
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
        self,
        adapter: str,
        unit: str | None = None,
        *,
        base: Digest = FINGERPRINT,
        job: Job | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Version:
        """A candidate whose artifact is really in the store; it answers with its own name. `job` is
        running, and has made it.
        """
        newest = self.runtime.registry.versions.list(SYSTEM, adapter=adapter, after=None, limit=1)
        number = newest.items[0].number + 1 if newest.items else 1
        folder = self.settings.state / "made" / f"{adapter}-{time.monotonic_ns()}"
        write_adapter(folder, f"answer of {adapter}:{number}")
        new = NewVersion(
            adapter=adapter,
            unit=Unit(unit or adapter),
            digest=self.runtime.store.publish_adapter(folder),
            base_fingerprint=base,
            rank=8,
            size_bytes=100,
            evidence=evidence or {},
        )
        fence = job.lease.fence if job and job.lease else None
        versions = self.runtime.registry.versions
        return versions.publish(new, job_id=job.id if job else None, fence=fence)

    def begin(self, version: Version) -> Rollout:
        """Its promotion, as far as the registry goes; the owners of the swap do the rest."""
        return self.runtime.registry.rollouts.promote(
            Alias(version.adapter),
            version.id,
            SYSTEM,
            unit=version.unit,
            expected_generation=None,
        )

    def make_live(self, version: Version) -> Version:
        """Promoted by a replica that has left since; only where no other is registered yet."""
        registry = self.runtime.registry
        before = ProcessId(replica="long-ago", incarnation="1")
        registry.replicas.register(
            Registration(process=before, base_fingerprint=version.base_fingerprint, limits={})
        )
        rollout = self.begin(version)
        registry.replicas.acknowledge("long-ago", "1", [Acknowledgement(version_id=version.id)])
        registry.rollouts.advance()
        registry.replicas.observe(before, registry.routes.revision())
        registry.replicas.leave(before)
        registry.rollouts.advance()
        assert registry.routes.route(Alias(version.adapter), version.unit).stable == version.id
        assert rollout.target == version.id
        return version

    async def settle(self, *, rounds: int = 12) -> None:
        """Every owner's step, several times over: what running tasks would do by themselves."""
        for _ in range(rounds):
            for owner in self.runtime.swap.owners:
                await owner.repeat.attempt()


def build(
    state: Path,
    engine: Engine,
    *,
    port: int,
    registry: Registry | None = None,
    process: int = 0,
    clock: Callable[[], float] = time.monotonic,
    traces: Traces | None = None,
    **settings: Any,
) -> tuple[Runtime, CollectorRegistry]:
    """The runtime as the plugin builds it, around a simulated engine; draining it ends nothing."""
    units = state.parent / "units"
    if not units.exists():
        write_units(units)
    # lines of requests would stand among what commands under test print
    settings = {"tool_parser": "hermes", "request_log": "off", **settings}
    configured = Settings(state=state, units=units, port=port, base="unused", **settings)
    folder = new_state_folder(state)
    registry = registry or open_registry(configured.registry_url)
    ensure_keys(configured, registry, load_units(units))
    prometheus = CollectorRegistry()
    runtime = compose(
        Parts(
            settings=configured,
            engine=engine,
            grammars=CompiledGrammars(tiny_tokenizer()),
            registry=registry,
            swap_registry=open_registry(configured.registry_url),
            hints=open_hints(folder.database_url),
            store=FolderStore(folder.artifacts),
            base_name=BASE,
            base_fingerprint=FINGERPRINT,
            prometheus=prometheus,
            base_shapes=SHAPES,
            base_created=BASE_CREATED,
            control_tokens=CONTROL_TOKENS,
            process=process,
            processes=2,  # of one engine, as far as its shared files go
            on_units=lambda changed: ensure_keys(configured, registry, changed),
            clock=clock,
            traces=traces,
            end=lambda: None,
        )
    )
    return runtime, prometheus


@contextmanager
def offline(state: Path, engine: SimulatedEngine | None = None, **options: Any) -> Iterator[World]:
    """The same without a server and without its tasks: a test takes their steps by itself. As for
    `build`."""
    engine = engine or SimulatedEngine()
    runtime, prometheus = build(state, engine, port=1, **options)
    try:
        yield World(runtime.settings, runtime, engine, prometheus)
    finally:
        runtime.close()


@contextmanager
def running(
    state: Path, engine: SimulatedEngine | None = None, *, wait: bool = True, **settings: Any
) -> Iterator[World]:
    """A service on a free port, ready unless it is not waited for; stopped cleanly afterwards."""
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
        runtime.start()
        config = uvicorn.Config(
            app, "127.0.0.1", port, http=BoundedHttp, log_level="error", lifespan="off"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not (server.started and (runtime.settled or not wait)):  # noqa: ASYNC110
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
        if not ready.wait(120):
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
        thread.join(120)
