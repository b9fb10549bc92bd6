"""Traces of requests, where `WARDROBE_TRACES` asks for them; what tells of a request's end.

OpenTelemetry's packages are an extra (`wardrobe[otel]`), and imported only where traces are wanted.
"""

from __future__ import annotations

from typing import Protocol

from adapters.errors import InvalidRequest
from service.observe.request_record import RequestRecord


class Traces(Protocol):
    """Takes what is told of requests."""

    def note(self, record: RequestRecord) -> None:
        """The request has ended."""
        ...

    def close(self) -> None:
        """Sends what is left, and waits a few seconds for it."""
        ...


def open_traces(*, wanted: bool) -> Traces | None:
    """None where no traces are wanted. Raises InvalidRequest where the packages are missing."""
    if not wanted:
        return None
    try:
        from service.observe.open_telemetry import Spans, exporting
    except ImportError:
        raise InvalidRequest(
            "WARDROBE_TRACES needs OpenTelemetry's packages: pip install 'wardrobe[otel]'"
        ) from None
    return Spans(exporting())
