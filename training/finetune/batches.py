"""Rendered examples as tensors, in which order, and the few positions that are worth scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from training.data.render import Rendered

IGNORED = -100


class Padding:
    """Makes the rows of a batch equally long on the left.

    All answers then end at the same place, and the language-model head, half the work of a tiny
    model, is computed for those few positions only.
    """

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        attention = (torch.arange(longest) >= longest - lengths[:, None]).long()
        batch = {
            "input_ids": _left_padded([row["input_ids"] for row in rows], self._pad, longest),
            "attention_mask": attention,
            "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        }
        if "labels" in rows[0]:
            batch["labels"] = _left_padded([row["labels"] for row in rows], IGNORED, longest)
        return batch


class EpochOrder(Sampler[int]):
    """Examples of about the same length side by side, in an order that seed and epoch determine.

    A run that goes on in the middle of an epoch thus sees exactly the examples that are left.
    """

    def __init__(
        self, lengths: list[int], batch_size: int, *, seed: int, epoch: Callable[[], int]
    ) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        # seeds are below 2**31
        draw = torch.Generator().manual_seed(self._seed + (self._epoch() << 31))
        return iter(get_length_grouped_indices(self._lengths, self._batch_size, generator=draw))


def as_dataset(rows: Sequence[Rendered]) -> Dataset:
    """What the trainer takes: ids, and labels that are `IGNORED` where nothing is learnt."""
    labels = [
        [token if learn else IGNORED for token, learn in zip(row.ids, row.learn, strict=True)]
        for row in rows
    ]
    return Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": labels})


def scored(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (rows, places, vocabulary) and labels (rows, places).

    The places are those at which some row of the batch has a learnt token.
    """
    labels = inputs["labels"][:, 1:]
    places = (labels != IGNORED).any(0).nonzero().flatten()
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False, logits_to_keep=places).logits
    return logits.float(), labels[:, places]


def _left_padded(rows: Sequence[Sequence[int]], filler: int, longest: int) -> torch.Tensor:
    return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])
