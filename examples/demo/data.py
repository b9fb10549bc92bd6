"""The demo's material: each unit's example files, and a second edition of one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import NotFound

FOLDER = Path("examples/data")
FROM_SCRATCH = 20_000_000
"""Parameters under which a base knows no English: a unit's lines must teach it everything."""
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


@dataclass(frozen=True, kw_only=True)
class Portion:
    """How much of a unit's files a job of the demo learns from."""

    train: int
    """Lines, as `valid`."""
    valid: int
    n_epochs: int | None
    """None leaves it to the base's own recipe."""


WHOLE = Portion(train=900, valid=120, n_epochs=8)
"""All lines; fewer epochs than the recipe takes: enough to see it work, short enough to watch."""
FEW = Portion(train=160, valid=32, n_epochs=None)
"""A real model speaks already, and learns a unit's manner from few examples."""


def portion_for(parameters: int) -> Portion:
    """What the demo gives to a base of so many parameters."""
    return WHOLE if parameters < FROM_SCRATCH else FEW


def lines_of(unit: str, split: str, portion: Portion, *, edition: int) -> bytes:
    """The portion's lines of `train` or `valid`, as a file to upload. Raises NotFound."""
    whole = file_of(unit, split).read_bytes() if edition == 1 else second_edition(unit, split)
    count = {"train": portion.train, "valid": portion.valid}[split]
    return b"".join(whole.splitlines(keepends=True)[:count])


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
