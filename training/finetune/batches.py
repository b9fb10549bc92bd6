"""Rendered rows as padded tensors, in which order, and the positions that carry loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch

from training.data.render import Rendered

GROUPS = 50
"""Batches that are sorted by length together; the order of an epoch stays mostly random."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Padded rows, and where in them something is learnt."""

    inputs: dict[str, torch.Tensor]
    """What the model takes, each (rows, tokens)."""
    places: torch.Tensor
    """(learnt tokens,): the positions before them, counted through all rows."""
    targets: torch.Tensor
    """(learnt tokens,): their ids."""
    rows: torch.Tensor
    """(learnt tokens,): which row each belongs to."""
    tokens: int
    """Of the rows, without padding."""

    def to(self, device: str) -> Batch:
        """The same on `device`; copies to a GPU are not waited for."""
        if device == "cpu":
            return self

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        return Batch(
            inputs={name: moved(tensor) for name, tensor in self.inputs.items()},
            places=moved(self.places),
            targets=moved(self.targets),
            rows=moved(self.rows),
            tokens=self.tokens,
        )


class Padding:
    """Makes the rows of a batch equally long on the left."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return pad([row["input_ids"] for row in rows], self._pad)


def pad(rows: Sequence[Sequence[int]], filler: int) -> dict[str, torch.Tensor]:
    """Rows made equally long on the left, so that all answers end at the same place."""
    longest = max(map(len, rows))
    ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def collate(rows: Sequence[Rendered], filler: int) -> Batch:
    """A batch of `rows`, padded with the token `filler`."""
    longest = max(map(len, rows))
    places, targets, owners = list[int](), list[int](), list[int]()
    for at, row in enumerate(rows):
        # a token is said at the position before it; the first one of a row stands behind nothing
        before = at * longest + longest - len(row) - 1
        learnt = [place for place, learn in enumerate(row.learn) if learn and place]
        places += [before + place for place in learnt]
        targets += [row.ids[place] for place in learnt]
        owners += [at] * len(learnt)
    inputs = pad([row.ids for row in rows], filler)
    if all(len(row) == longest for row in rows):
        # attention is then computed by kernels that know no mask
        inputs = {"input_ids": inputs["input_ids"]}
    return Batch(
        inputs=inputs,
        places=torch.tensor(places),
        targets=torch.tensor(targets),
        rows=torch.tensor(owners),
        tokens=sum(map(len, rows)),
    )


def learnt_tokens(row: Rendered) -> int:
    """How many tokens of a row carry loss."""
    return sum(row.learn) - row.learn[0]


def parts(rows: Sequence[Rendered], size: int) -> Iterator[Sequence[Rendered]]:
    """Slices of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield [rows[at] for at in range(start, min(start + size, len(rows)))]


class InOrder(Sequence[Rendered]):
    """Rows in another order, each read when it is asked for."""

    def __init__(self, rows: Sequence[Rendered], order: Sequence[int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, at: int) -> Rendered: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Rendered]: ...
    def __getitem__(self, at: int | slice) -> Rendered | Sequence[Rendered]:
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
