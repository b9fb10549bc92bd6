"""Teacher-forced log-probabilities by the trainer's own forward pass: what the served adapter is
compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.finetune.loaded_base import LoadedBase


def log_probs(
    *, base: LoadedBase, adapter: Path, rows: Sequence[Sequence[int]], starts: Sequence[int]
) -> list[list[float]]:
    """For each row of tokens, the log-probability (nats) of each token from its start on.

    Row by row: no padding that a model could see, and logits for the reference's tokens only, which
    are gigabytes for a whole batch where the vocabulary is large. In float32 on a CPU, in the
    base's own precision on a GPU. The service does the same, but for a base of halves, which it
    computes in bfloat16 on a CPU: what that explains is allowed for.
    """
    gpu = torch.cuda.is_available()
    dtype, device = (base.stored_dtype, "cuda") if gpu else (torch.float32, "cpu")
    with base.with_adapter(adapter, dtype=dtype, device=device) as model, torch.inference_mode():
        return [_scored(model, row, start) for row, start in zip(rows, starts, strict=True)]


def _scored(model: Any, row: Sequence[int], start: int) -> list[float]:
    ids = torch.tensor([list(row)], device=model.device)
    before = torch.arange(start - 1, len(row) - 1, device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=before).logits[0].float()
    found: list[float] = logits.log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0].tolist()
    return found
