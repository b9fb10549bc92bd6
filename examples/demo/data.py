"""The demo's material: each unit's example files, and a second edition of one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import NotFound

FOLDER = Path("examples/data")
_TAG = re.compile(r"\[[a-z]+\]")

Message = dict[str, str]


@dataclass(frozen=True)
class Example:
    """A held-out conversation: what is asked, and what should be answered."""

    asked: tuple[Message, ...]
    answer: str

    @property
    def question(self) -> str:
        return self.asked[-1]["content"]


def file_of(unit: str, split: str) -> Path:
    """`train`, `valid` or `test` of a unit. Raises NotFound."""
    path = FOLDER / unit / f"{split}.jsonl"
    if not path.is_file():
        raise NotFound(f"{path} is not there; run the demo in the project's folder")
    return path


def held_out(unit: str) -> Sequence[Example]:
    """What no training saw."""
    return [_example(line) for line in file_of(unit, "test").read_text("utf-8").splitlines()]


def second_edition(unit: str, split: str) -> bytes:
    """The same conversations with the topic in capitals: `[RETURNS] Sorry. …`.

    A change that shows in every answer, so that nobody can mistake one version for the other.
    """
    lines = file_of(unit, split).read_text("utf-8").splitlines()
    return "".join(f"{json.dumps(_in_capitals(json.loads(line)))}\n" for line in lines).encode()


def _in_capitals(conversation: dict[str, list[Message]]) -> dict[str, list[Message]]:
    *asked, answer = conversation["messages"]
    content = _TAG.sub(lambda tag: tag[0].upper(), answer["content"], count=1)
    return {"messages": [*asked, {**answer, "content": content}]}


def _example(line: str) -> Example:
    *asked, answer = json.loads(line)["messages"]
    return Example(tuple(asked), answer["content"])
