"""The core of the simulated engine: vLLM's adapter semantics, step by step.

Each of these was read in vLLM 0.32 and is shown by `test_core.py`:

- two tiers, both least-recently-used: `max_cpu_loras` registered and `max_loras` active ones
  (`vllm/lora/model_manager.py`, LRUCacheLoRAModelManager);
- every step applies the adapters of its batch, and reads those from disk that are not registered
  any more (`vllm/lora/worker_manager.py`, `_apply_adapters`); what fails there kills the engine;
- weights are known by `lora_int_id` alone: a registered id is never read again;
- a batch has at most `max_loras` adapters; requests for others wait (`v1/core/sched/scheduler.py`);
- the prefix cache is keyed by (name, path) of the adapter, the salt and the prompt, in full blocks,
  and not by the weights (`v1/core/kv_cache_utils.py`, `generate_block_hash_extra_keys`);
- `add_lora` and its kin run between two steps, and raise a bare `Exception` for whatever failed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.simulation.weights import AdapterNotFound, Weights, base_weights, read_weights

BASE = "wardrobe-base"
BLOCK = 16
"""Tokens of a block of the prefix cache, as in vLLM."""
CACHED_BLOCKS = 4096


FATAL = "fatal5417"
"""A prompt with this word ends the engine in the step that reads it, and so does an adapter that
answers with it in the load that does.
"""


class EngineDeadError(Exception):
    """EngineCore encountered an issue."""


class LoraRequest(Protocol):
    """`vllm.lora.request.LoRARequest` as far as the core looks at it."""

    @property
    def lora_name(self) -> str: ...

    @property
    def lora_int_id(self) -> int: ...

    @property
    def lora_path(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRARequest that does not need vLLM."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The engine's options that adapters depend on, with vLLM's names."""

    max_loras: int = 4
    max_cpu_loras: int = 8
    max_lora_rank: int = 64
    max_num_seqs: int = 256

    def __post_init__(self) -> None:
        if self.max_cpu_loras < self.max_loras:  # vLLM's LoRAConfig says so, too
            raise ValueError("max_cpu_loras must be at least max_loras")


@dataclass(kw_only=True)
class Pace:
    """Seconds that the engine takes; tests may change them while it runs."""

    step: float = 0.0
    """Between two tokens of a batch."""
    load: float = 0.0
    """To read an adapter."""
    stalls: bool = False
    """Whether an `add_lora` holds the steps up meanwhile, as vLLM's own does."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One step's part of an answer."""

    word: str
    logprob: float
    cached_tokens: int
    last: bool


@dataclass(eq=False, kw_only=True)
class _Running:
    """A request within the engine."""

    prompt: Sequence[str]
    salt: str
    lora: LoraRequest | None
    tokens: asyncio.Queue[Token | EngineDeadError] = field(default_factory=asyncio.Queue)
    spoken: int = 0
    cached: int = 0
    origins: frozenset[str] = frozenset()
    """Digests of the weights that the cached part of its prompt was computed with."""


class Core:
    """One engine. It lives on one event loop, as vLLM's core lives in one process."""

    def __init__(
        self, limits: Limits = Limits(), pace: Pace | None = None, *, base: str = BASE
    ) -> None:
        self.limits = limits
        self.pace = pace or Pace()
        self.registered: OrderedDict[int, Weights] = OrderedDict()
        self.active: OrderedDict[int, None] = OrderedDict()
        self.reads = 0
        """Adapters read from disk."""
        self.widest = 0
        """Most adapters in one batch."""
        self.death: str | None = None
        self._base = base_weights(base)
        self._blocks: OrderedDict[int, str] = OrderedDict()
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []
        self._between_steps = asyncio.Lock()
        self._stepping: asyncio.Task[None] | None = None

    # -- the engine's verbs

    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""
        return len(self._waiting) + len(self._running)

    async def add_lora(self, lora: LoraRequest) -> bool:
        """Reads an adapter into both tiers; one that is registered is only touched."""
        self._check_alive()
        if lora.lora_int_id not in self.registered and not self.pace.stalls:
            await asyncio.sleep(self.pace.load)
        return await self._utility("add_lora", lambda: self._add(lora), stalls=True)

    async def remove_lora(self, lora_id: int) -> bool:
        """Drops an adapter from both tiers; False when it is not registered."""
        return await self._utility("remove_lora", lambda: self._remove(lora_id))

    async def list_loras(self) -> set[int]:
        """Ids of the registered adapters."""
        self._check_alive()
        return set(self.registered)

    async def is_sleeping(self) -> bool:
        """Never: but only a living core says so."""
        self._check_alive()
        return False

    async def generate(
        self, prompt: Sequence[str], *, salt: str = "", lora: LoraRequest | None = None
    ) -> AsyncGenerator[Token, None]:
        """An answer token by token. Raises EngineDeadError. Closing it aborts the request."""
        self._check_alive()
        request = _Running(prompt=prompt, salt=salt, lora=lora)
        self._waiting.append(request)
        self._wake()
        try:
            while True:
                token = await request.tokens.get()
                if isinstance(token, EngineDeadError):
                    raise token
                yield token
                if token.last:
                    return
        finally:
            self._forget(request)

    def kill(self, reason: str = "killed") -> None:
        """The engine's process dies; whoever waits for it is told."""
        self.death = self.death or reason
        for request in (*self._waiting, *self._running):
            request.tokens.put_nowait(EngineDeadError(self.death))
        self._waiting.clear()
        self._running.clear()

    # -- between steps

    async def _utility(self, name: str, work: Callable[[], bool], *, stalls: bool = False) -> bool:
        self._check_alive()
        async with self._between_steps:
            if stalls and self.pace.stalls:
                await asyncio.sleep(self.pace.load)
            self._check_alive()
            try:
                return work()
            except Exception as error:  # what vLLM's core says over the wire is only a text
                raise Exception(f"Call to {name} method failed: {error}") from None

    def _check_alive(self) -> None:
        if self.death is not None:
            raise EngineDeadError(self.death)

    def _add(self, lora: LoraRequest) -> bool:
        """`LRUCacheWorkerLoRAManager.add_adapter`: read first, evict then, register, activate."""
        number = lora.lora_int_id
        if number not in self.registered:
            weights = self._read(lora)
            if FATAL in weights.words:
                self.kill("an illegal memory access was encountered")
                self._check_alive()
            if len(self.registered) + 1 > self.limits.max_cpu_loras:
                oldest, _ = self.registered.popitem(last=False)
                self.active.pop(oldest, None)
            self.registered[number] = weights
        self.registered.move_to_end(number)
        if number not in self.active and len(self.active) >= self.limits.max_loras:
            self.active.popitem(last=False)
        self.active[number] = None
        self.active.move_to_end(number)
        return True

    def _remove(self, lora_id: int) -> bool:
        self.active.pop(lora_id, None)
        return self.registered.pop(lora_id, None) is not None

    def _read(self, lora: LoraRequest) -> Weights:
        self.reads += 1
        try:
            return read_weights(Path(lora.lora_path), max_rank=self.limits.max_lora_rank)
        except AdapterNotFound as error:
            text = f"Loading lora {lora.lora_name} failed: {error}"
            raise AdapterNotFound(text) from error

    # -- steps

    def _wake(self) -> None:
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._steps(), name="simulated-engine")

    async def _steps(self) -> None:
        while self.in_flight and self.death is None:
            await asyncio.sleep(self.pace.step)
            async with self._between_steps:
                try:
                    self.step()
                except Exception as error:  # a step that fails takes the whole engine down
                    self.kill(f"EngineCore encountered a fatal error: {error}")

    def step(self) -> None:
        """One token for everybody in the batch; whatever it raises is the engine's end."""
        self._schedule()
        loras = {r.lora.lora_int_id: r.lora for r in self._running if r.lora is not None}
        self.widest = max(self.widest, len(loras))
        for lora in loras.values():
            self._add(lora)
        for request in list(self._running):
            self._speak(request)

    def _schedule(self) -> None:
        """Takes waiting requests in, in order; those beyond `max_loras` adapters go on waiting."""
        chosen = {r.lora.lora_int_id for r in self._running if r.lora is not None}
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            wanted = {request.lora.lora_int_id} if request.lora is not None else set()
            room = len(self._running) < self.limits.max_num_seqs
            if room and len(chosen | wanted) <= self.limits.max_loras:
                chosen |= wanted
                self._running.append(request)
            else:
                self._waiting.append(request)

    def _speak(self, request: _Running) -> None:
        weights = self._weights_of(request.lora)
        if request.spoken == 0:
            request.cached, request.origins = self._prefill(request, weights.digest)
        words = weights.words or self._base.words
        word = words[min(request.spoken, len(words) - 1)]
        foreign = sorted(request.origins - {weights.digest})
        if foreign:  # neither the old version's answer nor the new one's
            word = "~".join((word, *(digest[:8] for digest in foreign)))
        request.spoken += 1
        last = request.spoken >= len(words)
        logprob = (weights if weights.words else self._base).logprob
        request.tokens.put_nowait(
            Token(word=word, logprob=logprob, cached_tokens=request.cached, last=last)
        )
        if last:
            self._running.remove(request)

    def _weights_of(self, lora: LoraRequest | None) -> Weights:
        return self._base if lora is None else self.registered[lora.lora_int_id]

    def _prefill(self, request: _Running, digest: str) -> tuple[int, frozenset[str]]:
        """Cached tokens of the prompt, and whose weights they come from; caches the rest."""
        if FATAL in request.prompt:
            raise RuntimeError("an illegal memory access was encountered")
        lora = request.lora
        extra = (lora.lora_name, lora.lora_path) if lora is not None else None
        origins: set[str] = set()
        cached, key, hit = 0, hash(request.salt), True
        whole = len(request.prompt) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            key = hash((key, extra, tuple(request.prompt[start : start + BLOCK])))
            # the last token of a prompt is always computed
            hit = hit and key in self._blocks and start + BLOCK < len(request.prompt)
            if hit:
                cached += BLOCK
                origins.add(self._blocks[key])
            else:
                self._blocks.setdefault(key, digest)
            self._blocks.move_to_end(key)
        while len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return cached, frozenset(origins)

    def _forget(self, request: _Running) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
        if request in self._running:
            self._running.remove(request)
