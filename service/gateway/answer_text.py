"""The texts of an answer's choices, out of the bytes that a client gets; to compare, never to keep.

Bytes that are no answer have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pydantic_core

_EVENT = b"data: "
_DONE = b"[DONE]"


def texts_of(content: bytes) -> tuple[str, ...]:
    """By the choices' numbers, of a whole answer or a stream of events."""
    texts: defaultdict[int, str] = defaultdict(str)
    for document in _documents(content):
        for choice in document.get("choices") or ():
            texts[choice.get("index", 0)] += _said(choice)
    return tuple(text for _, text in sorted(texts.items()))


def _documents(content: bytes) -> Iterator[dict[str, Any]]:
    parts = [content]
    if content.startswith(_EVENT):
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
    return str(message.get("content") or choice.get("text") or "")
