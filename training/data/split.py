"""Which examples train, which choose the checkpoint and which test: a pure decision, for life.

Two examples ask the same when their user turns are the same (but for case, width and spaces), and
a conversation asks what a shorter one does when it begins with all of that one's user turns: its
earlier answers are the shorter one's. What asks the same stays together, so that a score is never
a memory of training.

Membership is the adapter's: what was decided for an earlier dataset stays (`known`), and the rest
is drawn by a hash that the adapter keys. An adapter that was trained on a conversation was taught
the answers to all its turns; one that was measured by it, only to the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.domain.datasets import (
    MAX_MEASURED,
    MIN_TEST,
    MIN_VALIDATION,
    SHARE,
    TEST_SHARE_OF_VALIDATION_FILE,
    Counts,
    Part,
)
from training.data.jsonl import refuse
from training.data.trace import Trace

MEASURED = (Part.TEST, Part.VALIDATION)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts, as indices of the examples that were split."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    """In an order that the adapter's life does not change: the first ones are asked first."""
    assignments: Mapping[bytes, Part]
    """Questions that this split decides about, and to which part."""
    duplicates: int = 0
    """Exact repetitions that were dropped."""
    overlap: int = 0
    """Examples dropped because they ask what measures the adapter, or what belongs to two parts."""
    taught: int = 0
    """Validation examples dropped because the adapter was trained on what they ask."""
    unused: int = 0
    """Examples that measure nothing, because there are more than enough."""

    @property
    def counts(self) -> Counts:
        """How many examples each part has."""
        return Counts(train=len(self.train), validation=len(self.validation), test=len(self.test))

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know."""
        parts = f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test"
        notes = [("info", f"Examples: {parts}")]
        if self.duplicates:
            notes.append(("info", f"Dropped {self.duplicates} exact duplicates"))
        if self.overlap:
            dropped = f"Dropped {self.overlap} examples that ask what measures the adapter"
            notes.append(("warn", f"{dropped}; its scores would have flattered"))
        if self.taught:
            dropped = f"Dropped {self.taught} validation examples that ask what an earlier version"
            notes.append(("warn", f"{dropped} was trained on; they cannot measure this adapter"))
        if self.unused:
            notes.append(("info", f"Left out {self.unused} examples beyond what measuring needs"))
        return notes


def split(
    traces: Sequence[Trace],
    *,
    adapter: str,
    known: Mapping[bytes, Part],
    min_examples: int = 1,
) -> Split:
    """Deduplicates, keeps what is known, draws the rest. Splitting again changes nothing.

    `known` are the parts that questions of these examples have had before. Raises InvalidFile
    when too little is left to train on or to measure by, with what is needed.
    """
    examples = _Examples(traces, adapter=adapter, known=known)
    _check_training_file(examples, min_examples)
    placed = _Placed()
    free: list[list[int]] = []
    groups = examples.groups()
    for begins in sorted(groups, key=examples.rank):
        if examples.parts_of(groups[begins]):
            placed.keep(examples, groups[begins])
        else:
            free.append(groups[begins])
    if examples.brought:
        _draw_from_validation_file(examples, free, placed)
    else:
        _draw_from_training_file(examples, free, placed)
    _check(examples, placed, min_examples)
    return _finished(examples, placed)


class _Examples:
    """The examples without repetitions, and what is known of them."""

    def __init__(
        self, traces: Sequence[Trace], *, adapter: str, known: Mapping[bytes, Part]
    ) -> None:
        self.traces, self.known = traces, known
        self.brought = any(item.brought for item in traces)
        self._key = hashlib.blake2b(adapter.encode(), digest_size=32).digest()
        first: dict[tuple[bytes, bool], int] = {}
        for at, item in enumerate(traces):
            first.setdefault((item.row, item.brought), at)
        self.unique = list(first.values())

    def groups(self) -> Mapping[bytes, list[int]]:
        """What examples ask → all that do, or begin with it: the shortest of them names them."""
        wholes = {self.traces[at].asked[-1] for at in self.unique}
        groups: dict[bytes, list[int]] = {}
        for at in self.unique:
            begins = next(asked for asked in self.traces[at].asked if asked in wholes)
            groups.setdefault(begins, []).append(at)
        return groups

    def own(self, at: int) -> Part | None:
        """The part that an example has had, or must have: its turns must not teach what tests."""
        asked = self.traces[at].asked
        if asked[-1] in self.known:
            return self.known[asked[-1]]
        measured = (self.known[each] for each in asked if self.known.get(each) in MEASURED)
        return next(measured, None)

    def chooses_by_test(self, at: int, part: Part) -> bool:
        """Whether it would choose a checkpoint by the answer to one of its turns, which tests."""
        asked = self.traces[at].asked
        return part is Part.VALIDATION and Part.TEST in (self.known.get(each) for each in asked)

    def parts_of(self, group: Sequence[int]) -> set[Part]:
        """Where examples of a group have been."""
        return {part for at in group if (part := self.own(at)) is not None}

    def rank(self, digest: bytes) -> bytes:
        """A place in the adapter's own order."""
        return hashlib.blake2b(digest, key=self._key, digest_size=16).digest()

    def by_rank(self, at: int) -> tuple[bool, bytes]:
        """Where an example stands in its part: those that measured before come first."""
        return self.own(at) is None, self.rank(self.traces[at].row)


class _Placed:
    """Examples by part, while a split is made."""

    def __init__(self) -> None:
        self.parts: dict[Part, list[int]] = {part: [] for part in Part}
        self.overlap = self.taught = 0

    def keep(self, examples: _Examples, group: Sequence[int]) -> None:
        """Puts a group where it has been; what has been in several parts stays in its own."""
        parts = examples.parts_of(group)
        only = next(iter(parts)) if len(parts) == 1 else None
        brought = any(examples.traces[at].brought for at in group)
        for at in group:
            part = examples.own(at) or only
            copied = brought and not examples.traces[at].brought and part is not Part.TRAIN
            if examples.traces[at].brought and part is Part.TRAIN:
                self.taught += 1
            elif part is None or copied or examples.chooses_by_test(at, part):
                self.overlap += 1
            else:
                self.parts[part].append(at)

    def draw(self, part: Part, free: list[list[int]], *, wanted: int) -> list[list[int]]:
        """Takes whole groups until `part` has `wanted` examples; the answer is what is left.

        A group that would make it more is left; where that leaves too few to measure by, the
        smallest are taken too.
        """
        mine, left = self.parts[part], []
        for group in free:
            if len(mine) + len(group) <= wanted:
                mine.extend(group)
            else:
                left.append(group)
        for group in sorted(left, key=len):
            if len(mine) >= part.fewest:
                break
            mine.extend(group)
            left.remove(group)
        return left


def _draw_from_training_file(examples: _Examples, free: list[list[int]], placed: _Placed) -> None:
    share = round(len(examples.unique) * SHARE)
    for part in MEASURED:
        wanted = min(MAX_MEASURED, max(share, part.fewest))
        free = placed.draw(part, free, wanted=wanted)
    placed.parts[Part.TRAIN].extend(at for group in free for at in group)


def _draw_from_validation_file(examples: _Examples, free: list[list[int]], placed: _Placed) -> None:
    """Test first. A training example that asks what the validation file asks is dropped."""
    measuring: list[list[int]] = []
    for group in free:
        brought = [at for at in group if examples.traces[at].brought]
        if brought:
            measuring.append(brought)
            placed.overlap += len(group) - len(brought)
        else:
            placed.parts[Part.TRAIN].extend(group)
    measured = sum(map(len, measuring)) + sum(len(placed.parts[part]) for part in MEASURED)
    wanted = max(MIN_TEST, round(measured * TEST_SHARE_OF_VALIDATION_FILE))
    left = placed.draw(Part.TEST, measuring, wanted=min(MAX_MEASURED, wanted))
    placed.parts[Part.VALIDATION].extend(at for group in left for at in group)


def _check_training_file(examples: _Examples, min_examples: int) -> None:
    count = sum(not examples.traces[at].brought for at in examples.unique)
    if count < min_examples:
        raise refuse(
            "training_file",
            f"has {count} different examples; at least {min_examples} are needed",
        )


def _check(examples: _Examples, placed: _Placed, min_examples: int) -> None:
    """Raises InvalidFile where a part has too few."""
    train, validation, test = (len(placed.parts[part]) for part in Part)
    enough = test >= MIN_TEST and validation >= MIN_VALIDATION
    if enough and train >= min_examples:
        return
    if not examples.brought:
        raise refuse("training_file", _too_few_parts(examples, placed, min_examples))
    if not enough:
        count = sum(examples.traces[at].brought for at in examples.unique)
        taught = f", of which {placed.taught} ask what the adapter was trained on"
        raise refuse(
            "validation_file",
            f"has {count} different examples{taught if placed.taught else ''}: {test} to test an "
            f"adapter by and {validation} to choose its checkpoint by; at least {MIN_TEST} and "
            f"{MIN_VALIDATION} are needed: add some, or start the job without a validation file",
        )
    raise refuse(
        "validation_file",
        f"asks the same as the training file: only {train} training examples would be left and "
        f"at least {min_examples} are needed; use other examples for validation",
    )


def _too_few_parts(examples: _Examples, placed: _Placed, min_examples: int) -> str:
    if len({examples.traces[at].asked for at in examples.unique}) == 1:
        return "every example asks the same; nothing can be held out to measure an adapter by"
    train, validation, test = (len(placed.parts[part]) for part in Part)
    said = (
        f"has {len(examples.unique)} different examples: {test} to test the adapter by, "
        f"{validation} to choose its checkpoint by, {train} to train on; at least {MIN_TEST}, "
        f"{MIN_VALIDATION} and {min_examples} are needed"
    )
    old = sum(examples.own(at) is Part.TRAIN for at in examples.unique)
    if old and (test < MIN_TEST or validation < MIN_VALIDATION):
        return (
            f"{said}. {old} of them taught an earlier version and cannot measure it: add new ones"
        )
    return f"{said}: add examples, or give a validation file"


def _finished(examples: _Examples, placed: _Placed) -> Split:
    kept, unused = {}, 0
    for part in MEASURED:
        found = sorted(placed.parts[part], key=examples.by_rank)
        kept[part] = found[:MAX_MEASURED]
        unused += len(found) - len(kept[part])
    train = sorted(placed.parts[Part.TRAIN])
    return Split(
        train=tuple(train),
        validation=tuple(sorted(kept[Part.VALIDATION])),
        test=tuple(sorted(kept[Part.TEST], key=lambda at: examples.rank(examples.traces[at].row))),
        assignments=_assignments(examples, {Part.TRAIN: train, **kept}),
        duplicates=len(examples.traces) - len(examples.unique),
        overlap=placed.overlap,
        taught=placed.taught,
        unused=unused,
    )


def _assignments(examples: _Examples, parts: Mapping[Part, Sequence[int]]) -> dict[bytes, Part]:
    """Training teaches the answers to all turns of a conversation; measuring asks for the last."""
    decided: dict[bytes, Part] = {}
    for part, members in parts.items():
        for at in members:
            asked = examples.traces[at].asked
            for question in asked if part is Part.TRAIN else asked[-1:]:
                if question not in examples.known:
                    decided[question] = part
    return decided
