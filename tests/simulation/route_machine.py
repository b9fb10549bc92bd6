"""Replicas in this process, whose every step a test takes itself: nothing depends on time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from fastapi import FastAPI

from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.sql.canary_rows import LOOK_SECONDS
from service.api import attach
from service.gateway.gateway import Gateway
from service.launch.key_files import read_kept
from service.runtime import Runtime
from tests.service.world import build
from tests.simulation.engine import SimulatedEngine

HELLO = [{"role": "user", "content": "hello"}]
PASSES = 6
LOOK = LOOK_SECONDS + 0.1

T = TypeVar("T")


class Node:
    """One replica: the real service before a simulated engine, without a socket or a task."""

    def __init__(self, state: Path, port: int) -> None:
        self.engine = SimulatedEngine()
        self.runtime: Runtime
        self.runtime, _ = build(state, self.engine, port=port)
        app = FastAPI()
        app.state.wardrobe = self.runtime
        attach(app)
        self.engine.attach(app)
        app.add_middleware(Gateway)
        kept = read_kept(self.runtime.settings.state_folder).secrets
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="http://replica",
            headers={"Authorization": f"Bearer {kept['units.support']}"},
        )

    @property
    def ended(self) -> bool:
        """Whether its process would have ended: by its drain, or behind its engine."""
        return self.runtime.draining or not self.engine.alive

    async def settle(self) -> None:
        """Every owner's step."""
        for owner in self.runtime.swap.owners:
            if owner is not self.runtime.swap.collector:
                await owner.repeat.attempt()

    async def crash(self) -> None:
        """It is gone, and has told nobody."""
        self.runtime.close()
        await self.client.aclose()

    async def ask(self, model: str, **more: Any) -> httpx2.Response:
        body = {"model": model, "messages": HELLO, **more}
        return await self.client.post("/v1/chat/completions", json=body)

    async def command(self, alias: str, path: str, **words: Any) -> httpx2.Response:
        """One that waits for nothing."""
        return await self.client.post(f"/v1/adapters/{alias}/{path}", json={"wait": False, **words})


class Nodes:
    """All replicas of one registry, each at its place, up or down."""

    def __init__(self, folder: Path, count: int) -> None:
        self._state = folder / "state"
        self._loop = asyncio.new_event_loop()
        self._ports = list(range(1, count + 1))
        self.at: list[Node | None] = [None] * count
        for place in range(count):
            self.start(place)
        # beside the replicas, as the trainer has it
        some = self.up[0].runtime
        self.store = some.store
        url = some.settings.registry_url
        self.registry: Registry = open_registry(url)
        self._looks = 0
        self._later = open_registry(url, now=lambda: time.time() + LOOK * self._looks)

    @property
    def up(self) -> list[Node]:
        return [node for node in self.at if node is not None]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def start(self, place: int) -> None:
        self.at[place] = Node(self._state, self._ports[place])

    def look_at_canaries(self) -> None:
        """The look that is due next, without the wait for it."""
        self._looks += 1
        self._later.rollouts.advance()

    def settle(self) -> None:
        """All that are up take their steps in turn, until nothing moves or nobody can move it."""
        for _ in range(PASSES):
            for node in self.up:
                if not node.ended:
                    self.run(node.settle())
            if self._is_quiet():
                return

    def _is_quiet(self) -> bool:
        changes = self.registry.routes.changes(-1)
        return not changes.rollouts and all(
            node.runtime.table.revision == changes.revision and node.runtime.settled
            for node in self.up
            if not node.ended
        )

    def drop(self, place: int) -> None:
        """Its process is gone."""
        node = self.at[place]
        if node is not None:
            self.run(node.crash())
            self.at[place] = None

    def close(self) -> None:
        for place in range(len(self.at)):
            self.drop(place)
        self.registry.close()
        self._later.close()
        self._loop.close()
