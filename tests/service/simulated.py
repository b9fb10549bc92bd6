"""A simulated engine with vLLM's LoRA semantics, behind the same port, for fast tests.

It knows names as vLLM's model table does, answers with the name it was asked by, and can be told
to be slow, to refuse a version, to break over one (with the bare `Exception` of vLLM's client, say)
or to die.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from adapters.domain.names import VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, Rejected

BASE = "wardrobe-base"


class SimulatedEngine:
    """`service.engine.port.Engine` without an engine."""

    def __init__(self, *, capacity: int = 8) -> None:
        self.names: dict[VersionId, str] = {}
        self.refused: set[str] = set()
        self.broken: dict[str, Exception] = {}
        self.alive = True
        self.load_seconds = 0.0
        self.token_seconds = 0.0
        self.asked: list[str] = []
        self.loads: list[str] = []
        self.most_resident = 0
        self.limits: Mapping[str, Any] = {
            "engine": "simulated",
            "max_lora_rank": 64,
            "max_cpu_loras": capacity,
            "max_loras": 4,
            "max_model_len": 512,
        }

    @property
    def resident(self) -> frozenset[VersionId]:
        return frozenset(self.names)

    async def load(self, version: ServedVersion, path: Path) -> None:
        if not path.is_dir():  # noqa: ASYNC240
            raise Rejected("no such directory")
        self.asked.append(version.name)
        await asyncio.sleep(self.load_seconds)
        if version.name in self.broken:
            raise self.broken[version.name]
        if not self.alive:
            raise EngineUnavailable("the engine has stopped")
        if version.name in self.refused:
            raise Rejected(f"the engine cannot load {version.name}")
        self.loads.append(version.name)
        self.names[version.id] = version.name
        self.most_resident = max(self.most_resident, len(self.names))

    async def unload(self, version_id: VersionId) -> None:
        name = self.names.pop(version_id, None)
        if name in self.broken:
            raise self.broken[name]

    def name(self, version: ServedVersion, path: Path) -> None:
        self.names[version.id] = version.name

    def forget(self, version_id: VersionId) -> None:
        self.names.pop(version_id, None)

    # -- the handlers behind the gateway

    def attach(self, app: FastAPI) -> None:
        """Adds what stands for vLLM's own routes."""
        app.add_api_route("/v1/chat/completions", self._chat, methods=["POST"])
        app.add_api_route("/v1/completions", self._chat, methods=["POST"])
        app.add_api_route("/tokenize", self._never, methods=["POST"])
        app.add_api_route("/invocations", self._never, methods=["POST"])

    async def _never(self) -> dict[str, str]:
        return {"leaked": "yes"}

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        model = body["model"]
        if model != BASE and model not in self.names.values():
            error = {"message": "does not exist", "type": "NotFoundError", "code": 404}
            return JSONResponse({"error": error}, 404)
        if body.get("max_tokens", 1) == 0:
            error = {"message": "max_tokens must be at least 1", "param": "max_tokens", "code": 400}
            return JSONResponse({"error": error}, 400)
        if body.get("stream"):
            return StreamingResponse(self._stream(model), media_type="text/event-stream")
        await asyncio.sleep(self.token_seconds)
        message = {"role": "assistant", "content": f"answer of {model}"}
        seen = {name: body[name] for name in sorted(body) if name != "messages"}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
                "seen": seen,
                "seen_headers": dict(request.headers),
            }
        )

    async def _stream(self, model: str) -> AsyncIterator[bytes]:
        for word in ("answer ", "of ", model):
            await asyncio.sleep(self.token_seconds)
            yield _event(model, {"content": word}, None)
        yield _event(model, {}, "stop")
        yield b"data: [DONE]\n\n"


def _event(model: str, delta: dict[str, str], finish: str | None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()
