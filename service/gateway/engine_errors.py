"""Translates vLLM's errors into our envelope and our words.

None of its texts is handed on: they quote engine internals, and what the caller sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.gateway.body_allowlist import ENDPOINTS
from service.http_errors import Headers, document_of, envelope

_ENGINE_STATUS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "invalid_request_error"),
    404: ("model_not_found", "invalid_request_error"),
    413: ("request_too_large", "invalid_request_error"),
    422: ("invalid_request", "invalid_request_error"),
}


def translate(status: int, body: bytes, *, question: str) -> tuple[int, bytes, Headers]:
    """Status, body and headers for an error answer of vLLM's.

    `question` is the field that holds what was to be answered.
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
        code, message, param = "context_length_exceeded", _too_long(said), question
    elif "is out of vocabulary" in said:  # said of a prompt's tokens, and no field is named
        message, param = f"`{question}` holds a token that the model does not have", question
    return (
        (400 if status == 422 else status),
        envelope(message, kind=kind, code=code, param=param),
        headers,
    )


def of_event(event: bytes, *, question: str) -> tuple[int, bytes, Headers]:
    """The same for an error within a stream of vLLM's, as if it were the whole answer."""
    body = event.removeprefix(b"data:")
    error = document_of(body).get("error")
    status = error.get("code") if isinstance(error, dict) else None
    return translate(status if isinstance(status, int) else 500, body, question=question)


def translate_event(event: bytes, *, question: str) -> bytes:
    """An error within a stream of vLLM's, the same way."""
    return b"data: " + of_event(event, question=question)[1] + b"\n\n"


def _too_long(said: str) -> str:
    longest = re.search(r"maximum context length (?:is|of) (\d{1,9})", said)
    most = f" of {longest.group(1)} tokens" if longest else ""
    return f"the prompt and the answer asked for exceed the model's context length{most}"


def _engine_message(body: bytes) -> tuple[str, str | None]:
    document = document_of(body)
    error = document.get("error", document)
    said = error if isinstance(error, dict) else {}
    message, param = said.get("message"), said.get("param")
    text = message if isinstance(message, str) else ""
    return text, _field(param) if isinstance(param, str) else _field(_beginning(text))


def _beginning(text: str) -> str:
    """Most of what it refuses without a field begins with one: `min_p must be …, got …`."""
    found = re.match(r"(\w{1,32}) (?:must|cannot) ", text)
    return found.group(1) if found else ""


def _field(place: str) -> str | None:
    """The body's field in `body.messages.0.SomeClass.content`; its other words are not ours."""
    name = place.removeprefix("body.").split(".")[0]
    return name if any(name in endpoint.allowed for endpoint in ENDPOINTS.values()) else None
