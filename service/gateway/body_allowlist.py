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
"""Sequences one request may queue: its prompts times `n`."""
MAX_DEPTH = 32
"""Of nested JSON, as in a response schema or a tool."""
MAX_NODES = 20_000
"""Values in one of those: a schema becomes a grammar, and that costs more than its bytes."""


@dataclass(frozen=True)
class Endpoint:
    """An inference endpoint: its allowed fields, and the most that those which count may say."""

    path: str
    allowed: frozenset[str]
    counts: Mapping[str, int]


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
            # `logprobs` is a yes or no here
            {"n": MAX_CHOICES, "top_logprobs": MAX_LOGPROBS},
        ),
        Endpoint(
            "/v1/completions",
            _SAMPLING | {"prompt", "logprobs", "suffix"},
            {"n": MAX_CHOICES, "logprobs": MAX_LOGPROBS},
        ),
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
    _check_counts(endpoint.counts, kept)
    _check_lists(kept)
    _check_content(kept)
    return kept


def _check_model(body: Mapping[str, Any]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must name an alias or a version", param="model")


def _check_counts(counts: Mapping[str, int], body: Mapping[str, Any]) -> None:
    for name, most in counts.items():
        value = body.get(name, 0)
        # vLLM reads "16384" and 16384.0 as numbers too; `True` is an int to Python
        if type(value) is not int or not 0 <= value <= most:
            raise InvalidRequest(f"`{name}` must be a whole number up to {most}", param=name)


def _check_lists(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("messages", []), list):
        raise InvalidRequest("`messages` must be a list", param="messages")
    for name in ("messages", "stop", "tools"):
        value = body.get(name)
        if isinstance(value, list) and len(value) > MAX_ITEMS:
            raise InvalidRequest(f"`{name}` may have at most {MAX_ITEMS} items", param=name)
    prompts = _prompts(body.get("prompt"))
    if prompts > MAX_PROMPTS:
        raise InvalidRequest(f"`prompt` may have at most {MAX_PROMPTS} items", param="prompt")
    if prompts * body.get("n", 1) > MAX_PROMPTS:
        raise InvalidRequest(
            f"one request may ask for at most {MAX_PROMPTS} answers, its prompts times `n`",
            param="n",
        )


def _prompts(prompt: object) -> int:
    """How many prompts it holds: a list of token numbers is one."""
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)


def _check_content(body: Mapping[str, Any]) -> None:
    """Text only: a message part that points at a URL or a file never reaches a fetcher."""
    for message in body.get("messages", ()):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and not all(
            isinstance(part, dict) and part.get("type") == "text" for part in content
        ):
            raise InvalidRequest("messages may contain text only", param="messages")
    for name in ("response_format", "tools", "tool_choice", "stream_options"):
        if name in body:
            _check_size(name, body[name])


def _check_size(name: str, value: object) -> None:
    """Bounds nesting and number of values, without recursion: it comes from a caller."""
    seen, todo = 0, [(value, 1)]
    while todo:
        item, level = todo.pop()
        seen += 1
        if level > MAX_DEPTH:
            raise InvalidRequest(f"`{name}` is nested too deeply", param=name)
        if seen > MAX_NODES:
            raise InvalidRequest(f"`{name}` may hold at most {MAX_NODES} values", param=name)
        children = (
            item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        )
        todo.extend((child, level + 1) for child in children)
