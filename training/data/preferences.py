"""What methods learn from: answers, pairs of answers, or answers with thumbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from adapters.domain.datasets import Part
from adapters.domain.recipes import Method
from training.data.examples import DataKind
from training.data.parts import Pair, Thumb
from training.data.render import Rendered
from training.data.stored_dataset import StoredDataset

__all__ = [
    "KIND_OF", "Pair", "Preference", "Row", "Thumb", "learnt_tokens", "length", "rows_of",
    "sequences",
]  # fmt: skip

Preference: TypeAlias = Pair | Thumb
Row: TypeAlias = Rendered | Preference

KIND_OF: Mapping[Method, DataKind] = {
    Method.SUPERVISED: DataKind.CHAT,
    Method.DPO: DataKind.PAIRS,
    Method.KTO: DataKind.THUMBS,
}


def rows_of(dataset: StoredDataset, part: Part) -> Sequence[Row]:
    """The rows of a part that trains or validates, as what they are."""
    if dataset.kind is DataKind.PAIRS:
        return dataset.pairs(part)
    if dataset.kind is DataKind.THUMBS:
        return dataset.thumbs(part)
    return dataset.train if part is Part.TRAIN else dataset.validation


def sequences(row: Row) -> Sequence[Rendered]:
    """What of a row the model reads."""
    if isinstance(row, Pair):
        return (row.chosen, row.rejected)
    return (row.answered,) if isinstance(row, Thumb) else (row,)


def length(row: Row) -> int:
    """Tokens of a row."""
    return sum(map(len, sequences(row)))


def learnt_tokens(row: Row) -> int:
    """How many tokens of a row carry loss. The first stands behind nothing, so nothing says it."""
    return sum(sum(read.learn) - read.learn[0] for read in sequences(row))
