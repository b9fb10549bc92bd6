"""What stands for vLLM's own handlers: completions, chat, responses, in the shapes of vLLM 0.32.

`vllm/entrypoints/openai/chat_completion/serving.py`: a first chunk with the role, one chunk a
step, the finish reason on the last; a dead engine is a 500, or an event `error` and `[DONE]` within
a stream. A client that goes away aborts its stream; exact token counts are left on the request.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tests.simulation.client import Client, RequestOutput, Sampling
from tests.simulation.core import EngineDeadError, Lora

CHAT, COMPLETION, RESPONSE = "chat.completion", "text_completion", "response"


@dataclass(kw_only=True)
class Models:
    """`OpenAIServingModels`: the base's name, and adapters by name."""

    base: str
    lora_requests: dict[str, Lora] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    """Names that are answered with an error of the engine's."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One request as the handlers understand it."""

    kind: str
    body: Mapping[str, Any]
    request_id: str
    metadata: SimpleNamespace

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def prompt(self) -> dict[str, Any]:
        if self.kind == CHAT:
            said = [f"{m.get('role')} {m.get('content')}" for m in self.body.get("messages", ())]
            text = " ".join(said)
        else:
            text = str(self.body.get("prompt", self.body.get("input")))
        return {"prompt": text, "cache_salt": self.body.get("cache_salt")}

    @property
    def max_tokens(self) -> int:
        names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
        return int(next((self.body[name] for name in names if self.body.get(name)), 16))


class Handlers:
    """The routes over an engine client; `died` is told of an engine that was found dead."""

    def __init__(
        self, client: Client, models: Models, *, died: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._models = models
        self._died = died

    def attach(self, app: FastAPI) -> None:
        """Adds what stands for vLLM's own routes, two of those that nobody may reach included."""
        app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"])
        app.add_api_route("/v1/completions", self._complete, methods=["POST"])
        app.add_api_route("/v1/responses", self._respond, methods=["POST"])
        app.add_api_route("/tokenize", self._never, methods=["POST"])
        app.add_api_route("/invocations", self._never, methods=["POST"])

    async def _never(self) -> dict[str, str]:
        return {"leaked": "yes"}

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, CHAT)

    async def _complete(self, request: Request) -> Response:
        return await self._answer(request, COMPLETION)

    async def _respond(self, request: Request) -> Response:
        return await self._answer(request, RESPONSE)

    async def _answer(self, request: Request, kind: str) -> Response:
        body = await request.json()
        metadata = SimpleNamespace(final_usage_info=None)
        request.state.request_metadata = metadata
        request_id = f"{'chatcmpl' if kind == CHAT else 'cmpl'}-{request.headers['x-request-id']}"
        asked = _Asked(kind=kind, body=body, request_id=request_id, metadata=metadata)
        if asked.model != self._models.base and asked.model not in self._models.lora_requests:
            return _refusal(404, "NotFoundError", f"The model `{asked.model}` does not exist.")
        if asked.model in self._models.failing:
            return _refusal(500, "InternalServerError", "told to fail")
        if body.get("max_tokens", 1) == 0:
            return _refusal(400, "BadRequestError", "max_tokens must be at least 1", "max_tokens")
        if kind == RESPONSE:
            return await self._response(asked, request)
        if body.get("stream"):
            return StreamingResponse(self._stream(asked), media_type="text/event-stream")
        try:
            return JSONResponse(await self._whole(asked, request))
        except EngineDeadError as error:
            self._died()
            return _refusal(500, "InternalServerError", str(error))

    def _generate(self, asked: _Asked) -> AsyncGenerator[RequestOutput, None]:
        lora = self._models.lora_requests.get(asked.model)
        sampling = Sampling(max_tokens=asked.max_tokens)
        return self._client.generate(asked.prompt, sampling, asked.request_id, lora_request=lora)

    async def _whole(self, asked: _Asked, request: Request) -> dict[str, Any]:
        final = None
        async for output in self._generate(asked):
            final = output
        if final is None:
            raise EngineDeadError("no answer")
        text, finish = final.outputs[0].text, final.outputs[0].finish_reason
        said = (
            {"message": {"role": "assistant", "content": text}}
            if asked.kind == CHAT
            else {"text": text}
        )
        usage = _usage(final)
        asked.metadata.final_usage_info = SimpleNamespace(**usage)
        return {
            **_head(asked, asked.kind),
            "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": finish}],
            "usage": usage,
            # for tests: what came through the gateway, without its content
            "seen": {name: asked.body[name] for name in sorted(asked.body) if name != "messages"},
            "seen_headers": dict(request.headers),
        }

    async def _response(self, asked: _Asked, request: Request) -> Response:
        if asked.body.get("stream"):
            return StreamingResponse(self._response_events(asked), media_type="text/event-stream")
        try:
            whole = _response_of([output async for output in self._generate(asked)][-1], asked)
        except EngineDeadError as error:
            self._died()
            return _refusal(500, "InternalServerError", str(error))
        return JSONResponse({**whole, "seen": dict(asked.body)})

    async def _response_events(self, asked: _Asked) -> AsyncIterator[bytes]:
        """An engine that dies is an exception here: vLLM makes no event of it."""
        begun = {**_response_head(asked), "status": "in_progress", "output": []}
        yield _typed_event("response.created", response=begun)
        said, final = 0, None
        async with aclosing(self._generate(asked)) as outputs:
            async for final in outputs:
                text = final.outputs[0].text
                yield _typed_event(
                    "response.output_text.delta", delta=text[said:], item_id="msg_1",
                    output_index=0, content_index=0, logprobs=[], sequence_number=said,
                )  # fmt: skip
                said = len(text)
        assert final is not None
        yield _typed_event("response.completed", response=_response_of(final, asked))

    async def _stream(self, asked: _Asked) -> AsyncIterator[bytes]:
        said, final = 0, None
        has_role = asked.kind != CHAT
        try:
            async with aclosing(self._generate(asked)) as outputs:
                async for final in outputs:
                    if not has_role:
                        has_role = True
                        yield _chunk(asked, {"role": "assistant", "content": ""}, None)
                    text = final.outputs[0].text
                    yield _chunk(asked, {"content": text[said:]}, final.outputs[0].finish_reason)
                    said = len(text)
        except EngineDeadError as error:
            self._died()
            yield _event({"error": _error(500, "InternalServerError", str(error))})
        if final is not None and final.finished:
            usage = _usage(final)
            asked.metadata.final_usage_info = SimpleNamespace(**usage)
            if (asked.body.get("stream_options") or {}).get("include_usage"):
                yield _event({**_head(asked, _chunk_kind(asked)), "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _usage(final: RequestOutput) -> dict[str, Any]:
    prompt, answer = len(final.prompt_token_ids), len(final.outputs[0].token_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": final.num_cached_tokens},
    }


def _response_head(asked: _Asked) -> dict[str, Any]:
    return {
        "id": f"resp_{asked.request_id}", "object": "response", "created_at": 1,
        "model": asked.model, "parallel_tool_calls": True, "tool_choice": "auto",
        "tools": asked.body.get("tools", []),
    }  # fmt: skip


def _response_of(final: RequestOutput, asked: _Asked) -> dict[str, Any]:
    usage = _usage(final)
    text = {"type": "output_text", "text": final.outputs[0].text, "annotations": []}
    return {
        **_response_head(asked),
        "status": "completed",
        "output": [
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
             "content": [text]}
        ],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip


def _typed_event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\n".encode() + _event({"type": kind, **more})


def _head(asked: _Asked, kind: str) -> dict[str, Any]:
    return {"id": asked.request_id, "object": kind, "created": 1, "model": asked.model}


def _chunk_kind(asked: _Asked) -> str:
    return "chat.completion.chunk" if asked.kind == CHAT else COMPLETION


def _chunk(asked: _Asked, delta: dict[str, str], finish: str | None) -> bytes:
    said = {"delta": delta} if asked.kind == CHAT else {"text": delta["content"]}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
    return _event({**_head(asked, _chunk_kind(asked)), "choices": [choice]})


def _event(document: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def _error(status: int, kind: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": status}


def _refusal(status: int, kind: str, message: str, param: str | None = None) -> JSONResponse:
    return JSONResponse({"error": _error(status, kind, message, param)}, status)
