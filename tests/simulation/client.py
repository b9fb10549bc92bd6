"""The engine client: vLLM's verbs (`vllm/engine/protocol.py`, EngineClient) over a simulated core.

`LocalClient` talks to a core on the same event loop; `tests.simulation.remote` has one for a core
in another process. Neither needs vLLM: requests and parameters are looked at by attribute.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.simulation.core import Core, LoraRequest


@dataclass(frozen=True, kw_only=True)
class Logprob:
    """`vllm.logprobs.Logprob`."""

    logprob: float


@dataclass(frozen=True, kw_only=True)
class CompletionOutput:
    """`vllm.outputs.CompletionOutput`; text and tokens are cumulative."""

    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]
    finish_reason: str | None
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class RequestOutput:
    """`vllm.outputs.RequestOutput`."""

    request_id: str
    outputs: list[CompletionOutput]
    finished: bool
    prompt_token_ids: list[int]
    num_cached_tokens: int


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """`vllm.sampling_params.SamplingParams`."""

    max_tokens: int = 16


class Client(Protocol):
    """What the service and the handlers need of an engine client."""

    under_way: dict[str, Speech]
    """Answers by request, as the client's output processor knows them."""

    @property
    def errored(self) -> bool:
        """Whether the engine has died."""
        ...

    async def add_lora(self, lora_request: LoraRequest) -> bool:
        """Raises a bare Exception for what fails in the core, EngineDeadError."""
        ...

    async def remove_lora(self, lora_id: int) -> bool: ...

    async def list_loras(self) -> set[int]: ...

    async def is_sleeping(self) -> bool: ...

    def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: Any,
        request_id: str,
        *,
        lora_request: LoraRequest | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """One output a step. Raises EngineDeadError."""
        ...


@dataclass(kw_only=True)
class Speech:
    """An answer as it grows, in the client's words."""

    request_id: str
    prompt_tokens: int
    max_tokens: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)

    def grow(self, word: str, *, logprob: float, cached: int, last: bool) -> RequestOutput:
        """One word more; an answer that has reached its length ends there."""
        number = len(self.token_ids)
        self.text += word if number == 0 else f" {word}"
        self.token_ids = [*self.token_ids, number]
        self.logprobs = [*self.logprobs, {number: Logprob(logprob=logprob)}]
        finish = "stop" if last else "length" if len(self.token_ids) >= self.max_tokens else None
        output = CompletionOutput(
            text=self.text, token_ids=self.token_ids, logprobs=self.logprobs, finish_reason=finish
        )
        return RequestOutput(
            request_id=self.request_id,
            outputs=[output],
            finished=finish is not None,
            prompt_token_ids=list(range(self.prompt_tokens)),
            num_cached_tokens=cached,
        )


def tokens_of(prompt: Mapping[str, Any]) -> list[str]:
    """A prompt's tokens: given as such, or the words of its text."""
    ids = prompt.get("prompt_token_ids")
    return [str(token) for token in ids] if ids is not None else str(prompt["prompt"]).split()


class LocalClient:
    """The client of a core on this event loop."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.under_way: dict[str, Speech] = {}

    @property
    def errored(self) -> bool:
        return self.core.death is not None

    async def add_lora(self, lora_request: LoraRequest) -> bool:
        return await self.core.add_lora(lora_request)

    async def remove_lora(self, lora_id: int) -> bool:
        return await self.core.remove_lora(lora_id)

    async def list_loras(self) -> set[int]:
        return await self.core.list_loras()

    async def is_sleeping(self) -> bool:
        return await self.core.is_sleeping()

    async def generate(
        self,
        prompt: Mapping[str, Any],
        sampling_params: Any,
        request_id: str,
        *,
        lora_request: LoraRequest | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        tokens = tokens_of(prompt)
        speech = Speech(
            request_id=request_id,
            prompt_tokens=len(tokens),
            max_tokens=sampling_params.max_tokens or 16,
        )
        answer = self.core.generate(tokens, salt=prompt.get("cache_salt") or "", lora=lora_request)
        self.under_way[request_id] = speech
        try:
            async for token in answer:
                output = speech.grow(
                    token.word, logprob=token.logprob, cached=token.cached_tokens, last=token.last
                )
                yield output
                if output.finished:
                    await answer.aclose()
                    return
        finally:
            del self.under_way[request_id]
