"""Rendered rows as padded tensors, in which order, and the positions that carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import torch

from training.data.render import Rendered

T = TypeVar("T")

GROUPS = 50
"""Batches that are sorted by length together; the order of an epoch stays mostly random."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded rows, and where in them something is learnt."""

    ids: torch.Tensor
    """(rows, tokens), filled up behind each row."""
    places: torch.Tensor
    """(learnt tokens,): the positions before them, counted through all rows."""
    targets: torch.Tensor
    """(learnt tokens,): their ids."""
    rows: torch.Tensor
    """(learnt tokens,): which row each belongs to."""
    weights: torch.Tensor
    """(learnt tokens,): by what the loss of each is multiplied in training."""
    tokens: int
    """Of the rows, without padding."""

    def to(self, device: str) -> Batch:
        """The same on `device`; copies to a GPU are not waited for."""
        if device == "cpu":
            return self

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        return Batch(
            ids=moved(self.ids),
            places=moved(self.places),
            targets=moved(self.targets),
            rows=moved(self.rows),
            weights=moved(self.weights),
            tokens=self.tokens,
        )


def pad(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(rows, longest) token ids, filled up behind each row with a token that nobody sees.

    Nothing looks ahead, so attention needs no mask. Fillers in front of a row would need one, and
    be positions that see nothing at all: cuDNN's attention gives those gradients that are no
    number.
    """
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [0] * (longest - len(row)) for row in rows])


def collate(rows: Sequence[Rendered]) -> Batch:
    """A batch of `rows`."""
    longest = max(map(len, rows))
    places, targets, owners = list[int](), list[int](), list[int]()
    for at, row in enumerate(rows):
        # a token is said at the position before it; the first one of a row stands behind nothing
        before = at * longest - 1
        learnt = [place for place, learn in enumerate(row.learn) if learn and place]
        places += [before + place for place in learnt]
        targets += [row.ids[place] for place in learnt]
        owners += [at] * len(learnt)
    return Batch(
        ids=pad([row.ids for row in rows]),
        places=torch.tensor(places),
        targets=torch.tensor(targets),
        rows=torch.tensor(owners),
        weights=torch.tensor([rows[owner].weight for owner in owners]),
        tokens=sum(map(len, rows)),
    )


def parts(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield [rows[at] for at in range(start, min(start + size, len(rows)))]


class InOrder(Sequence[T]):
    """Rows in another order, each read when it is asked for."""

    def __init__(self, rows: Sequence[T], order: Sequence[int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            return InOrder(self._rows, self._order[at])
        return self._rows[self._order[at]]


class BatchOrder:
    """Which rows each step takes: a function of seed and step alone.

    A run that goes on in the middle of an epoch thus sees exactly the rows that are left.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self._lengths, self._size, self._seed = lengths, batch_size, seed
        self._drawn: tuple[int, list[int]] = (-1, [])

    @property
    def steps_an_epoch(self) -> int:
        return -(-len(self._lengths) // self._size)

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of `step`, which counts from 1."""
        epoch, at = divmod(step - 1, self.steps_an_epoch)
        if self._drawn[0] != epoch:
            order = epoch_order(self._lengths, self._size, seed=self._seed, epoch=epoch)
            self._drawn = (epoch, order)
        return self._drawn[1][at * self._size : (at + 1) * self._size]


def epoch_order(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[int]:
    """All rows in a random order in which those of about the same length stand side by side."""
    # seeds are below 2**31
    draw = torch.Generator().manual_seed(seed + (epoch << 31))
    drawn = torch.randperm(len(lengths), generator=draw).tolist()
    group = batch_size * max(1, min(GROUPS, len(lengths) // (batch_size * 4)))
    return [
        row
        for start in range(0, len(drawn), group)
        for row in sorted(drawn[start : start + group], key=lambda row: -lengths[row])
    ]
