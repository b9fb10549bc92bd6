"""Reads single values of a request's body: each is of the kind that it must be, and bounded.

The engine answers other kinds with texts that quote them, and some it would take.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from adapters.domain.base_profile import THINKING_SWITCHES
from adapters.errors import InvalidRequest

MAX_STOPS = 64
MAX_LOGPROBS = 20
"""Tokens named at one place; vLLM's own bound, and OpenAI's."""
MAX_PROMPTS = 64
"""Sequences one request may queue: its prompts times `n`."""
MAX_BIASES = 300
"""Tokens in `logit_bias`; OpenAI's number."""
MAX_BIAS = 100
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


def tokens_scored(value: object, name: str) -> int:
    """`prompt_logprobs`: how many of the likeliest tokens beside the prompt's own."""
    if type(value) is not int or not 0 <= value <= MAX_LOGPROBS:
        raise InvalidRequest(f"`{name}` must be a whole number up to {MAX_LOGPROBS}", param=name)
    return value


def text(value: object, name: str) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be text", param=name)
    return value


def flag(value: object, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false", param=name)
    return value


def whole(value: object, name: str) -> int:
    """A whole number of 64 bits."""
    if type(value) is not int or abs(value) >= 2**63:
        raise InvalidRequest(f"`{name}` must be a whole number", param=name)
    return value


def count(value: object, name: str, *, most: int) -> int:
    """A whole number up to `most`."""
    # vLLM reads "16384" and 16384.0 as numbers too; `True` is an int to Python
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidRequest(f"`{name}` must be a whole number up to {most}", param=name)
    return value


def number(value: object, name: str) -> float:
    """A number that a sampler can compute with."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        raise InvalidRequest(f"`{name}` must be a number", param=name)
    return value


def stop(value: object, name: str) -> str | list[str]:
    """A text, or a short list of them."""
    if isinstance(value, str):
        return value
    if _are_words(value):
        return value
    raise InvalidRequest(f"`stop` must be text or a list of at most {MAX_STOPS}", param=name)


def _are_words(value: object) -> TypeGuard[list[str]]:
    if not isinstance(value, list) or len(value) > MAX_STOPS:
        return False
    return all(isinstance(word, str) for word in value)


def stop_token_ids(value: object, name: str) -> list[int]:
    """A short list of tokens."""
    if not isinstance(value, list) or len(value) > MAX_STOPS or not (not value or _tokens(value)):
        raise InvalidRequest(f"`{name}` must be a list of at most {MAX_STOPS} tokens", param=name)
    return value


def logit_bias(value: object, name: str) -> dict[str, float]:
    """Token, as text, → bias; OpenAI's bounds."""
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise InvalidRequest(
            f"`{name}` must be an object of at most {MAX_BIASES} tokens", param=name
        )
    for token, bias in value.items():
        is_token = token.isascii() and token.isdigit() and len(token) <= 10
        is_bias = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not is_token or not is_bias or abs(bias) > MAX_BIAS:
            raise InvalidRequest(
                f"`{name}` must map tokens to numbers from -{MAX_BIAS} to {MAX_BIAS}", param=name
            )
    return value


def effort(value: object, name: str) -> str:
    """OpenAI's words for how much is thought."""
    if not isinstance(value, str) or value not in EFFORTS:
        raise InvalidRequest(f"`{name}` must be one of {', '.join(EFFORTS)}", param=name)
    return value


def thinking(value: object, name: str) -> dict[str, bool]:
    """`chat_template_kwargs`: thoughts on or off. Anything else would run in the template."""
    if not isinstance(value, dict) or any(key not in THINKING_SWITCHES for key in value):
        allowed = " and ".join(f"`{switch}`" for switch in THINKING_SWITCHES)
        raise InvalidRequest(
            f"`{name}` may hold {allowed} only", param=name, code="unsupported_parameter"
        )
    return {key: flag(said, name) for key, said in value.items() if said is not None}


def stream_options(value: object, name: str) -> dict[str, bool]:
    """What means something here."""
    if not isinstance(value, dict):
        raise InvalidRequest("`stream_options` must be a JSON object", param=name)
    known = ("include_usage", "continuous_usage_stats")
    return {key: flag(value[key], name) for key in known if value.get(key) is not None}


def prompt(value: object, name: str) -> str | list[Any]:
    """One text, the tokens of one, or a list of either; looked at one level at a time, so that a
    long one is refused at its first wrong item.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise InvalidRequest("`prompt` must be text, tokens or a list of them", param=name)
    if _tokens(value):
        return value
    if len(value) > MAX_PROMPTS:
        raise InvalidRequest(f"`prompt` may have at most {MAX_PROMPTS} items", param=name)
    texts = all(isinstance(one, str) for one in value)
    if not texts and not all(isinstance(one, list) and _tokens(one) for one in value):
        raise InvalidRequest("`prompt` must be text, tokens or a list of them", param=name)
    return value


def _tokens(value: list[Any]) -> bool:
    return bool(value) and all(type(one) is int and 0 <= one < 2**31 for one in value)


def prompts(value: object) -> int:
    """How many prompts it holds: a list of token numbers is one."""
    return 1 if not isinstance(value, list) or isinstance(value[0], int) else len(value)


def most_tokens(value: str | list[Any]) -> int:
    """The most tokens that all prompts can have: of a text's bytes, each one."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value[0], int):
        return len(value)
    return sum(most_tokens(one) for one in value)
