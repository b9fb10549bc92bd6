"""Lists which body fields reach the engine, endpoint by endpoint.

An allow-list, because most of this field's security record is "one valid-looking field kills the
shared engine or leaks between requests" (`prompt_logprobs`, `chat_template`, `allowed_token_ids`,
`prompt_embeds`, `cache_salt`, …). A field that is neither allowed nor known to be harmless is
refused by name, so that nobody believes it took effect; said with its neutral value, it asks for
nothing. What is allowed is handed on only as the kind of value that it must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from adapters.errors import InvalidRequest
from service.engine.abilities import Abilities
from service.gateway import field_values, tools
from service.gateway.messages import rebuild_messages
from service.gateway.response_input import rebuild_input
from service.gateway.structured_outputs import rebuild_response_format, rebuild_text

_SAMPLING = frozenset(
    {
        "model", "stream", "temperature", "top_p", "seed", "stop", "stop_token_ids", "logit_bias",
        "presence_penalty", "frequency_penalty",
        # vLLM's own, bounded by its validation
        "top_k", "min_p", "repetition_penalty", "ignore_eos",
    }
)  # fmt: skip
_ANSWERS = _SAMPLING | {"stream_options", "max_tokens", "min_tokens", "n", "response_format"}
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})

_HARMLESS = frozenset(
    {
        "user", "safety_identifier", "metadata", "service_tier", "prompt_cache_key",
        "prompt_cache_retention", "verbosity",
    }
)  # fmt: skip
"""OpenAI's fields that mean nothing here: accepted, and dropped before the engine."""

_NEUTRAL: Mapping[str, object] = {
    "add_generation_prompt": True, "background": False, "bad_words": [], "best_of": 1,
    "continue_final_message": False, "documents": [], "echo": False, "function_call": "auto",
    "functions": [], "include_reasoning": True, "include_stop_str_in_output": False,
    "length_penalty": 1.0, "logit_bias": {}, "modalities": ["text"], "priority": 0,
    "return_token_ids": False, "return_tokens_as_token_ids": False, "skip_special_tokens": True,
    "spaces_between_special_tokens": True, "stop_token_ids": [], "store": False, "suffix": "",
    "truncation": "disabled", "use_beam_search": False, "watermarking": False,
}  # fmt: skip
"""What says nothing, beside null: what OpenAI and vLLM take a field to be where it is left out."""

_UNSUPPORTED = frozenset(
    {
        # OpenAI's
        "audio", "best_of", "conversation", "context_management", "function_call", "functions",
        "max_tool_calls", "modalities", "moderation", "prediction", "previous_response_id",
        "prompt_cache_options", "web_search_options",
        # vLLM's
        "add_generation_prompt", "add_special_tokens", "allowed_token_ids", "bad_words",
        "cache_salt", "chat_template", "continue_final_message", "documents", "early_stopping",
        "ec_transfer_params", "enable_response_messages", "include_reasoning",
        "include_stop_str_in_output", "kv_transfer_params", "length_penalty", "logprob_token_ids",
        "media_io_kwargs", "mm_payload", "mm_processor_kwargs", "previous_input_messages",
        "priority", "prompt_embeds", "prompt_logprobs", "repetition_detection", "request_id",
        "return_mm_kwargs", "return_prompt_text", "return_token_ids", "return_token_offsets",
        "return_tokens_as_token_ids", "return_weight_versions", "routed_experts_prompt_start",
        "session_id", "skip_special_tokens", "spaces_between_special_tokens", "stream_interval",
        "structured_outputs", "thinking_token_budget", "truncate_prompt_tokens",
        "truncation_side", "use_beam_search", "vllm_xargs", "watermarking",
        # vLLM's of old
        "guided_choice", "guided_decoding_backend", "guided_grammar", "guided_json",
        "guided_regex", "guided_whitespace_pattern", "logits_processors",
    }
)  # fmt: skip
"""Fields of theirs that nothing here reads; `tests/contract/test_vllm.py` looks for new ones."""

_KEPT = "nothing of a request is kept here"
_WHY: Mapping[str, str] = {
    "store": _KEPT, "background": _KEPT, "previous_response_id": _KEPT, "conversation": _KEPT,
}  # fmt: skip

MAX_CHOICES = 16
MAX_LOGPROBS = field_values.MAX_LOGPROBS
MAX_SCORED = 1024
"""Tokens whose log-probabilities one request may ask for: the engine computes six bytes for each of
them and each word of the vocabulary at once, a gigabyte for the largest vocabularies."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An inference endpoint: its allowed fields, and the most that those which count may say."""

    path: str
    question: str
    """The field that holds what is to be answered."""
    allowed: frozenset[str]
    counts: Mapping[str, int]
    harmless: frozenset[str] = _HARMLESS
    for_trainer: frozenset[str] = frozenset()
    """Fields for whoever evaluates versions; everybody else is refused them."""
    read: Mapping[str, Callable[[object, str], Any]] = field(default_factory=dict)
    """Fields that are read otherwise than elsewhere."""

    @cached_property
    def readers(self) -> Mapping[str, Callable[[object, str], Any]]:
        """Every allowed field, by how its value is read."""
        counts = {
            name: partial(field_values.count, most=most) for name, most in self.counts.items()
        }
        return {**_READ, **self.read, **counts}


CHAT = Endpoint(
    path="/v1/chat/completions",
    question="messages",
    allowed=_ANSWERS
    | _TOOLS
    | {
        "messages", "max_completion_tokens", "logprobs", "top_logprobs", "reasoning_effort",
        "chat_template_kwargs",
    },
    # `logprobs` is a yes or no here
    counts={"n": MAX_CHOICES, "top_logprobs": MAX_LOGPROBS},
    harmless=_HARMLESS | {"store"},
)  # fmt: skip
COMPLETIONS = Endpoint(
    path="/v1/completions",
    question="prompt",
    allowed=_ANSWERS | {"prompt", "logprobs", "suffix", "echo"},
    counts={"n": MAX_CHOICES, "logprobs": MAX_LOGPROBS},
    for_trainer=frozenset({"prompt_logprobs"}),
)
RESPONSES = Endpoint(
    path="/v1/responses",
    question="input",
    allowed=_SAMPLING
    | _TOOLS
    | {
        "input", "instructions", "max_output_tokens", "text", "reasoning", "include",
        "top_logprobs", "chat_template_kwargs",
    },
    counts={"top_logprobs": MAX_LOGPROBS},
    harmless=_HARMLESS | {"stream_options"},
    read={"tools": lambda value, _: tools.rebuild_flat_tools(value),
          "tool_choice": lambda value, _: tools.rebuild_flat_choice(value)},
)  # fmt: skip
ENDPOINTS: Mapping[str, Endpoint] = {one.path: one for one in (CHAT, COMPLETIONS, RESPONSES)}


def clean(
    endpoint: Endpoint, body: object, *, abilities: Abilities, trainer: bool = False
) -> dict[str, Any]:
    """The body as the engine may see it. Raises InvalidRequest naming the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    said = _said(endpoint, body, trainer=trainer)
    _check_model(said)
    readers = endpoint.readers
    kept = {name: readers[name](value, name) for name, value in said.items()}
    if endpoint.question not in kept:
        raise InvalidRequest(f"`{endpoint.question}` is missing", param=endpoint.question)
    tools.settle(kept, supported=abilities.tools)
    _check_prompts(kept)
    _check_stream_options(kept)
    _shorten(kept, abilities.context)
    _check_control_tokens(kept, abilities)
    _check_tokens(kept, abilities.vocabulary)
    return kept


def _said(endpoint: Endpoint, body: Mapping[str, Any], *, trainer: bool) -> dict[str, Any]:
    """The fields that say something."""
    names = endpoint.allowed | endpoint.for_trainer if trainer else endpoint.allowed
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if (
            value is None
            or name in endpoint.harmless
            or (name in _NEUTRAL and value == _NEUTRAL[name])
        ):
            continue
        if name not in names:
            raise _refused(endpoint, name)
        kept[name] = value
    return kept


def _refused(endpoint: Endpoint, name: str) -> InvalidRequest:
    known = any(name in one.allowed for one in ENDPOINTS.values())
    if not known and name not in _UNSUPPORTED and name not in _NEUTRAL:
        return InvalidRequest(
            f"`{name[:64]}` is not a field of this endpoint",
            param=name[:64],
            code="unknown_parameter",
        )
    why = f": {_WHY[name]}" if name in _WHY else ""
    return InvalidRequest(
        f"`{name}` is not supported here{why}", param=name, code="unsupported_parameter"
    )


def _check_model(body: Mapping[str, Any]) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` must name an alias or a version", param="model")


def _check_prompts(body: Mapping[str, Any]) -> None:
    most = field_values.MAX_PROMPTS
    if field_values.prompts(body.get("prompt")) * body.get("n", 1) > most:
        raise InvalidRequest(
            f"one request may ask for at most {most} answers, its prompts times `n`", param="n"
        )
    if "prompt_logprobs" in body:
        _check_scoring(body)
    if body.get("echo") and "logprobs" in body:
        _check_echo(body)


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


def _check_echo(body: Mapping[str, Any]) -> None:
    """With `logprobs`, those of the prompt's tokens are computed too."""
    if field_values.most_tokens(body["prompt"]) > MAX_SCORED:
        raise InvalidRequest(
            f"`echo` with `logprobs` needs prompts of at most {MAX_SCORED} tokens in all, each "
            "byte of a text counted as one",
            param="prompt",
        )
    if body.get("n", 1) != 1 or body.get("stream"):
        raise InvalidRequest("`echo` with `logprobs` needs one choice and no stream", param="echo")


def _check_stream_options(body: Mapping[str, Any]) -> None:
    if "stream_options" in body and not body.get("stream"):
        raise InvalidRequest(
            "`stream_options` says something of a stream only: set `stream` too",
            param="stream_options",
        )


def _shorten(body: dict[str, Any], context: int) -> None:
    """More tokens than any answer can have are as many as it can; OpenAI ends it by `length`."""
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if body.get(name, 0) > context:
            body[name] = context


def _check_control_tokens(body: Mapping[str, Any], abilities: Abilities) -> None:
    """A completion's prompt is exempt: whoever sends one writes the whole of it, turns included."""
    for name in ("messages", "input", "instructions", "tools"):
        if name in body and abilities.control_tokens.stand_in(body[name]):
            raise InvalidRequest(
                f"`{name}` holds text that is a control token of the base model, which would read "
                "it as the end of a turn",
                param=name,
                code="control_token",
            )


def _check_tokens(body: Mapping[str, Any], vocabulary: int) -> None:
    """The engine looks at them when a response's stream has begun, and can only cut it off then."""
    for name in ("stop_token_ids", "logit_bias"):
        if any(int(token) >= vocabulary for token in body.get(name, ())):
            raise InvalidRequest(f"`{name}` holds a token that the model does not have", param=name)


def _reasoning(value: object, name: str) -> dict[str, str]:
    """Its effort; a summary of thoughts is never made."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{name}` must be a JSON object", param=name)
    effort = value.get("effort")
    return {} if effort is None else {"effort": field_values.effort(effort, name)}


def _include(value: object, name: str) -> list[str]:
    """Log-probabilities, if they are wanted; thoughts are never encrypted, so none are given."""
    known = ("message.output_text.logprobs", "reasoning.encrypted_content")
    if not isinstance(value, list) or any(one not in known for one in value):
        raise InvalidRequest(
            f"`{name}` may hold `{known[0]}` only", param=name, code="unsupported_parameter"
        )
    return [known[0]] if known[0] in value else []


_READ: Mapping[str, Callable[[object, str], Any]] = {
    **dict.fromkeys(("model", "suffix", "instructions"), field_values.text),
    **dict.fromkeys(
        ("stream", "ignore_eos", "logprobs", "parallel_tool_calls", "echo"), field_values.flag
    ),
    **dict.fromkeys(
        (
            "max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "top_k",
            "seed",
        ),
        field_values.whole,
    ),
    **dict.fromkeys(
        (
            "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty",
            "repetition_penalty",
        ),
        field_values.number,
    ),
    "prompt_logprobs": field_values.tokens_scored,
    "stop": field_values.stop,
    "stop_token_ids": field_values.stop_token_ids,
    "logit_bias": field_values.logit_bias,
    "reasoning_effort": field_values.effort,
    "chat_template_kwargs": field_values.thinking,
    "stream_options": field_values.stream_options,
    "prompt": field_values.prompt,
    "messages": lambda value, _: rebuild_messages(value),
    "input": rebuild_input,
    "response_format": lambda value, _: rebuild_response_format(value),
    "text": lambda value, _: rebuild_text(value),
    "reasoning": _reasoning,
    "include": _include,
    "tools": lambda value, _: tools.rebuild_tools(value),
    "tool_choice": lambda value, _: tools.rebuild_tool_choice(value),
}  # fmt: skip
"""Every allowed field, by how it is read where its endpoint does not say otherwise."""
