"""Spans of requests: named by OpenTelemetry's conventions, without content, off by default."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, get_current_span

from adapters.settings import Settings
from adapters.waiting import wait_until
from service.observe.open_telemetry import CLOSE_SECONDS, Spans, parent_of
from service.observe.request_record import RequestRecord
from service.observe.traces import open_traces
from tests.service.world import World, running
from tests.simulation.engine import BASE

HELLO = [{"role": "user", "content": "hello"}]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(tmp_path: Path, spans: InMemorySpanExporter) -> Iterator[World]:
    with running(tmp_path / "state", traces=Spans(SimpleSpanProcessor(spans))) as world:
        yield world


def the_span(spans: InMemorySpanExporter) -> ReadableSpan:
    # an answer's last byte is out before its span has ended
    assert wait_until(lambda: bool(spans.get_finished_spans()), seconds=30.0, every=0.02)
    (span,) = spans.get_finished_spans()
    spans.clear()
    return span


def test_a_request_is_a_span_with_the_names_of_the_genai_conventions(
    traced: World, spans: InMemorySpanExporter
) -> None:
    answer = traced.http("support").post(
        "/v1/chat/completions",
        json={"model": BASE, "messages": HELLO, "max_tokens": 2},
        headers={"traceparent": f"00-{TRACE}-{SPAN}-01"},
    )
    span = the_span(spans)
    said = dict(span.attributes or {})
    assert span.name == f"chat {BASE}"
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert 0.0 < said.pop("gen_ai.response.time_to_first_chunk") < 10.0  # type: ignore[operator]
    assert said == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "wardrobe.request_id": answer.headers["x-request-id"],
        "wardrobe.unit": "support",
        "wardrobe.outcome": "ok",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": BASE,
        "gen_ai.response.model": "base",
        "gen_ai.usage.input_tokens": answer.json()["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": 2,
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 10e9


def test_a_refused_request_is_a_span_with_the_errors_code(
    traced: World, spans: InMemorySpanExporter
) -> None:
    body = {"model": "secret-name", "messages": HELLO}
    traced.http("support").post("/v1/chat/completions", json=body)
    span = the_span(spans)
    assert (span.name, (span.attributes or {})["error.type"]) == ("chat", "model_not_found")
    assert "secret-name" not in span.to_json()
    assert span.status.status_code is StatusCode.UNSET, "a caller's mistake is no fault of ours"
    traced.http("support").get("/v1/adapters/support")
    assert the_span(spans).name == "GET /v1/adapters/{alias}"


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"",
        f"01-{TRACE}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-zz".encode(),
        b"00-" + b"\xff" * 32,
        b"0" * 100_000,
    ],
)
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(wrong: bytes | None) -> None:
    assert not get_current_span(parent_of(wrong)).get_span_context().is_valid


def test_a_traceparents_unknown_flags_are_dropped() -> None:
    context = get_current_span(parent_of(f"00-{TRACE}-{SPAN}-ff".encode())).get_span_context()
    assert (context.is_remote, context.trace_flags) == (True, 1)


def test_traces_are_off_by_default_and_then_nothing_of_them_is_imported() -> None:
    assert Settings().traces is False
    assert open_traces(wanted=False) is None
    program = (
        "import sys, service.launch.compose\n"
        "sys.exit(', '.join(m for m in sys.modules if m.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == ""


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent to it, as a collector of OpenTelemetry's does."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append(
            (self.path, zlib.decompress(body, 47) if body[:1] == b"\x1f" else body)
        )
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_environment_says_where_spans_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "costumes")
        traces = open_traces(wanted=True)
        assert traces is not None
        traces.note(RequestRecord(request_id="req_1", method="GET", endpoint="/v1/models"))
        traces.close()
        server.shutdown()
    ((path, sent),) = Collector.received
    assert path == "/v1/traces"
    for word in (b"costumes", b"GET /v1/models", b"req_1"):
        assert word in sent


class Stuck(SpanProcessor):
    """Its collector does not answer."""

    def __init__(self) -> None:
        self.answers = threading.Event()

    def shutdown(self) -> None:
        self.answers.wait(60)


def test_a_collector_that_does_not_answer_keeps_no_process_from_ending() -> None:
    stuck = Stuck()
    started = time.monotonic()
    Spans(stuck).close()
    assert CLOSE_SECONDS <= time.monotonic() - started < 30.0
    stuck.answers.set()
