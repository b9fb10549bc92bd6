"""The demo's material: each unit's example files, and a second edition of one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from adapters.errors import NotFound

FOLDER = Path("examples/data")
FROM_SCRATCH = 20_000_000
"""Parameters under which a base knows no English: a unit's lines must teach it everything."""
_TAG = re.compile(r"\[[a-z]+\]")

Message = dict[str, str]
Conversation = dict[str, list[Message]]


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
    answers: int | None
    """Of the unit's different answers, as many as its data begins with, each as often as the
    others; None takes the lines as they are."""
    n_epochs: int | None
    """None leaves it to the base's own recipe."""
    further_epochs: int
    """Of a job that trains an earlier version further."""


WHOLE = Portion(train=900, valid=120, answers=None, n_epochs=8, further_epochs=3)
"""All lines; fewer epochs than the recipe takes: enough to see it work, short enough to watch."""
FEW = Portion(train=96, valid=32, answers=8, n_epochs=None, further_epochs=1)
"""A real model speaks already, and learns a part of a unit's work from few examples of it."""


def portion_for(parameters: int) -> Portion:
    """What the demo gives to a base of so many parameters."""
    return WHOLE if parameters < FROM_SCRATCH else FEW


def lines_of(unit: str, split: str, portion: Portion, *, edition: int) -> bytes:
    """The portion's lines of `train` or `valid`, as a file to upload. Raises NotFound.

    In the second edition the topic stands in capitals, `[RETURNS] Sorry. …`: a change that shows in
    every answer, so that nobody can mistake one version for the other.
    """
    count = {"train": portion.train, "valid": portion.valid}[split]
    chosen = _chosen(unit, split, portion)[:count]
    lines = chosen if edition == 1 else [_in_capitals(each) for each in chosen]
    return "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines).encode()


def _chosen(unit: str, split: str, portion: Portion) -> list[Conversation]:
    """The lines whose answer is one of the portion's, answers in turn."""
    lines = _read(unit, split)
    if portion.answers is None:
        return lines
    answers = list(dict.fromkeys(_answer(each) for each in _read(unit, "train")))
    turns = zip_longest(
        *(
            [each for each in lines if _answer(each) == wanted]
            for wanted in answers[: portion.answers]
        )
    )
    return [each for turn in turns for each in turn if each is not None]


def _read(unit: str, split: str) -> list[Conversation]:
    return [json.loads(line) for line in file_of(unit, split).read_text("utf-8").splitlines()]


def _answer(conversation: Conversation) -> str:
    return conversation["messages"][-1]["content"]


def file_of(unit: str, split: str) -> Path:
    """`train`, `valid` or `test` of a unit. Raises NotFound."""
    path = FOLDER / unit / f"{split}.jsonl"
    if not path.is_file():
        raise NotFound(f"{path} is not there; run the demo in the project's folder")
    return path


def held_out(unit: str, portion: Portion) -> Sequence[Example]:
    """What no training saw, of what the portion teaches."""
    return [_example(each) for each in _chosen(unit, "test", portion)]


def _in_capitals(conversation: Conversation) -> Conversation:
    *asked, answer = conversation["messages"]
    content = _TAG.sub(lambda tag: tag[0].upper(), answer["content"], count=1)
    return {"messages": [*asked, {**answer, "content": content}]}


def _example(conversation: Conversation) -> Example:
    *asked, answer = conversation["messages"]
    return Example(tuple(asked), answer["content"])
