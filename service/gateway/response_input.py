"""Rebuilds the `input` of `/v1/responses` from known keys: texts, function calls, their results.

As with chat's messages (`service.gateway.messages`), nothing of a caller's object is handed on.
What a reasoning model thought before is dropped, as chat drops it; what would have to be kept here
(`item_reference`) or looked at (images, files) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters.errors import InvalidRequest
from service.gateway.messages import MAX_MESSAGES, MAX_PARTS, call_arguments

ROLES = ("system", "developer", "user", "assistant")
TEXTS = ("input_text", "output_text", "text", "refusal")
NO_SUCH_ITEM = "this model reads texts, function calls and their results only, and keeps nothing"


def rebuild_input(value: object, name: str) -> str | list[dict[str, Any]]:
    """The same input, made of known keys. Raises InvalidRequest that names the place."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"`{name}` must be text or a list of items", param=name)
    if len(value) > MAX_MESSAGES:
        raise InvalidRequest(f"`{name}` may have at most {MAX_MESSAGES} items", param=name)
    if sum(map(_parts, value)) > MAX_PARTS:
        raise InvalidRequest(
            f"`{name}` may have at most {MAX_PARTS} content parts in all", param=name
        )
    items = [_item(item, f"{name}.{at}") for at, item in enumerate(value)]
    kept = [item for item in items if item is not None]
    if not kept:
        raise InvalidRequest(f"`{name}` must hold a message", param=name)
    return kept


def _parts(item: object) -> int:
    held = item.get("content", item.get("output")) if isinstance(item, dict) else None
    return len(held) if isinstance(held, list) else 0


def _item(item: object, at: str) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        raise InvalidRequest(f"`{at}` must be a JSON object", param=at)
    kind = item.get("type") or "message"
    if kind == "reasoning":
        return None
    read = _ITEMS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise InvalidRequest(
            f"`{at}.type` is not supported here: {NO_SUCH_ITEM}",
            param=at,
            code="unsupported_parameter",
        )
    return read(item, at)


def _message(item: Mapping[str, Any], at: str) -> dict[str, Any]:
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"`{at}.role` must be one of {', '.join(ROLES)}", param=f"{at}.role")
    return {"type": "message", "role": role, "content": _words(item, "content", at)}


def _call(item: Mapping[str, Any], at: str) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": _text(item, "call_id", at),
        "name": _text(item, "name", at),
        "arguments": call_arguments(item.get("arguments"), f"{at}.arguments"),
    }


def _result(item: Mapping[str, Any], at: str) -> dict[str, Any]:
    return {
        "type": "function_call_output",
        "call_id": _text(item, "call_id", at),
        "output": _words(item, "output", at),
    }


_ITEMS: Mapping[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _result,
}


def _words(item: Mapping[str, Any], key: str, at: str) -> str:
    """A text, or the texts of its parts: the engine would read the first one only."""
    content = item.get(key)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"`{at}.{key}` must be text or a list of parts", param=f"{at}.{key}")
    return "\n".join(_part(part, f"{at}.{key}.{number}") for number, part in enumerate(content))


def _part(part: object, at: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in TEXTS:
        raise InvalidRequest(f"`{at}` must be a text: this model reads text only", param=at)
    return _text(part, "refusal" if kind == "refusal" else "text", at)


def _text(held: Mapping[str, Any], key: str, at: str) -> str:
    value = held.get(key)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{at}.{key}` must be text", param=f"{at}.{key}")
    return value
