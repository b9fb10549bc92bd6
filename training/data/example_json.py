"""An example as JSON: how checked rows keep it, and what its row id is the digest of.

A plain conversation is a list of [role, content, learn]; one with tools, two answers or a thumb is
an object. A row's id depends on everything that is learnt or shown, and on nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from training.data.examples import Example, Message, ToolCall


def to_json(example: Example) -> Any:
    """Everything but its groups."""
    messages = [_message_to_json(message) for message in example.messages]
    more = {
        "tools": list(example.tools) or None,
        "rejected": example.rejected and _message_to_json(example.rejected),
        "liked": example.liked,
    }
    more = {name: value for name, value in more.items() if value is not None}
    return {"messages": messages, **more} if more else messages


def to_line(example: Example) -> bytes:
    """A line that `from_line` reads, with its groups where it has some."""
    said = to_json(example)
    if example.groups:
        listed = {"messages": said} if isinstance(said, list) else said
        said = {**listed, "groups": example.groups}
    return json.dumps(said).encode() + b"\n"


def from_line(line: bytes) -> Example:
    """What `to_line` has written."""
    said = json.loads(line)
    if isinstance(said, list):
        return Example(messages=tuple(map(_message_from_json, said)))
    rejected = said.get("rejected")
    return Example(
        messages=tuple(map(_message_from_json, said["messages"])),
        tools=tuple(said.get("tools", ())),
        rejected=None if rejected is None else _message_from_json(rejected),
        liked=said.get("liked"),
        groups=tuple((name, value) for name, value in said.get("groups", ())),
    )


def message_from(values: Mapping[str, Any]) -> Message:
    """A message from what `asdict` made of it."""
    calls = tuple(ToolCall(**call) for call in values.get("calls", ()))
    return Message(**{**values, "calls": calls})


def _message_to_json(message: Message) -> list[Any]:
    plain = [message.role, message.content, message.learn]
    more = {
        "calls": [asdict(call) for call in message.calls],
        "call_id": message.call_id,
        "name": message.name,
    }
    more = {name: value for name, value in more.items() if value}
    return [*plain, more] if more else plain


def _message_from_json(said: list[Any]) -> Message:
    role, content, learn, *more = said
    values = {"role": role, "content": content, "learn": learn, **(more[0] if more else {})}
    return message_from(values)
