"""OpenTelemetry's names for what a model was asked; all that this project uses of them.

From the GenAI semantic conventions in their development state of 2026, where names still change:
they stand here and nowhere else. Attributes that hold content (`gen_ai.input.messages`,
`gen_ai.output.messages`, `gen_ai.system_instructions`) are opt-in there, and do not exist here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from service.observe.request_record import RequestRecord

OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
}
"""`gen_ai.operation.name` by endpoint; other requests are no operation of a model."""

Attribute = str | int | float


def span_name(record: RequestRecord) -> str:
    """`chat support`, or the method and route of a request that no model has answered."""
    operation = OPERATIONS.get(record.endpoint)
    if operation is None:
        return f"{record.method} {record.endpoint}".strip()
    return f"{operation} {record.alias}" if record.alias else operation


def attributes(record: RequestRecord) -> dict[str, Attribute]:
    """What is known of the request."""
    return {name: value for name, value in _named(record) if value not in (None, "")}


def _named(record: RequestRecord) -> Iterator[tuple[str, Attribute | None]]:
    yield "http.request.method", record.method
    yield "http.route", record.endpoint
    yield "http.response.status_code", record.status or None
    yield "error.type", record.code
    yield "wardrobe.request_id", record.request_id
    yield "wardrobe.unit", record.unit
    yield "wardrobe.outcome", record.outcome
    operation = OPERATIONS.get(record.endpoint)
    if operation is None:
        return
    yield "gen_ai.operation.name", operation
    yield "gen_ai.provider.name", "vllm"
    yield "gen_ai.request.model", record.alias
    yield "gen_ai.response.model", record.version
    yield "gen_ai.usage.input_tokens", record.prompt_tokens
    yield "gen_ai.usage.output_tokens", record.completion_tokens
    yield "gen_ai.response.time_to_first_chunk", record.first_byte
