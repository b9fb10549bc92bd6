"""Reckons what a request may use before the engine has seen it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from adapters.domain.limits import Usage

BYTES_PER_TOKEN = 3
"""English has four or more with large vocabularies, other languages fewer."""
MESSAGE_TOKENS = 8
"""What a template puts around a message."""
UNSAID_TOKENS = 256
"""Of an answer whose length the request does not bound; what it really has is settled."""


_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class Cost(NamedTuple):
    """What is reserved for a request."""

    sequences: int
    """Answers: its prompts times `n`."""
    tokens: Usage


def cost_of(body: Mapping[str, Any], *, longest: int) -> Cost:
    """The cost of a clean body; `longest` is the engine's most tokens of prompt and answer."""
    prompts = _prompts(body)
    sequences = len(prompts) * (body.get("n") or 1)
    wanted = UNSAID_TOKENS
    for name in _LENGTHS:
        if name in body:
            wanted = max(0, body[name])
            break
    prompt = sum([min(tokens, longest) for tokens in prompts])
    completion = min(wanted, max(1, longest - min(prompts)))
    return Cost(sequences=sequences, tokens=Usage(prompt, sequences * completion))


def _prompts(body: Mapping[str, Any]) -> Sequence[int]:
    """Tokens of each prompt, about."""
    messages = body.get("messages")
    if messages is not None:
        size = sum(map(_message_size, messages))
        if "tools" in body:
            size += _size(_strings(body["tools"]))
        return (MESSAGE_TOKENS * len(messages) + -(-size // BYTES_PER_TOKEN),)
    prompt = body.get("prompt")
    if prompt is None:  # whatever else it is made of
        return (MESSAGE_TOKENS + _tokens(_strings(body)),)
    if isinstance(prompt, str):
        return (_tokens([prompt]),)
    if isinstance(prompt[0], int):
        return (len(prompt),)
    return [_tokens([one]) if isinstance(one, str) else len(one) for one in prompt]


def _message_size(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    if isinstance(content, str) and content.isascii() and "tool_calls" not in message:
        return len(content)
    return _size(_strings([content, message.get("tool_calls")]))


def _strings(value: object) -> Iterable[str]:
    """Every text within, keys included."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            left += one


def _tokens(texts: Iterable[str]) -> int:
    return -(-_size(texts) // BYTES_PER_TOKEN)


def _size(texts: Iterable[str]) -> int:
    """Bytes of UTF-8."""
    return sum(
        len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts
    )
