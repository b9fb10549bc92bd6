"""Which examples train and which are held out: deterministic, and nothing stands on both sides.

Two examples whose user text is the same (but for case, width and spaces) always stay together, so
that a held-out score is never a memory of training.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.data.examples import Example
from training.data.jsonl import DataLine, refuse

SHARE = 0.1
"""Of the examples, held out where the caller gives no validation file."""
MAX_HELD_OUT = 512
"""More says nothing new and costs time at every evaluation."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """What a run learns from and what it is measured on."""

    train: tuple[DataLine, ...]
    held_out: tuple[DataLine, ...]
    duplicates: int = 0
    """Exact repetitions dropped from `train`."""
    overlap: int = 0
    """Training examples dropped because the validation file asks the same."""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know."""
        notes = []
        if self.duplicates:
            notes.append(("info", f"Dropped {self.duplicates} exact duplicates from training"))
        if self.overlap:
            dropped = f"Dropped {self.overlap} training examples that ask what the validation file"
            notes.append(("warn", f"{dropped} asks too; held-out scores would have flattered"))
        return notes


def split(
    training: Sequence[DataLine],
    validation: Sequence[DataLine] | None,
    *,
    seed: int,
    min_examples: int = 1,
) -> Split:
    """Deduplicates, then holds out. Raises InvalidFile when too little is left to train on."""
    unique = _without_repeats(training)
    duplicates = len(training) - len(unique)
    if validation is None:
        parts = _hold_out(unique, seed=seed)
        return Split(train=parts[0], held_out=parts[1], duplicates=duplicates)
    held_out = _without_repeats(validation)
    asked = {question(line) for line in held_out}
    train = tuple(line for line in unique if question(line) not in asked)
    if len(train) < min_examples:
        raise refuse(
            "validation_file",
            f"asks the same as the training file: only {len(train)} training examples would be "
            f"left and at least {min_examples} are needed; use other examples for validation",
        )
    return Split(
        train=train, held_out=held_out, duplicates=duplicates, overlap=len(unique) - len(train)
    )


def question(line: DataLine) -> str:
    """The normalised user text: what makes two examples ask the same."""
    asked = [message.content for message in line.example.messages if message.role == "user"]
    return "\n".join(
        " ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in asked
    )


def _without_repeats(lines: Iterable[DataLine]) -> tuple[DataLine, ...]:
    first: dict[Example, DataLine] = {}
    for line in lines:
        first.setdefault(line.example, line)
    return tuple(first.values())


def _hold_out(
    lines: Sequence[DataLine], *, seed: int
) -> tuple[tuple[DataLine, ...], tuple[DataLine, ...]]:
    """Whole questions in the order of their seeded hash, until enough examples are held out.

    A question asked more often than is wanted in all stays in training; where every one is, the
    rarest is held out.
    """
    wanted = min(MAX_HELD_OUT, max(round(len(lines) * SHARE), min(8, len(lines) // 5), 1))
    by_question: dict[str, list[DataLine]] = {}
    for line in lines:
        by_question.setdefault(question(line), []).append(line)
    if len(by_question) < 2:
        raise refuse("training_file", "every example asks the same; nothing can be held out")
    held: set[int] = set()
    drawn = sorted(by_question, key=lambda text: _rank(text, seed))
    for asked in [text for text in drawn if len(by_question[text]) <= wanted]:
        if len(held) >= wanted:
            break
        held.update(line.number for line in by_question[asked])
    if not held:
        rarest = min(drawn, key=lambda text: len(by_question[text]))
        held.update(line.number for line in by_question[rarest])
    train = tuple(line for line in lines if line.number not in held)
    return train, tuple(line for line in lines if line.number in held)


def _rank(text: str, seed: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), key=str(seed).encode(), digest_size=16).digest()
