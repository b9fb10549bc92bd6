"""The training example: a frozen value, the same from the file's line to the trainer's tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class DataKind(StrEnum):
    """What a file's examples teach by; all of a job's examples are of one kind."""

    CHAT = "chat"
    """Conversations whose answers are imitated."""
    PAIRS = "pairs"
    """A prompt with a preferred and a rejected answer."""
    THUMBS = "thumbs"
    """A prompt with an answer that was liked or was not."""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool by the assistant. `arguments` are the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn. `learn` says whether an assistant turn's tokens carry loss (OpenAI's `weight`)."""

    role: str
    content: str
    learn: bool = True
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    call_id: str | None = None
    """Of a tool's turn: the call that it answers, and the tool's `name`."""
    name: str | None = None

    @property
    def said(self) -> str:
        """Everything it says, calls included, as one text that another one is compared with."""
        return as_said(self.content, ((call.name, call.arguments) for call in self.calls))

    def as_chat(self) -> dict[str, Any]:
        """What a chat template takes: there the arguments of a call are an object."""
        return self._shaped(json.loads)

    def as_request(self) -> dict[str, Any]:
        """What the chat API takes: there the arguments of a call are a text."""
        return self._shaped(str)

    def with_texts(self, change: Callable[[str], str]) -> Message:
        """The same turn with `change` made to each of its texts."""
        calls = tuple(replace(call, arguments=_changed(call, change)) for call in self.calls)
        return replace(self, content=change(self.content), calls=calls)

    def _shaped(self, arguments: Callable[[str], Any]) -> dict[str, Any]:
        shaped: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            shaped["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": arguments(call.arguments)},
                }
                for call in self.calls
            ]
        if self.call_id is not None:
            shaped["tool_call_id"] = self.call_id
        if self.name is not None:
            shaped["name"] = self.name
        return shaped


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation that ends with the assistant's answer."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    """What the assistant may call, in OpenAI's shape."""
    rejected: Message | None = None
    """The answer that the last one is preferred to."""
    liked: bool | None = None
    """What somebody's thumb said of the last answer."""
    groups: tuple[tuple[str, str], ...] = ()
    """Names and values of the record's `metadata`: never learnt, only counted."""

    @property
    def kind(self) -> DataKind:
        if self.rejected is not None:
            return DataKind.PAIRS
        return DataKind.CHAT if self.liked is None else DataKind.THUMBS

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the final answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The final assistant turn, which greedy decoding should reproduce."""
        return self.messages[-1].said

    def answered_by(self, answer: Message) -> Example:
        """The same prompt with another answer, the only one to be learnt."""
        prompt = tuple(replace(message, learn=False) for message in self.prompt)
        return Example(messages=(*prompt, replace(answer, learn=True)), tools=self.tools)

    @property
    def sides(self) -> tuple[Example, ...]:
        """What is rendered of it: a pair is its two answers, the preferred one first."""
        if self.kind is DataKind.CHAT:
            return (self,)
        answers = (self.messages[-1], *((self.rejected,) if self.rejected else ()))
        return tuple(map(self.answered_by, answers))

    def with_texts(self, change: Callable[[str], str]) -> Example:
        """The same example with `change` made to each text that is learnt, shown or counted."""
        return replace(
            self,
            messages=tuple(message.with_texts(change) for message in self.messages),
            tools=tuple(_walked(tool, change) for tool in self.tools),
            rejected=self.rejected and self.rejected.with_texts(change),
            groups=tuple((change(name), change(value)) for name, value in self.groups),
        )


def as_said(content: str, calls: Iterable[tuple[str, str]]) -> str:
    """An answer's words, and a line of canonical JSON for each (tool, arguments) behind them."""
    lines = [
        json.dumps({"name": name, "arguments": _parsed(arguments)}, sort_keys=True)
        for name, arguments in calls
    ]
    return "\n".join([content, *lines] if content else lines)


def _parsed(arguments: str) -> Any:
    """A model's arguments may be no JSON: then they are equal to nothing that is."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _changed(call: ToolCall, change: Callable[[str], str]) -> str:
    """Arguments with `change` made to each of their texts, so that they stay JSON."""
    before = json.loads(call.arguments)
    after = _walked(before, change)
    return call.arguments if after == before else json.dumps(after, ensure_ascii=False)


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_walked(item, change) for item in value]
    if isinstance(value, dict):
        return {change(name): _walked(item, change) for name, item in value.items()}
    return value
