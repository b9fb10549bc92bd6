"""One OpenTelemetry span for each request; the only module that imports OpenTelemetry.

Where spans go, how many are kept and under which service's name is said by OpenTelemetry's own
variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, …). A span is
made once its request has ended, with the times of its record; exporting is a thread's work.
"""

from __future__ import annotations

import re
import threading

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from service.observe.genai_attributes import attributes, span_name
from service.observe.request_record import RequestRecord

CLOSE_SECONDS = 2.0
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""Version 00 of W3C's Trace Context, the only one whose form is known."""
_NOBODY = {b"0" * 32, b"0" * 16}


class Spans:
    """Implements `Traces`, with a provider of its own: no other library's spans join in."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("wardrobe")

    def note(self, record: RequestRecord) -> None:
        """The request has ended."""
        span = self._tracer.start_span(
            span_name(record),
            context=parent_of(record.traceparent),
            kind=SpanKind.SERVER,
            attributes=attributes(record),
            start_time=record.began_ns,
        )
        if record.status >= 500 or record.outcome == "engine_error":
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=record.began_ns + int(record.seconds * 1e9))

    def close(self) -> None:
        """Sends what is left, and waits a few seconds for it.

        A collector that does not answer keeps no process from ending.
        """
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def exporting() -> SpanProcessor:
    """Sends spans over OTLP, in a thread, to where the environment says."""
    return BatchSpanProcessor(OTLPSpanExporter())


def _resource() -> Resource:
    """The name that the environment gives, else ours."""
    named = Resource.create()
    if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return named.merge(Resource({SERVICE_NAME: "wardrobe"}))
    return named


def parent_of(traceparent: bytes | None) -> Context:
    """The caller's span; nobody's where the header is missing or is not what W3C says.

    `tracestate` and baggage are left behind: they are texts of the caller's.
    """
    match = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if match is None or _NOBODY & set(match.groups()):
        return Context()
    caller = SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[3], 16) & TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(caller), Context())
