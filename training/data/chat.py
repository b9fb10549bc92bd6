"""One JSON record of OpenAI's supervised chat format → one `Example`, or what is wrong with it.

The messages of `Mistake` say what to change and never repeat what the record says: training data
is private, and these words end in events, logs and answers.
"""

from __future__ import annotations

from typing import Any

from training.data.examples import Example, Message

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_TOOL_KEYS = ("tools", "functions", "parallel_tool_calls", "function_call", "tool_choice")
_TOOL_MESSAGE_KEYS = ("tool_calls", "function_call", "tool_call_id")
_MEDIA = frozenset({"image_url", "image", "input_image", "input_audio", "file"})
_OTHER_MEDIA = frozenset({"audio", "refusal"})
_PREFERENCE_KEYS = frozenset({"input", "preferred_completion", "non_preferred_completion"})
_LEGACY_KEYS = frozenset({"prompt", "completion"})


class Mistake(ValueError):
    """What is wrong with one record, in words that hold no content."""


def parse_example(record: Any) -> Example:
    """A decoded JSON line → an example that ends with the assistant's answer. Raises Mistake."""
    if not isinstance(record, dict):
        raise Mistake("is not a JSON dictionary")
    _check_keys(record)
    listed = record["messages"]
    if not isinstance(listed, list) or not listed:
        raise Mistake("`messages` must be a list that is not empty")
    messages = tuple(_message(item, at) for at, item in enumerate(listed, start=1))
    _check_order(messages)
    return Example(messages=messages)


def _check_keys(record: dict[str, Any]) -> None:
    for key in _TOOL_KEYS:
        if record.get(key):
            raise Mistake(
                f"`{key}` is not supported: tool calls cannot be learnt yet, leave it out"
            )
    if record.keys() & _PREFERENCE_KEYS:
        raise Mistake("is preference (DPO) data; only supervised chat examples are supported")
    if "messages" not in record and record.keys() & _LEGACY_KEYS:
        raise Mistake("is a prompt/completion pair; write it as `messages`")
    if "messages" not in record:
        raise Mistake("has no `messages`")
    if record.keys() - {"messages", *_TOOL_KEYS}:
        raise Mistake("has a key that is not known; only `messages` belongs here")


def _message(item: Any, at: int) -> Message:
    where = f"message {at}"
    if not isinstance(item, dict):
        raise Mistake(f"{where} is not a JSON dictionary")
    role = _role(item.get("role"), where)
    for key in _TOOL_MESSAGE_KEYS:
        if item.get(key):
            raise Mistake(f"{where}: `{key}` is not supported: tool calls cannot be learnt yet")
    for key in sorted(_OTHER_MEDIA):
        if item.get(key):
            raise Mistake(f"{where}: `{key}` is not supported; only text can be learnt")
    known = {"role", "content", "weight", "name", *_TOOL_MESSAGE_KEYS, *_OTHER_MEDIA}
    if item.keys() - known:
        raise Mistake(f"{where} has a key that is not known")
    learn = _learn(item, role, where)
    return Message(role=role, content=_content(item.get("content"), role, where), learn=learn)


def _role(role: Any, where: str) -> str:
    if role in ("tool", "function"):
        raise Mistake(f"{where}: `{role}` messages are not supported: tool calls cannot be learnt")
    if not isinstance(role, str) or role not in _ROLES:
        raise Mistake(f"{where}: `role` must be system, developer, user or assistant")
    return _ROLES[role]


def _content(content: Any, role: str, where: str) -> str:
    if isinstance(content, list):
        kinds = [part.get("type") for part in content if isinstance(part, dict)]
        if any(isinstance(kind, str) and kind in _MEDIA for kind in kinds):
            raise Mistake(f"{where}: images, audio and files are not supported; only text is")
    if not isinstance(content, str):
        raise Mistake(f"{where}: `content` must be a string")
    if role == "assistant" and not content.strip():
        raise Mistake(f"{where}: the assistant's `content` is empty; there is nothing to learn")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise Mistake(
            f"{where}: `content` has half of a surrogate pair (\\ud800-\\udfff)"
        ) from None
    return content


def _learn(item: dict[str, Any], role: str, where: str) -> bool:
    if item.get("weight") is None:
        return role == "assistant"
    if role != "assistant":
        raise Mistake(f"{where}: only assistant messages may have a `weight`")
    if isinstance(item["weight"], bool) or item["weight"] not in (0, 1):
        raise Mistake(f"{where}: `weight` must be 0 or 1")
    return bool(item["weight"])


def _check_order(messages: tuple[Message, ...]) -> None:
    roles = [message.role for message in messages]
    if roles[-1] != "assistant":
        raise Mistake("the last message must be the assistant's answer")
    if "user" not in roles:
        raise Mistake("has no user message")
    if roles.index("user") > roles.index("assistant"):
        raise Mistake("an assistant message stands before the first user message")
    told = roles.index("user")
    if "system" in roles[told:]:
        raise Mistake("system messages must stand before the first user message")
    if not messages[-1].learn:
        raise Mistake("the last answer has `weight` 0; it is what the adapter is measured by")
