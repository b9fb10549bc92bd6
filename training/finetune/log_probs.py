"""Teacher-forced log-probabilities by the trainer's own forward pass: what the served adapter is
compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def log_probs(
    model: Any, *, rows: Sequence[Sequence[int]], starts: Sequence[int]
) -> list[list[float]]:
    """For each row of tokens, the log-probability (nats) of each token from its start on.

    Row by row: no padding that a model could see, and logits for the reference's tokens only, which
    are gigabytes for a whole batch where the vocabulary is large.
    """
    with torch.inference_mode():
        return [_scored(model, row, start) for row, start in zip(rows, starts, strict=True)]


def _scored(model: Any, row: Sequence[int], start: int) -> list[float]:
    ids = torch.tensor([list(row)], device=model.device)
    before = torch.arange(start - 1, len(row) - 1, device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=before).logits[0].float()
    found: list[float] = logits.log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0].tolist()
    return found
