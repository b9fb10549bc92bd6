"""Rebuilds a chat's messages from the keys that are known, so that nothing else reaches the engine.

vLLM's parsers look for media by key, whatever a part's `type` says: `{"type": "text", "text": …,
"image_url": …}` passes a check of types and reaches its fetchers. So nothing of a caller's object
is handed on: each message, part and tool call is made anew, of texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pydantic_core

from adapters.errors import InvalidRequest

MAX_MESSAGES = 2048
MAX_PARTS = 2048
"""Content parts and tool calls of all messages together."""

ROLES: Mapping[str, frozenset[str]] = {
    "system": frozenset({"name"}),
    "developer": frozenset({"name"}),
    "user": frozenset({"name"}),
    "assistant": frozenset({"name", "refusal", "tool_calls"}),
    "tool": frozenset({"name", "tool_call_id"}),
}
"""What a message of each role may say beside `role` and `content`."""

_DROPPED = frozenset(
    {
        "annotations", "cache_control", "id", "provider_specific_fields", "reasoning",
        "reasoning_content",
    }
)  # fmt: skip
"""Keys that clients send back as they got them, or for other servers; they mean nothing here."""

_EMPTY: tuple[object, ...] = (None, "", [], {})
_PLAIN = re.compile(r"[A-Za-z_]\w{0,31}")


def rebuild_messages(messages: object) -> list[dict[str, Any]]:
    """The same chat, made of known keys. Raises InvalidRequest that names the place."""
    if not isinstance(messages, list):
        raise InvalidRequest("`messages` must be a list", param="messages")
    if not messages:
        raise InvalidRequest("`messages` must hold a message", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` may have at most {MAX_MESSAGES} items", param="messages")
    plain = [made for message in messages if (made := _plain(message)) is not None]
    if len(plain) == len(messages):
        return plain
    parts = sum(
        _length(message, "content") + _length(message, "tool_calls") for message in messages
    )
    if parts > MAX_PARTS:
        raise InvalidRequest(
            f"`messages` may have at most {MAX_PARTS} content parts and tool calls in all",
            param="messages",
        )
    return [_message(message, f"messages.{at}") for at, message in enumerate(messages)]


def _plain(message: object) -> dict[str, Any] | None:
    """A message that is a role and a text, as nearly all are: what `_message` makes of it, at a
    fraction of the price. None for any other.
    """
    if not isinstance(message, dict) or len(message) != 2:
        return None
    role, content = message.get("role"), message.get("content")
    if isinstance(content, str) and isinstance(role, str) and role in ROLES:
        return {"role": role, "content": content}
    return None


def _length(message: object, key: str) -> int:
    held = message.get(key) if isinstance(message, dict) else None
    return len(held) if isinstance(held, list) else 0


def _message(message: object, at: str) -> dict[str, Any]:
    said = _object(message, at)
    role = said.pop("role", None)
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"`{at}.role` must be one of {', '.join(ROLES)}", param=f"{at}.role")
    made: dict[str, Any] = {"role": role}
    content = said.pop("content", None)
    for key in ROLES[role] & said.keys():
        if said[key] not in _EMPTY:
            made[key] = _FIELDS[key](said.pop(key), f"{at}.{key}")
    _refuse_rest(said, at)
    if role == "assistant":
        refusal = made.pop("refusal", "")
        if content is None and "tool_calls" not in made:
            content = refusal
    elif content is None:
        raise InvalidRequest(f"`{at}.content` is missing", param=f"{at}.content")
    if content is not None:
        made["content"] = _content(content, f"{at}.content", refusals=role == "assistant")
    return made


def _content(content: object, at: str, *, refusals: bool) -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{at}` must be text or a list of parts", param=at)
    return [_part(part, f"{at}.{number}", refusals) for number, part in enumerate(content)]


def _part(part: object, at: str, refusals: bool) -> dict[str, str]:
    """A text. What an assistant refused to say is one too: it is part of what was said."""
    said = _object(part, at)
    kind = said.pop("type", None)
    if kind != "text" and not (refusals and kind == "refusal"):
        raise InvalidRequest(f"`{at}.type` must be `text`: this model reads text only", param=at)
    text = _text(said.pop(kind, None), f"{at}.{kind}")
    _refuse_rest(said, at)
    return {"type": "text", "text": text}


def _tool_calls(calls: object, at: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise InvalidRequest(f"`{at}` must be a list", param=at)
    return [_tool_call(call, f"{at}.{number}") for number, call in enumerate(calls)]


def _tool_call(call: object, at: str) -> dict[str, Any]:
    said = _object(call, at)
    said.pop("index", None)  # where a client put a stream's pieces together
    if said.pop("type", "function") != "function":
        raise InvalidRequest(f"`{at}.type` must be `function`", param=at)
    function = _object(said.pop("function", None), f"{at}.function")
    made = {
        "id": _text(said.pop("id", None), f"{at}.id"),
        "type": "function",
        "function": {
            "name": _text(function.pop("name", None), f"{at}.function.name"),
            "arguments": call_arguments(
                function.pop("arguments", None), f"{at}.function.arguments"
            ),
        },
    }
    _refuse_rest(said, at)
    _refuse_rest(function, f"{at}.function")
    return made


def call_arguments(value: object, at: str) -> str:
    """A call's arguments; without escapes, which hide what the chat template shows the model.

    Raises InvalidRequest.
    """
    text = _text(value, at)
    try:
        said = pydantic_core.from_json(text, allow_inf_nan=False) if text else {}
        if not isinstance(said, dict):
            raise ValueError
        return pydantic_core.to_json(said).decode() if "\\" in text else text
    except ValueError:
        raise InvalidRequest(f"`{at}` must be a JSON object, as text", param=at) from None


def _text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"`{at}` must be text", param=at)
    return value


def _object(value: object, at: str) -> dict[str, Any]:
    """Its keys that say something."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{at}` must be a JSON object", param=at)
    return {key: held for key, held in value.items() if held is not None}


def _refuse_rest(rest: Mapping[str, object], at: str) -> None:
    """Refuses what is left over. A key that is no plain name is a text, and not repeated."""
    for key, held in rest.items():
        if key in _DROPPED or held in _EMPTY:
            continue
        named = f": `{key}`" if _PLAIN.fullmatch(key) else ""
        raise InvalidRequest(
            f"`{at}` has a key that is not known here{named}",
            param=at,
            code="unsupported_parameter",
        )


_FIELDS: Mapping[str, Callable[[object, str], Any]] = {
    "name": _text,
    "refusal": _text,
    "tool_call_id": _text,
    "tool_calls": _tool_calls,
}
