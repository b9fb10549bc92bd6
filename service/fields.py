"""Which body fields reach the engine, endpoint by endpoint.

An allow-list, because most of this field's security record is "one valid-looking field kills the
shared engine or leaks between requests" (`prompt_logprobs`, `chat_template`, `allowed_token_ids`,
`prompt_embeds`, `cache_salt`, …). A field that is neither allowed nor known to be harmless is
refused by name, so that nobody believes it took effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import InvalidRequest

_SAMPLING = frozenset(
    {
        "model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "n", "seed",
        "stop", "presence_penalty", "frequency_penalty", "response_format",
        # vLLM's own, bounded by its validation
        "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos",
    }
)  # fmt: skip

_HARMLESS = frozenset(
    {
        "user", "safety_identifier", "metadata", "store", "service_tier", "prompt_cache_key",
        "prompt_cache_retention", "verbosity",
    }
)  # fmt: skip
"""OpenAI's fields that mean nothing here: accepted, and dropped before the engine."""

MAX_CHOICES = 16
MAX_LOGPROBS = 20
MAX_ITEMS = 2048
"""Messages, prompts, stop words or tools in one request."""
MAX_PROMPTS = 64
MAX_DEPTH = 32
"""Of nested JSON, as in a response schema or a tool."""


@dataclass(frozen=True)
class Endpoint:
    """An inference endpoint: its allowed fields."""

    path: str
    allowed: frozenset[str]


ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.path: endpoint
    for endpoint in (
        Endpoint(
            "/v1/chat/completions",
            _SAMPLING
            | {
                "messages", "max_completion_tokens", "logprobs", "top_logprobs", "tools",
                "tool_choice", "parallel_tool_calls",
            },
        ),
        Endpoint("/v1/completions", _SAMPLING | {"prompt", "logprobs", "suffix"}),
    )
}  # fmt: skip


def clean(endpoint: Endpoint, body: object) -> dict[str, Any]:
    """The body as the engine may see it. Raises InvalidRequest naming the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in endpoint.allowed:
            if value is not None:
                kept[name] = value
        elif name not in _HARMLESS:
            raise InvalidRequest(
                f"`{name[:64]}` is not a field of this endpoint",
                param=name[:64],
                code="unsupported_parameter",
            )
    _check_model(kept)
    _check_counts(kept)
    _check_content(kept)
    return kept


def _check_model(body: Mapping[str, Any]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must name an alias or a version", param="model")


def _check_counts(body: Mapping[str, Any]) -> None:
    for name, most in (
        ("n", MAX_CHOICES),
        ("top_logprobs", MAX_LOGPROBS),
        ("logprobs", MAX_LOGPROBS),
    ):
        value = body.get(name)
        if isinstance(value, int) and value > most:
            raise InvalidRequest(f"`{name}` may be at most {most}", param=name)
    for name in ("messages", "stop", "tools"):
        value = body.get(name)
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            raise InvalidRequest(f"`{name}` may have at most {MAX_ITEMS} items", param=name)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) > MAX_PROMPTS and not isinstance(prompt[0], int):
        raise InvalidRequest(f"`prompt` may have at most {MAX_PROMPTS} items", param="prompt")


def _check_content(body: Mapping[str, Any]) -> None:
    """Text only: a message part that points at a URL or a file never reaches a fetcher."""
    for message in body.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and not all(
            isinstance(part, dict) and part.get("type") == "text" for part in content
        ):
            raise InvalidRequest("messages may contain text only", param="messages")
    for name in ("response_format", "tools", "tool_choice", "stream_options"):
        if name in body and _depth(body[name]) > MAX_DEPTH:
            raise InvalidRequest(f"`{name}` is nested too deeply", param=name)


def _depth(value: object) -> int:
    """Levels of nesting, without recursion: the value comes from a caller."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        item, level = todo.pop()
        deepest = max(deepest, level)
        if level > MAX_DEPTH:
            return level
        children = (
            item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        )
        todo.extend((child, level + 1) for child in children)
    return deepest
