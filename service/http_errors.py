"""The edge: errors and headers as OpenAI's clients expect them.

One table maps our exceptions to HTTP; every error is the same envelope with a `code` a program
can act on and an `x-request-id` a person can quote.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core

from adapters import errors
from service.gateway.body_allowlist import ENDPOINTS

Headers = list[tuple[bytes, bytes]]

_STATUS: Sequence[tuple[type[errors.WardrobeError], int, str]] = (
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.InvalidKey, 401, "authentication_error"),
    (errors.NotPermitted, 403, "permission_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.Conflict, 409, "invalid_request_error"),
    (errors.TooLarge, 413, "invalid_request_error"),
    (errors.Rejected, 409, "invalid_request_error"),
    (errors.LeaseLost, 409, "invalid_request_error"),
    (errors.StorageFull, 507, "server_error"),
    (errors.RateLimited, 429, "rate_limit_error"),
    (errors.Unavailable, 503, "service_unavailable_error"),
)

_ENGINE_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "invalid_request_error"),
    404: ("model_not_found", "invalid_request_error"),
    413: ("request_too_large", "invalid_request_error"),
    422: ("invalid_request", "invalid_request_error"),
}


_FRAMEWORK_STATUS: Mapping[int, tuple[str, str]] = {
    404: ("not_found", "there is no such endpoint"),
    405: ("method_not_allowed", "this endpoint has no such method"),
}


def new_request_id() -> str:
    """An id of our own; a client's `X-Request-Id` is never reused or forwarded."""
    return f"req_{secrets.token_hex(12)}"


def envelope(message: str, *, kind: str, code: str, param: str | None = None) -> bytes:
    """`{"error": {message, type, param, code}}`."""
    return pydantic_core.to_json(
        {"error": {"message": message, "type": kind, "param": param, "code": code}}
    )


def render(error: errors.WardrobeError) -> tuple[int, bytes, Headers]:
    """Status, body and headers of one of our errors."""
    status, kind = next(
        ((status, kind) for family, status, kind in _STATUS if isinstance(error, family)),
        (500, "server_error"),
    )
    headers: Headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (409, 507):
        # the SDK repeats 409 and 5xx on its own; the same words would meet the same state
        headers.append((b"x-should-retry", b"false"))
    if status in (429, 503):
        headers.append((b"retry-after", str(_retry_after(error)).encode()))
    return status, envelope(error.message, kind=kind, code=error.reason, param=error.param), headers


def event(error: errors.WardrobeError) -> bytes:
    """One of our errors within a stream, which the SDK raises."""
    return b"data: " + render(error)[1] + b"\n\n"


def _retry_after(error: errors.WardrobeError) -> int:
    return error.retry_after if isinstance(error, errors.Unavailable | errors.RateLimited) else 1


def translate(status: int, body: bytes) -> tuple[int, bytes, Headers]:
    """An error answer of vLLM's in our envelope and our words.

    None of its texts is handed on: they quote engine internals, and what the caller sent.
    """
    headers: Headers = [(b"content-type", b"application/json")]
    if status >= 500:
        message = "the engine could not answer this request"
        headers.append((b"retry-after", b"5"))
        code, kind = "engine_unavailable", "service_unavailable_error"
        return 503, envelope(message, kind=kind, code=code), headers
    code, kind = _ENGINE_STATUS.get(status, ("invalid_request", "invalid_request_error"))
    said, param = _engine_message(body)
    message = f"the engine refuses `{param}`" if param else "the engine refuses this request"
    if "context length" in said or "max_model_len" in said:
        code, message = "context_length_exceeded", _too_long(said)
    return (
        (400 if status == 422 else status),
        envelope(message, kind=kind, code=code, param=param),
        headers,
    )


def translate_event(event: bytes) -> bytes:
    """An error within a stream of vLLM's, the same way."""
    body = event.removeprefix(b"data:")
    error = _document(body).get("error")
    status = error.get("code") if isinstance(error, dict) else None
    return b"data: " + translate(status if isinstance(status, int) else 500, body)[1] + b"\n\n"


def _too_long(said: str) -> str:
    longest = re.search(r"maximum context length (?:is|of) (\d{1,9})", said)
    most = f" of {longest.group(1)} tokens" if longest else ""
    return f"the prompt and the answer asked for exceed the model's context length{most}"


def is_envelope(body: bytes) -> bool:
    """Whether an error answer is in our envelope; vLLM's has numbers as codes."""
    error = _document(body).get("error")
    return isinstance(error, dict) and isinstance(error.get("code"), str)


def restate(status: int, body: bytes) -> tuple[int, bytes, Headers]:
    """An error of FastAPI's, or of vLLM's handlers in it, on a route of ours, in our envelope."""
    document = _document(body)
    if status >= 500 or "error" in document:
        # vLLM's handlers make a 400 with the exception's text of what was nobody's request
        return render(errors.WardrobeError("something went wrong here"))
    detail = document.get("detail")
    said = detail if isinstance(detail, str) else "the request cannot be understood"
    code, message = _FRAMEWORK_STATUS.get(status, ("invalid_request", said))
    content = envelope(message, kind="invalid_request_error", code=code)
    return status, content, [(b"content-type", b"application/json")]


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _engine_message(body: bytes) -> tuple[str, str | None]:
    document = _document(body)
    error = document.get("error", document)
    said = error if isinstance(error, dict) else {}
    message, param = said.get("message"), said.get("param")
    return (
        message if isinstance(message, str) else "",
        _field(param) if isinstance(param, str) else None,
    )


def _field(place: str) -> str | None:
    """The body's field in `body.messages.0.SomeClass.content`; its other words are not ours."""
    name = place.removeprefix("body.").split(".")[0]
    return name if any(name in endpoint.allowed for endpoint in ENDPOINTS.values()) else None
