"""The simulated engine behind our port, and its handlers without the gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import ServedVersion
from adapters.errors import EngineUnavailable, Rejected
from tests.simulation.core import BASE, Core, Limits
from tests.simulation.engine import SimulatedEngine
from tests.simulation.weights import write_adapter

HEADERS = {"x-request-id": "req_1"}


def version(number: int) -> ServedVersion:
    return ServedVersion(
        id=VersionId(number), adapter="support", number=number, unit=Unit("support"),
        digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64), created_at=0.0,
    )  # fmt: skip


@pytest.fixture
def engine() -> SimulatedEngine:
    return SimulatedEngine()


@pytest.fixture
async def http(engine: SimulatedEngine) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    seen: list[Any] = []

    async def keeping(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})
        seen.append(scope["state"])
        await app(scope, receive, send)

    engine.attach(app)
    transport = httpx2.ASGITransport(app=keeping)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://engine", headers=HEADERS
    ) as client:
        client.seen = seen  # type: ignore[attr-defined]
        yield client


def usage_of(client: httpx2.AsyncClient) -> Any:
    return client.seen[-1]["request_metadata"].final_usage_info  # type: ignore[attr-defined]


async def load(engine: SimulatedEngine, folder: Path, number: int, text: str) -> None:
    await engine.load(version(number), write_adapter(folder / str(number), text))


async def test_a_loaded_version_answers_under_its_name_until_it_is_unloaded(
    engine: SimulatedEngine, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await load(engine, tmp_path, 1, "one two three")
    assert engine.resident == {1}
    body = {"model": "support:1", "messages": [{"role": "user", "content": "hi there"}]}
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    assert answer["model"] == "support:1"
    assert answer["choices"][0]["message"]["content"] == "one two three"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 3
    assert (usage_of(http).prompt_tokens, usage_of(http).completion_tokens) == (3, 3)
    await engine.unload(VersionId(1))
    assert engine.resident == frozenset()
    assert (await http.post("/v1/chat/completions", json=body)).status_code == 404
    assert engine.core.registered == {}


async def test_a_stream_has_a_role_a_chunk_a_token_a_reason_and_an_end(
    engine: SimulatedEngine, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await load(engine, tmp_path, 1, "one two three")
    body = {
        "model": "support:1", "messages": [{"role": "user", "content": "hi"}], "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    answer = await http.post("/v1/chat/completions", json=body)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["delta"]["content"] for c in chunks[1:-1]] == ["one", " two", " three"]
    assert [c["choices"][0]["finish_reason"] for c in chunks[1:-1]] == [None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert usage_of(http).completion_tokens == 3
    body["max_tokens"] = 2
    cut = (await http.post("/v1/chat/completions", json=body)).text
    assert '"finish_reason":"length"' in cut
    assert "three" not in cut


async def test_completions_have_texts(engine: SimulatedEngine, http: httpx2.AsyncClient) -> None:
    body = {"model": BASE, "prompt": "hi"}
    answer = (await http.post("/v1/completions", json=body)).json()
    assert answer["choices"][0]["text"] == f"answer of {BASE}"
    streamed = (await http.post("/v1/completions", json={**body, "stream": True})).text
    assert '"text":"answer"' in streamed


async def test_the_prefix_cache_shows_in_the_usage(
    engine: SimulatedEngine, http: httpx2.AsyncClient
) -> None:
    body = {"model": BASE, "prompt": " ".join(map(str, range(40))), "cache_salt": "a"}
    cached = [
        (await http.post("/v1/completions", json=body)).json()["usage"]["prompt_tokens_details"]
        for _ in range(2)
    ]
    assert [details["cached_tokens"] for details in cached] == [0, 32]


async def test_a_dead_engine_is_a_500_and_an_error_within_a_stream(
    engine: SimulatedEngine, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await load(engine, tmp_path, 1, "one two three")
    engine.core.kill()
    body = {"model": "support:1", "messages": []}
    assert (await http.post("/v1/chat/completions", json=body)).status_code == 500
    streamed = (await http.post("/v1/chat/completions", json={**body, "stream": True})).text
    assert 'data: {"error":{' in streamed
    assert streamed.endswith("data: [DONE]\n\n")
    assert not engine.alive
    with pytest.raises(EngineUnavailable):
        await load(engine, tmp_path, 2, "four")


async def test_what_the_engine_refuses_leaves_nothing_behind(
    engine: SimulatedEngine, tmp_path: Path
) -> None:
    with pytest.raises(Rejected):
        await engine.load(version(1), tmp_path / "nowhere")
    without_effect = write_adapter(tmp_path / "2", "two", tensor="nobody.knows.it")
    with pytest.raises(Rejected, match="exactly as the base"):
        await engine.load(version(2), without_effect)
    engine.refused.add("support:3")
    with pytest.raises(Rejected):
        await load(engine, tmp_path, 3, "three")
    assert engine.resident == frozenset()
    assert engine.core.registered == {}


async def test_what_was_evicted_still_answers_for_its_files_are_there(tmp_path: Path) -> None:
    engine = SimulatedEngine(core=Core(Limits(max_loras=1, max_cpu_loras=1)))
    await load(engine, tmp_path, 1, "one")
    await load(engine, tmp_path, 2, "two")
    assert set(engine.core.registered) == {2}
    assert engine.resident == {1, 2}, "the port does not see the engine's own evictions"
