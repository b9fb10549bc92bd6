"""The simulated engine behind our port (`service.engine.port.Engine`).

The same shape as the real one: an engine client and a model table. Beside vLLM's semantics, which
are the core's, it can be told to refuse a version, to break over one, to be slow, or to die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from adapters.domain.limits import Usage
from adapters.domain.names import VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, Rejected
from tests.simulation.client import Client, LocalClient, Sampling
from tests.simulation.core import BASE, Core, EngineDeadError, Limits, Lora
from tests.simulation.handlers import Handlers, Models

__all__ = ["BASE", "ClientEngine", "SimulatedEngine"]

PROBE = {"prompt_token_ids": [1, 2, 3, 4, 5, 6, 7]}


class ClientEngine:
    """The port over a client with vLLM's verbs, wherever its core is."""

    def __init__(
        self, client: Client, limits: Limits, *, base: str = BASE, max_model_len: int = 512
    ) -> None:
        self.client = client
        self.models = Models(base=base)
        self.names: dict[VersionId, str] = {}
        self.limits: Mapping[str, Any] = {
            "engine": "simulated",
            "max_lora_rank": limits.max_lora_rank,
            "max_cpu_loras": limits.max_cpu_loras,
            "max_loras": limits.max_loras,
            "max_model_len": max_model_len,
            "max_num_seqs": limits.max_num_seqs,
            "scheduling": "priority",
        }

    @property
    def resident(self) -> frozenset[VersionId]:
        return frozenset(self.names)

    @property
    def alive(self) -> bool:
        return not self.client.errored

    async def ping(self, *, workers: bool) -> None:
        ask = self.client.list_loras if workers else self.client.is_sleeping
        try:
            await ask()
        except EngineDeadError as error:
            raise EngineUnavailable("the engine does not answer") from error

    async def load(self, version: ServedVersion, path: Path) -> None:
        if version.id in self.names:
            return
        lora = Lora(lora_name=version.name, lora_int_id=version.id, lora_path=str(path))
        try:
            await self.client.add_lora(lora)
            await self._prove(lora)
        except EngineDeadError as error:
            raise EngineUnavailable("the engine has stopped and is being restarted") from error
        except Rejected:
            await self.client.remove_lora(lora.lora_int_id)
            raise
        except Exception as error:  # the client's word for whatever failed in the core
            raise Rejected(f"the engine cannot load {version.name}") from error
        self.names[version.id] = version.name
        self.models.lora_requests[version.name] = lora

    async def unload(self, version_id: VersionId) -> None:
        name = self.names.pop(version_id, None)
        if name is not None:
            self.models.lora_requests.pop(name, None)
            await self.client.remove_lora(version_id)

    def name(self, version: ServedVersion, path: Path) -> None:
        self.names[version.id] = version.name
        self.models.lora_requests[version.name] = Lora(
            lora_name=version.name, lora_int_id=version.id, lora_path=str(path)
        )

    def forget(self, version_id: VersionId) -> None:
        name = self.names.pop(version_id, None)
        if name is not None:
            self.models.lora_requests.pop(name, None)

    def spent(self, request_id: str) -> Usage | None:
        for name, speech in self.client.under_way.items():
            if request_id in name:
                return Usage(prompt=speech.prompt_tokens, completion=len(speech.token_ids))
        return None

    def attach(self, app: FastAPI) -> None:
        """Adds what stands for vLLM's own routes."""
        Handlers(self.client, self.models).attach(app)

    async def _prove(self, lora: Lora) -> None:
        answer, base = await asyncio.gather(self._first_token(lora), self._first_token(None))
        if answer == base:
            raise Rejected(f"{lora.lora_name} answers exactly as the base: nothing of it was used")

    async def _first_token(self, lora: Lora | None) -> float:
        final = None
        async for output in self.client.generate(
            PROBE, Sampling(max_tokens=1), f"probe-{lora and lora.lora_int_id}", lora_request=lora
        ):
            final = output
        if final is None:
            raise EngineDeadError("no answer to a probe")
        return next(iter(final.outputs[0].logprobs[0].values())).logprob


class SimulatedEngine(ClientEngine):
    """An engine whose core is in this process, and which tests can spoil."""

    def __init__(self, *, capacity: int = 8, core: Core | None = None) -> None:
        self.core = core or Core(Limits(max_loras=min(4, capacity), max_cpu_loras=capacity))
        super().__init__(LocalClient(self.core), self.core.limits)
        self.refused: set[str] = set()
        self.held: set[str] = set()
        """Their loads last for as long as they are in here."""
        self.failing = self.models.failing
        self.broken: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.loads: list[str] = []
        self.most_resident = 0

    @property
    def alive(self) -> bool:
        return super().alive

    @alive.setter
    def alive(self, lives: bool) -> None:
        if lives:
            raise ValueError("a dead engine does not come back in its process")
        self.core.kill()

    @property
    def load_seconds(self) -> float:
        return self.core.pace.load

    @load_seconds.setter
    def load_seconds(self, seconds: float) -> None:
        self.core.pace.load = seconds

    @property
    def token_seconds(self) -> float:
        return self.core.pace.step

    @token_seconds.setter
    def token_seconds(self, seconds: float) -> None:
        self.core.pace.step = seconds

    async def load(self, version: ServedVersion, path: Path) -> None:
        if version.id not in self.names:
            self.asked.append(version.name)
        if version.name in self.broken:
            raise self.broken[version.name]
        if version.name in self.refused:
            raise Rejected(f"the engine cannot load {version.name}")
        while version.name in self.held:  # noqa: ASYNC110 - another thread takes it out
            await asyncio.sleep(0.01)
        await super().load(version, path)
        self.loads.append(version.name)
        self.most_resident = max(self.most_resident, len(self.names))

    async def unload(self, version_id: VersionId) -> None:
        name = self.names.get(version_id)
        await super().unload(version_id)
        if name in self.broken:
            raise self.broken[name]
