"""Teacher-forced log-probabilities by the trainer's own forward pass: what the served adapter is
compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from training.finetune.loaded_base import LoadedBase
from training.finetune.this_device import give_back_memory, ran_out_of_memory

T = TypeVar("T")


def log_probs(
    *, base: LoadedBase, adapter: Path, rows: Sequence[Sequence[int]], starts: Sequence[int]
) -> list[list[float]]:
    """For each row of tokens, the log-probability (nats) of each token from its start on.

    Row by row: no padding that a model could see, and logits for the reference's tokens only, which
    are gigabytes for a whole batch where the vocabulary is large. In float32 on a CPU, in the
    base's own precision on a GPU. The service does the same, but for a base of halves, which it
    computes in bfloat16 on a CPU: what that explains is allowed for.

    A base that was trained on in four bits is asked as it is served, for which a GPU may have no
    room: then the CPU answers.
    """

    def asked(dtype: torch.dtype, device: str) -> list[list[float]]:
        answering = base.with_adapter(adapter, dtype=dtype, device=device)
        with answering as model, torch.inference_mode():
            return [_scored(model, row, start) for row, start in zip(rows, starts, strict=True)]

    if not torch.cuda.is_available():
        return asked(torch.float32, "cpu")
    places = [partial(asked, base.stored_dtype, device) for device in ("cuda", "cpu")]
    return first_with_room(places)


def first_with_room(places: Sequence[Callable[[], T]]) -> T:
    """The answer of the first of `places` that has the memory for it. Raises as the last does."""
    for ask in places[:-1]:
        try:
            return ask()
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        give_back_memory()  # not above: the exception still held the tensors there
    return places[-1]()


def _scored(model: Any, row: Sequence[int], start: int) -> list[float]:
    ids = torch.tensor([list(row)], device=model.device)
    before = torch.arange(start - 1, len(row) - 1, device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=before).logits[0].float()
    found: list[float] = logits.log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0].tolist()
    return found
