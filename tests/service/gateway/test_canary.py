"""A word that a caller says wherever words can stand is found in nothing that is told of it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from adapters.domain.principals import SYSTEM
from adapters.registry.ports import Which
from adapters.waiting import wait_until
from service.observe.open_telemetry import Spans
from tests.service.world import World, running
from tests.simulation.engine import BASE

CANARY = "canary7f3a91"
ROW = {"messages": [{"role": "user", "content": CANARY}, {"role": "assistant", "content": CANARY}]}
HEADERS = {
    "x-request-id": CANARY,
    "user-agent": CANARY,
    "traceparent": f"00-{CANARY}-{CANARY}-01",
    "tracestate": f"x={CANARY}",
    "baggage": f"x={CANARY}",
    "openai-organization": CANARY,
    "x-forwarded-for": CANARY,
    "cookie": CANARY,
    "referer": CANARY,
}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(
    tmp_path: Path, spans: InMemorySpanExporter, capfd: pytest.CaptureFixture[str]
) -> Iterator[World]:
    """A service that tells all it can."""
    traces = Spans(SimpleSpanProcessor(spans))
    with running(tmp_path / "state", traces=traces, request_log="all", log_level="debug") as world:
        yield world


def chats() -> Sequence[dict[str, Any]]:
    """Bodies with the canary in every place; some are answered, some are refused."""
    said = {"role": "user", "content": CANARY}
    tool = {"type": "function", "function": {"name": CANARY, "description": CANARY}}
    schema = {"type": "object", "properties": {CANARY: {"const": CANARY}}}
    bad_schema = {"type": "string", "pattern": f"({CANARY}"}
    wanted = {"type": "json_schema", "json_schema": {"name": CANARY, "schema": schema}}
    unusable = {"type": "json_schema", "json_schema": {"name": CANARY, "schema": bad_schema}}
    return [
        {"model": "support", "messages": [said], **more}
        for more in (
            {},
            {"stream": True},
            {"user": CANARY, "metadata": {CANARY: CANARY}},
            {"safety_identifier": CANARY, "prompt_cache_key": CANARY},
            {"stop": [CANARY]},
            {"tools": [tool]},
            {"tools": [tool], "tool_choice": "required"},
            {"response_format": wanted},
            {"response_format": unusable},
            {"max_tokens": CANARY},
            {"max_tokens": 0},
            {"logit_bias": {CANARY: CANARY}},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "x": CANARY}]}]},
            {"messages": CANARY},
        )
    ]


def everything_said(world: World) -> list[str]:
    """Sends it all; answers' headers and, of those that are errors, bodies."""
    told = []
    client = world.http("support")
    answers = [client.post("/v1/chat/completions", json=body, headers=HEADERS) for body in chats()]
    files = [(f"{CANARY}.jsonl", f"{json.dumps(ROW)}\n" * 20), (f"{CANARY}.txt", CANARY)]
    for name, content in files:
        answers.append(
            client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
        )
    made = answers[-2].json()["id"]
    job = {"model": BASE, "training_file": made, "metadata": {CANARY: CANARY}}
    answers += [
        client.post("/v1/fine_tuning/jobs", json=job, headers={"idempotency-key": CANARY}),
        client.post("/v1/fine_tuning/jobs", json={**job, "suffix": CANARY}),
        client.post("/v1/fine_tuning/jobs", json={**job, "hyperparameters": {"seed": CANARY}}),
        client.delete(f"/v1/files/{made}"),
        client.get(f"/v1/files?after={CANARY}"),
        client.get(f"/v1/audit?subject={CANARY}&actor={CANARY}"),
        client.get("/v1/models", headers={"authorization": f"Bearer {CANARY}"}),
        client.post("/v1/chat/completions", content=f'{{"{CANARY}'.encode()),
        client.get(f"/{CANARY}"),
        client.post("/v1/responses", json={"model": "support", "input": CANARY, "user": CANARY}),
        client.post("/v1/responses", json={"model": "support", "input": [{"type": CANARY}]}),
    ]
    for answer in answers:
        told.append(str(answer.headers))
        if answer.status_code >= 400:
            told.append(answer.text)
    told.append(sent_raw(world, f"{CANARY.upper()} /v1/models HTTP/1.1"))
    return told


def sent_raw(world: World, line: str) -> str:
    """A method that no client library would send."""
    with socket.create_connection(("127.0.0.1", world.settings.port), timeout=10) as connection:
        connection.sendall(f"{line}\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    return received.decode()


def lines_of_requests(world: World) -> str:
    """In this test standard error is a file."""
    files = world.settings.state_folder.logs.glob("requests-*")
    return "".join(file.read_text() for file in files)


def told_of_traces(spans: InMemorySpanExporter) -> str:
    return "\n".join(span.to_json() for span in spans.get_finished_spans())


def test_nothing_that_a_caller_says_is_told(
    traced: World, spans: InMemorySpanExporter, capfd: pytest.CaptureFixture[str]
) -> None:
    traced.client("support")
    version = traced.publish("support")
    traced.http("support").post(
        "/v1/adapters/support/promote", json={"version": version.number}
    ).raise_for_status()
    answers = everything_said(traced)
    last = traced.http("support").get("/v1/models").headers["x-request-id"]
    assert wait_until(lambda: last in lines_of_requests(traced), seconds=30.0, every=0.1)
    entries = traced.runtime.registry.audit.list(SYSTEM, Which(), after=None, limit=1000).items
    logged = capfd.readouterr()
    outputs = {
        "answers": "\n".join(answers),
        "logs": logged.out + logged.err + lines_of_requests(traced),
        "metrics": generate_latest(traced.prometheus).decode(),
        "audit": json.dumps([asdict(entry) for entry in entries]),
        "traces": told_of_traces(spans),
    }
    # each of them tells something
    assert '"event":"request"' in outputs["logs"]
    assert 'code="invalid_api_key"' in outputs["metrics"]
    assert '"file.created"' in outputs["audit"]
    assert "chat support" in outputs["traces"]
    for name, output in outputs.items():
        found = output.lower().find(CANARY)
        assert found < 0, (name, output[max(0, found - 200) : found + 50])
