"""One JSON record of OpenAI's chat format → one `Example`, or everything that is wrong with it.

The messages of `Mistake` say what to change and never repeat what the record says: training data
is private, and these words end in events, logs and answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from training.data.examples import Example, Message, ToolCall

T = TypeVar("T")

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_MEDIA = frozenset({"image_url", "image", "input_image", "input_audio", "file"})
_UNLEARNT = ("audio", "refusal", "annotations", "reasoning", "reasoning_content")
"""What a server's answers may carry beside their words: tolerated where it is empty."""
_MESSAGE_KEYS = frozenset(
    {"role", "content", "weight", "name", "tool_calls", "function_call", "tool_call_id"}
)
_TOOL_KEYS = ("tools", "functions")
_RECORD_KEYS = frozenset({"messages", "parallel_tool_calls", "metadata", *_TOOL_KEYS})
MAX_GROUPS = 10
"""Names of `metadata` in one record."""
MAX_DEPTH = 32
"""Levels of a tool's description, or of a call's arguments: whoever walks over them ends."""
MAX_GROUP = 64
"""Characters of a name or a value of `metadata`."""


class Mistake(ValueError):
    """What is wrong with one record, in words that hold no content; `all` lists every mistake."""

    def __init__(self, *all_of_them: str) -> None:
        super().__init__("; ".join(all_of_them))
        self.all = all_of_them


def parse_chat(record: Mapping[str, Any]) -> Example:
    """A record with `messages` → an example that ends with the assistant's answer.

    Raises Mistake.
    """
    found = Found()
    found.run(_check_keys, record)
    tools = found.run(parse_tools, record) or ()
    groups = found.run(parse_groups, record.get("metadata")) or ()
    messages = found.without_mistakes(found.run(parse_messages, record["messages"]))
    check_order(messages, learnt=True)
    check_calls(messages)
    return Example(messages=_unprompted(messages), tools=tools, groups=groups)


class Found:
    """Collects mistakes, so that a record is told all of its own."""

    def __init__(self) -> None:
        self._all: list[str] = []

    def run(self, parse: Callable[..., T], *given: Any) -> T | None:
        """What `parse` makes of it; None where it raised Mistake, which is kept."""
        try:
            return parse(*given)
        except Mistake as mistake:
            self._all.extend(mistake.all)
            return None

    def without_mistakes(self, value: T | None) -> T:
        """What `run` gave. Raises Mistake where there was one."""
        if self._all or value is None:
            raise Mistake(*self._all)
        return value


def parse_messages(listed: Any) -> tuple[Message, ...]:
    """A list of messages in OpenAI's shape. Raises Mistake with those of every message."""
    if not isinstance(listed, list) or not listed:
        raise Mistake("`messages` must be a list that is not empty")
    found = Found()
    messages = [
        found.run(parse_message, item, f"message {at}") for at, item in enumerate(listed, 1)
    ]
    return tuple(found.without_mistakes(message) for message in messages)


def parse_message(item: Any, where: str) -> Message:
    """One message. Raises Mistake."""
    if not isinstance(item, dict):
        raise Mistake(f"{where} is not a JSON dictionary")
    role = _role(item.get("role"), where)
    _check_message_keys(item, where)
    calls = _calls(item, role, where)
    return Message(
        role=role,
        content=_content(item.get("content"), role, where, calls=bool(calls)),
        learn=_learn(item, role, where),
        calls=calls,
        call_id=_text_or_none(item, "tool_call_id", where) if role == "tool" else None,
        name=_text_or_none(item, "name", where) if role == "tool" else None,
    )


def parse_tools(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """A record's `tools`, or its old `functions`. Raises Mistake."""
    tools = _listed(record, "tools")
    functions = [{"type": "function", "function": each} for each in _listed(record, "functions")]
    for at, tool in enumerate([*tools, *functions], start=1):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise Mistake(f"tool {at} is no `function` with its description")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise Mistake(f"tool {at} has no `name`")
        if _is_too_deep(tool):
            raise Mistake(f"tool {at} is nested deeper than {MAX_DEPTH} levels")
        _encodable(json.dumps(tool, ensure_ascii=False), f"tool {at}")
    return (*tools, *functions)


def parse_groups(metadata: Any) -> tuple[tuple[str, str], ...]:
    """A record's `metadata`, by which examples are counted. Raises Mistake."""
    if metadata is None:
        return ()
    if not isinstance(metadata, dict) or len(metadata) > MAX_GROUPS:
        raise Mistake(f"`metadata` must be a dictionary of at most {MAX_GROUPS} names")
    for text in (*metadata, *metadata.values()):
        if not isinstance(text, str) or len(text) > MAX_GROUP or not text.isprintable():
            raise Mistake(f"`metadata` has texts of at most {MAX_GROUP} characters only")
    return tuple(sorted(metadata.items()))


def check_order(messages: Sequence[Message], *, learnt: bool) -> None:
    """Raises Mistake where a conversation ends with no answer, or has turns out of place."""
    roles = [message.role for message in messages]
    if roles[-1] != "assistant":
        raise Mistake("the last message must be the assistant's answer")
    if len(messages) == 1:
        raise Mistake("has nothing before the answer")
    begun = next(at for at, role in enumerate(roles) if role != "system")
    if "system" in roles[begun:]:
        raise Mistake("system messages must stand before the first user message")
    if learnt and not messages[-1].learn:
        raise Mistake("the last answer has `weight` 0; it is what the adapter is measured by")


def check_calls(messages: Sequence[Message]) -> None:
    """Raises Mistake where a tool's result answers no call that stands before it."""
    asked: set[str] = set()
    for at, message in enumerate(messages, start=1):
        asked |= {call.id for call in message.calls}
        if message.role == "tool" and message.call_id not in asked:
            raise Mistake(f"message {at}: its `tool_call_id` is that of no call before it")


def _check_keys(record: Mapping[str, Any]) -> None:
    for key in ("tool_choice", "function_call"):
        if record.get(key):
            raise Mistake(f"`{key}` says nothing that could be learnt; leave it out")
    known = _RECORD_KEYS | {"tool_choice", "function_call"}
    if any(record[key] not in (None, "", [], {}) for key in record.keys() - known):
        raise Mistake("has a key that is not known; `messages` and `tools` belong here")


def _check_message_keys(item: Mapping[str, Any], where: str) -> None:
    for key in _UNLEARNT:
        if item.get(key):
            raise Mistake(f"{where}: `{key}` is not supported; only text and tool calls are learnt")
    # null and empty: what a client dumps of an answer that has no such thing
    unknown = item.keys() - _MESSAGE_KEYS - set(_UNLEARNT)
    if any(item[key] not in (None, "", [], {}) for key in unknown):
        raise Mistake(f"{where} has a key that is not known")


def _role(role: Any, where: str) -> str:
    if not isinstance(role, str) or role not in _ROLES:
        raise Mistake(f"{where}: `role` must be system, developer, user, assistant or tool")
    return _ROLES[role]


def _content(content: Any, role: str, where: str, *, calls: bool) -> str:
    if isinstance(content, list):
        content = _joined(content, where)
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise Mistake(f"{where}: `content` must be a string")
    if role == "assistant" and not content.strip() and not calls:
        raise Mistake(f"{where}: the assistant's `content` is empty; there is nothing to learn")
    return _encodable(content, f"{where}: `content`")


def _joined(parts: Sequence[Any], where: str) -> Any:
    """The text of a list of text parts; None where it is none."""
    kinds = [part.get("type") for part in parts if isinstance(part, dict)]
    if any(isinstance(kind, str) and kind in _MEDIA for kind in kinds):
        raise Mistake(f"{where}: images, audio and files are not supported; only text is")
    if len(kinds) != len(parts) or any(kind != "text" for kind in kinds):
        return None
    texts = [part.get("text") for part in parts]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def _calls(item: Mapping[str, Any], role: str, where: str) -> tuple[ToolCall, ...]:
    listed = item.get("tool_calls") or []
    if item.get("function_call"):
        listed = [{"id": "call_0", "function": item["function_call"]}]
    if listed and role != "assistant":
        raise Mistake(f"{where}: only assistant messages may have `tool_calls`")
    if not isinstance(listed, list):
        raise Mistake(f"{where}: `tool_calls` must be a list")
    return tuple(_call(each, where) for each in listed)


def _call(item: Any, where: str) -> ToolCall:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict):
        raise Mistake(f"{where}: a tool call has no `function`")
    named, call_id, arguments = function.get("name"), item.get("id"), function.get("arguments")
    if not isinstance(named, str) or not named or not isinstance(call_id, str):
        raise Mistake(f"{where}: a tool call has no `id`, or its function no `name`")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(arguments, str) or not _is_object(arguments):
        raise Mistake(f"{where}: a tool call's `arguments` must be the text of a JSON dictionary")
    for text in (named, call_id, arguments):
        _encodable(text, f"{where}: a tool call")
    return ToolCall(id=call_id, name=named, arguments=arguments)


def _is_object(text: str) -> bool:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and not _is_too_deep(said)


def _is_too_deep(value: Any, left: int = MAX_DEPTH) -> bool:
    inside = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return False
    return left == 0 or any(_is_too_deep(item, left - 1) for item in inside)


def _learn(item: Mapping[str, Any], role: str, where: str) -> bool:
    if item.get("weight") is None:
        return role == "assistant"
    if role != "assistant":
        raise Mistake(f"{where}: only assistant messages may have a `weight`")
    if isinstance(item["weight"], bool) or item["weight"] not in (0, 1):
        raise Mistake(f"{where}: `weight` must be 0 or 1")
    return bool(item["weight"])


def _text_or_none(item: Mapping[str, Any], key: str, where: str) -> str | None:
    text = item.get(key)
    if text is None and item.get("role") == "function" and key == "tool_call_id":
        return "call_0"
    if text is None:
        return None
    if not isinstance(text, str):
        raise Mistake(f"{where}: `{key}` must be a string")
    return _encodable(text, f"{where}: `{key}`")


def _listed(record: Mapping[str, Any], key: str) -> list[Any]:
    listed = record.get(key) or []
    if not isinstance(listed, list):
        raise Mistake(f"`{key}` must be a list")
    return listed


def _encodable(text: str, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Mistake(f"{what} has half of a surrogate pair (\\ud800-\\udfff)") from None
    return text


def _unprompted(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A greeting that stands before everything else answers nothing: it is shown, not learnt."""
    first = messages[0]
    if first.role != "assistant":
        return messages
    shown = Message(role=first.role, content=first.content, learn=False, calls=first.calls)
    return (shown, *messages[1:])
