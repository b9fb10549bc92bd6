"""The texts of an answer, out of the bytes that a client gets; to compare, never to keep.

Those of its choices, or of a response's output; the call of a tool is one, by name and arguments.

Bytes that are no answer have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pydantic_core

_EVENT = b"data: "
_NAMED_EVENT = b"event: "
_DONE = b"[DONE]"


def texts_of(content: bytes) -> tuple[str, ...]:
    """By their numbers, of a whole answer or a stream of events."""
    texts: defaultdict[int, str] = defaultdict(str)
    for document in _documents(content):
        for choice in document.get("choices") or ():
            texts[choice.get("index", 0)] += _said(choice)
        for number, item in enumerate(_output(document)):
            texts[number] += _said_in(item)
    return tuple(text for _, text in sorted(texts.items()))


def _documents(content: bytes) -> Iterator[dict[str, Any]]:
    parts = [content]
    if content.startswith((_EVENT, _NAMED_EVENT)):
        lines = content.split(b"\n")
        parts = [line.removeprefix(_EVENT) for line in lines if line.startswith(_EVENT)]
    for part in parts:
        if part.strip() == _DONE:
            continue
        try:
            document = pydantic_core.from_json(part)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document


def _said(choice: dict[str, Any]) -> str:
    message = choice.get("delta") or choice.get("message") or {}
    said = str(message.get("content") or choice.get("text") or "")
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    return said + "".join(map(_called, calls))


def _output(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a response: its last event holds the whole of it, the others pieces."""
    if document.get("type") == "response.completed":
        document = document.get("response") or {}
    return document.get("output") or []


def _said_in(item: dict[str, Any]) -> str:
    if item.get("type") == "function_call":
        return _called(item)
    return "".join(str(part.get("text") or "") for part in item.get("content") or ())


def _called(function: dict[str, Any]) -> str:
    return f"{function.get('name') or ''}{function.get('arguments') or ''}"
