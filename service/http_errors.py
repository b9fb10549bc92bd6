"""Maps errors to HTTP: the status, the headers and the envelope that OpenAI's clients expect.

One table maps our exceptions to HTTP; every error is the same envelope with a `code` a program
can act on and an `x-request-id` a person can quote.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core

from adapters import errors

Headers = list[tuple[bytes, bytes]]
MAX_RETRY_AFTER = 120

_CODE = re.compile(r"[a-z_]{1,40}")

_STATUS: Sequence[tuple[type[errors.WardrobeError], int, str]] = (
    (errors.InvalidRequest, 400, "invalid_request_error"),
    (errors.InvalidKey, 401, "authentication_error"),
    (errors.NotPermitted, 403, "permission_error"),
    (errors.NotFound, 404, "invalid_request_error"),
    (errors.MethodNotAllowed, 405, "invalid_request_error"),
    (errors.Conflict, 409, "invalid_request_error"),
    (errors.TooLarge, 413, "invalid_request_error"),
    (errors.Rejected, 409, "invalid_request_error"),
    (errors.LeaseLost, 409, "invalid_request_error"),
    (errors.StorageFull, 507, "server_error"),
    (errors.RateLimited, 429, "rate_limit_error"),
    (errors.QuotaExceeded, 429, "insufficient_quota"),
    (errors.Unavailable, 503, "service_unavailable_error"),
)

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
    if isinstance(error, errors.MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if status in (409, 507) or isinstance(error, errors.QuotaExceeded):
        # the SDK repeats 409, 429 and 5xx on its own; the same words would meet the same state
        headers.append((b"x-should-retry", b"false"))
    elif status in (429, 503):
        headers.append((b"retry-after", str(_retry_after(error)).encode()))
    return status, envelope(error.message, kind=kind, code=error.reason, param=error.param), headers


def event(error: errors.WardrobeError) -> bytes:
    """One of our errors within a stream, which the SDK raises."""
    return b"data: " + render(error)[1] + b"\n\n"


def _retry_after(error: errors.WardrobeError) -> int:
    """Whole seconds. The SDK does not repeat at all what asks for more than `MAX_RETRY_AFTER`."""
    if not isinstance(error, errors.Unavailable | errors.RateLimited):
        return 1
    return min(max(math.ceil(error.retry_after), 1), MAX_RETRY_AFTER)


def is_envelope(body: bytes) -> bool:
    """Whether an error answer is in our envelope; vLLM's has numbers as codes."""
    error = document_of(body).get("error")
    return isinstance(error, dict) and isinstance(error.get("code"), str)


def code_of(body: bytes) -> str | None:
    """The code of an error in our envelope."""
    error = document_of(body).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None


def restate(status: int, body: bytes) -> tuple[int, bytes, Headers]:
    """An error of FastAPI's, or of vLLM's handlers in it, on a route of ours, in our envelope."""
    document = document_of(body)
    if status >= 500 or "error" in document:
        # vLLM's handlers make a 400 with the exception's text of what was nobody's request
        return render(errors.WardrobeError("something went wrong here"))
    detail = document.get("detail")
    said = detail if isinstance(detail, str) else "the request cannot be understood"
    code, message = _FRAMEWORK_STATUS.get(status, ("invalid_request", said))
    content = envelope(message, kind="invalid_request_error", code=code)
    return status, content, [(b"content-type", b"application/json")]


def document_of(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; an empty one where it is none."""
    try:
        document = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
