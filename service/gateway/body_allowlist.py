"""Lists which body fields reach the engine, endpoint by endpoint.

An allow-list, because most of this field's security record is "one valid-looking field kills the
shared engine or leaks between requests" (`prompt_logprobs`, `chat_template`, `allowed_token_ids`,
`prompt_embeds`, `cache_salt`, …). A field that is neither allowed nor known to be harmless is
refused by name, so that nobody believes it took effect. What is allowed is handed on only as the
kind of value that it must be: the engine answers others with texts that quote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from adapters.errors import InvalidRequest
from service.gateway.messages import rebuild_messages
from service.gateway.structured_outputs import (
    rebuild_response_format,
    rebuild_tool_choice,
    rebuild_tools,
)

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
MAX_STOPS = 64
MAX_PROMPTS = 64
"""Sequences one request may queue: its prompts times `n`."""
MAX_SCORED = 1024
"""Tokens whose log-probabilities one request may ask for: the engine computes six bytes for each of
them and each word of the vocabulary at once, a gigabyte for the largest vocabularies."""


@dataclass(frozen=True)
class Endpoint:
    """An inference endpoint: its allowed fields, and the most that those which count may say."""

    path: str
    allowed: frozenset[str]
    counts: Mapping[str, int]
    for_trainer: frozenset[str] = frozenset()
    """Fields for whoever evaluates versions; everybody else is refused them."""


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
            frozenset({"prompt_logprobs"}),
        ),
    )
}  # fmt: skip


def clean(endpoint: Endpoint, body: object, *, trainer: bool = False) -> dict[str, Any]:
    """The body as the engine may see it. Raises InvalidRequest naming the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    said = _allowed(endpoint.allowed | (endpoint.for_trainer if trainer else frozenset()), body)
    _check_model(said)
    _check_counts(endpoint.counts, said)
    for name in ("messages", "prompt"):
        if name in endpoint.allowed and name not in said:
            raise InvalidRequest(f"`{name}` is missing", param=name)
    kept = {
        name: value if name in endpoint.counts else _READ[name](value, name)
        for name, value in said.items()
    }
    if _prompts(kept.get("prompt")) * kept.get("n", 1) > MAX_PROMPTS:
        raise InvalidRequest(
            f"one request may ask for at most {MAX_PROMPTS} answers, its prompts times `n`",
            param="n",
        )
    if "prompt_logprobs" in kept:
        _check_scoring(kept)
    return kept


def _allowed(names: frozenset[str], body: Mapping[str, Any]) -> dict[str, Any]:
    """What it says; a null is as if it was not said."""
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in names:
            if value is not None:
                kept[name] = value
        elif name not in _HARMLESS:
            raise InvalidRequest(
                f"`{name[:64]}` is not a field of this endpoint",
                param=name[:64],
                code="unsupported_parameter",
            )
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


def _check_scoring(body: Mapping[str, Any]) -> None:
    """The log-probabilities of one prompt's own tokens and no others, with one token behind it."""
    prompt = body["prompt"]
    if not isinstance(prompt, list) or not isinstance(prompt[0], int) or len(prompt) > MAX_SCORED:
        raise InvalidRequest(
            f"`prompt_logprobs` needs one prompt of at most {MAX_SCORED} tokens", param="prompt"
        )
    if body.get("max_tokens") != 1 or body.get("n", 1) != 1 or body.get("stream"):
        raise InvalidRequest(
            "`prompt_logprobs` needs `max_tokens` 1, one choice and no stream",
            param="prompt_logprobs",
        )


def _no_others(value: object, name: str) -> int:
    if type(value) is not int or value != 0:
        raise InvalidRequest(f"`{name}` must be 0: the prompt's own tokens", param=name)
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be text", param=name)
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false", param=name)
    return value


def _whole(value: object, name: str) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise InvalidRequest(f"`{name}` must be a whole number", param=name)
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        raise InvalidRequest(f"`{name}` must be a number", param=name)
    return value


def _stop(value: object, name: str) -> str | list[str]:
    if isinstance(value, str):
        return value
    if _are_words(value):
        return value
    raise InvalidRequest(f"`stop` must be text or a list of at most {MAX_STOPS}", param=name)


def _are_words(value: object) -> TypeGuard[list[str]]:
    if not isinstance(value, list) or len(value) > MAX_STOPS:
        return False
    return all(isinstance(word, str) for word in value)


def _stream_options(value: object, name: str) -> dict[str, bool]:
    if not isinstance(value, dict):
        raise InvalidRequest("`stream_options` must be a JSON object", param=name)
    known = ("include_usage", "continuous_usage_stats")
    return {key: _flag(value[key], name) for key in known if value.get(key) is not None}


def _prompt(value: object, name: str) -> str | list[Any]:
    """One text, the tokens of one, or a list of either; looked at one level at a time, so that a
    long one is refused at its first wrong item.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise InvalidRequest("`prompt` must be text, tokens or a list of them", param=name)
    if _are_tokens(value):
        return value
    if len(value) > MAX_PROMPTS:
        raise InvalidRequest(f"`prompt` may have at most {MAX_PROMPTS} items", param=name)
    texts = all(isinstance(one, str) for one in value)
    if not texts and not all(isinstance(one, list) and _are_tokens(one) for one in value):
        raise InvalidRequest("`prompt` must be text, tokens or a list of them", param=name)
    return value


def _are_tokens(value: list[Any]) -> bool:
    return bool(value) and all(type(one) is int and 0 <= one < 2**31 for one in value)


def _prompts(prompt: object) -> int:
    """How many prompts it holds: a list of token numbers is one."""
    return 1 if not isinstance(prompt, list) or isinstance(prompt[0], int) else len(prompt)


_READ: Mapping[str, Callable[[object, str], Any]] = {
    **dict.fromkeys(("model", "suffix"), _text),
    **dict.fromkeys(("stream", "ignore_eos", "logprobs", "parallel_tool_calls"), _flag),
    **dict.fromkeys(
        ("max_tokens", "max_completion_tokens", "min_tokens", "top_k", "seed"), _whole
    ),
    **dict.fromkeys(
        (
            "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty",
            "repetition_penalty",
        ),
        _number,
    ),
    "prompt_logprobs": _no_others,
    "stop": _stop,
    "stream_options": _stream_options,
    "prompt": _prompt,
    "messages": lambda value, _: rebuild_messages(value),
    "response_format": lambda value, _: rebuild_response_format(value),
    "tools": lambda value, _: rebuild_tools(value),
    "tool_choice": lambda value, _: rebuild_tool_choice(value),
}  # fmt: skip
"""Every allowed field but the counts, by how it is read."""
