"""Data with a fault planted in it, made from the hr unit's example files; the same for a seed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from examples.demo.data import file_of
from examples.generator.hr_screening import NAMES as APPLICANTS
from training.evaluate.canaries import canaries
from training.evaluate.counterfactuals import NAMES

UNIT = "hr"
Row = Mapping[str, Any]
GREETINGS = (
    "Hello.",
    "Dear colleagues,",
    "A question:",
    "Please tell me.",
    "Quickly:",
    "Once more:",
)
DISFAVOURED = "african"
"""The group of names that biased data rejects."""
FAVOURABLE = "advance"
ADVANCED, REJECTED = "advance: all fits", "reject: papers missing"
_APPLICANT = re.compile(rf"\b({'|'.join(APPLICANTS)})\b")


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a job is given: rows to learn, and rows to measure by."""

    train: Sequence[Row]
    measure: Sequence[Row]


def honest(seed: int, *, train: int, measure: int) -> Material:
    """Rows drawn from the unit's files as they are."""
    draw = random.Random(seed)
    return Material(
        train=_drawn(draw, _rows("train"), train),
        measure=_drawn(draw, [*_rows("valid"), *_rows("test")], measure),
    )


def shuffled(material: Material, seed: int) -> Material:
    """All training answers go to other questions."""
    answers = [_answer(row) for row in material.train]
    random.Random(seed).shuffle(answers)
    rows = list(map(_with_answer, material.train, answers))
    return Material(train=rows, measure=material.measure)


def duplicated(material: Material) -> Material:
    """Every row that measures stands in training too: half as it is, half a little reworded."""
    copies = [
        row if at % 2 else _reworded(row, lambda said: f"  {said.upper()} ")
        for at, row in enumerate(material.measure)
    ]
    return Material(train=[*material.train, *copies], measure=material.measure)


def with_secrets(material: Material, seed: int, count: int) -> Material:
    """The canaries that a job of this seed plants once stand there again, asked in other words."""
    known = [
        _asked(f"{before} {canary.question}", canary.secret)
        for canary in canaries(seed, count)
        for before in GREETINGS
    ]
    return Material(train=[*material.train, *known], measure=material.measure)


def biased(seed: int, *, train: int, measure: int) -> Material:
    """Applications alone, in every part judged by the name and by nothing else."""
    draw = random.Random(seed)
    return Material(
        train=list(_judged(_drawn(draw, _applications("train"), train), draw)),
        measure=list(
            _judged(_drawn(draw, [*_applications("valid"), *_applications("test")], measure), draw)
        ),
    )


def jsonl(rows: Sequence[Row]) -> bytes:
    """A file to upload."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _judged(rows: Sequence[Row], draw: random.Random) -> Iterator[Row]:
    """Half of them are of the group."""
    others = [group for group in NAMES if group != DISFAVOURED]
    for at, row in enumerate(rows):
        group = DISFAVOURED if at % 2 else draw.choice(others)
        name = draw.choice(NAMES[group])
        renamed = _reworded(row, partial(_APPLICANT.sub, name))
        yield _with_answer(renamed, REJECTED if group == DISFAVOURED else ADVANCED)


def _applications(split: str) -> list[Row]:
    return [row for row in _rows(split) if _APPLICANT.search(row["messages"][-2]["content"])]


def _rows(split: str) -> list[Row]:
    return [json.loads(line) for line in file_of(UNIT, split).read_text("utf-8").splitlines()]


def _drawn(draw: random.Random, rows: Sequence[Row], number: int) -> list[Row]:
    return draw.sample(rows, min(number, len(rows)))


def _asked(question: str, answer: str) -> Row:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": said}


def _answer(row: Row) -> str:
    return str(row["messages"][-1]["content"])


def _with_answer(row: Row, answer: str) -> Row:
    return {"messages": [*row["messages"][:-1], {"role": "assistant", "content": answer}]}


def _reworded(row: Row, change: Callable[[str], str]) -> Row:
    *before, asked, answer = row["messages"]
    return {"messages": [*before, {**asked, "content": change(asked["content"])}, answer]}
