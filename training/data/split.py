"""Which examples train and which are held out: deterministic, and nothing stands on both sides.

Two examples ask the same when their user turns are the same (but for case, width and spaces), and
a conversation asks what a shorter one does when it begins with all of that one's user turns: its
earlier answers are the shorter one's. What asks the same always stays together, so that a held-out
score is never a memory of training.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapters.domain.gates import MIN_EXAMPLES
from training.data.jsonl import DataLine, refuse

SHARE = 0.1
"""Of the examples, held out where the caller gives no validation file."""
MAX_HELD_OUT = 512
"""More says nothing new and costs time at every evaluation."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What splitting needs of an example: small, so that whole files can be checked early."""

    number: int
    """Its line."""
    whole: bytes
    """Digest of everything it says."""
    asked: tuple[bytes, ...]
    """Digests of its first user turn, its first two, … and at last of all of them."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which lines a run learns from, and which it is measured on.

    `held_out` are lines of the validation file where there is one, else of the training file.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    duplicates: int = 0
    """Exact repetitions dropped from `train`."""
    overlap: int = 0
    """Training examples dropped because the validation file asks the same."""
    unused: int = 0
    """Validation examples that are not measured, because there are more than enough."""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know."""
        notes = []
        if self.duplicates:
            notes.append(("info", f"Dropped {self.duplicates} exact duplicates from training"))
        if self.overlap:
            dropped = f"Dropped {self.overlap} training examples that ask what the validation file"
            notes.append(("warn", f"{dropped} asks too; held-out scores would have flattered"))
        if self.unused:
            drawn = f"Measuring by {len(self.held_out)} validation examples drawn from"
            notes.append(("info", f"{drawn} {len(self.held_out) + self.unused}"))
        return notes


def trace(line: DataLine) -> Trace:
    """The digests of one example."""
    asked, seen = [], hashlib.blake2b(digest_size=16)
    for message in line.example.messages:
        if message.role == "user":
            seen.update(_normalised(message.content).encode("utf-8") + b"\0")
            asked.append(seen.digest())
    whole = hashlib.blake2b(repr(line.example).encode("utf-8"), digest_size=16).digest()
    return Trace(number=line.number, whole=whole, asked=tuple(asked))


def split(
    training: Sequence[Trace],
    validation: Sequence[Trace] | None,
    *,
    seed: int,
    min_examples: int = 1,
) -> Split:
    """Deduplicates, then holds out.

    Raises InvalidFile when too little is left to train on or to measure by.
    """
    unique = _without_repeats(training)
    if len(unique) < min_examples:
        raise refuse(
            "training_file",
            f"has {len(unique)} different examples; at least {min_examples} are needed",
        )
    parts = (
        _hold_out(unique, seed=seed, min_examples=min_examples)
        if validation is None
        else _without_overlap(unique, validation, seed=seed, min_examples=min_examples)
    )
    train, held_out, unused = parts
    return Split(
        train=tuple(item.number for item in train),
        held_out=tuple(item.number for item in held_out),
        duplicates=len(training) - len(unique),
        overlap=0 if validation is None else len(unique) - len(train),
        unused=unused,
    )


_Parts = tuple[Sequence[Trace], Sequence[Trace], int]
"""(train, held out, unused)."""


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _without_repeats(items: Iterable[Trace]) -> list[Trace]:
    first: dict[bytes, Trace] = {}
    for item in items:
        first.setdefault(item.whole, item)
    return list(first.values())


def _without_overlap(
    training: Sequence[Trace], validation: Sequence[Trace], *, seed: int, min_examples: int
) -> _Parts:
    """A conversation that goes on from one on the other side is dropped, in either direction."""
    valid = _without_repeats(validation)
    if len(valid) < MIN_EXAMPLES:
        raise refuse(
            "validation_file",
            f"has {len(valid)} different examples; at least {MIN_EXAMPLES} are needed to measure "
            "an adapter: add some, or start the job without a validation file",
        )
    wholes = {item.asked[-1] for item in valid}
    begun = {asked for item in valid for asked in item.asked}
    train = [
        item for item in training if item.asked[-1] not in begun and wholes.isdisjoint(item.asked)
    ]
    if len(train) < min_examples:
        raise refuse(
            "validation_file",
            f"asks the same as the training file: only {len(train)} training examples would be "
            f"left and at least {min_examples} are needed; use other examples for validation",
        )
    drawn = random.Random(seed).sample(range(len(valid)), min(MAX_HELD_OUT, len(valid)))
    held_out = [valid[at] for at in sorted(drawn)]
    return train, held_out, len(valid) - len(held_out)


def _hold_out(items: Sequence[Trace], *, seed: int, min_examples: int) -> _Parts:
    """Whole groups in the order of their seeded hash, until enough examples are held out.

    A group that would make it more than is wanted stays in training; where that leaves too few to
    measure by, the smallest are held out too.
    """
    wanted = min(MAX_HELD_OUT, max(round(len(items) * SHARE), MIN_EXAMPLES))
    groups = _groups(items)
    if len(groups) < 2:
        raise refuse("training_file", "every example asks the same; nothing can be held out")
    drawn = sorted(groups, key=lambda asked: _rank(asked, seed))
    held: set[int] = set()
    for asked in drawn:
        if len(held) + len(groups[asked]) <= wanted:
            held.update(groups[asked])
    for asked in sorted(drawn, key=lambda asked: len(groups[asked])):
        if len(held) >= MIN_EXAMPLES:
            break
        held.update(groups[asked])
    train = [item for item in items if item.number not in held]
    if len(train) < min_examples:
        raise refuse(
            "training_file",
            f"has {len(items)} different examples: {len(held)} are held out to measure the "
            f"adapter, {len(train)} would be left to train on and at least {min_examples} are "
            "needed; add examples, or give a validation file",
        )
    return train, [item for item in items if item.number in held], 0


def _groups(items: Sequence[Trace]) -> dict[bytes, list[int]]:
    """The shortest conversation that others go on from → the numbers of all that begin with it."""
    wholes = {item.asked[-1] for item in items}
    groups: dict[bytes, list[int]] = {}
    for item in items:
        begins = next(asked for asked in item.asked if asked in wholes)
        groups.setdefault(begins, []).append(item.number)
    return groups


def _rank(asked: bytes, seed: int) -> bytes:
    return hashlib.blake2b(asked, key=str(seed).encode(), digest_size=16).digest()
