"""Rows of a batch that ask for the base model stay the base's on the CPU.

vLLM marks such a row by the index -1, which its GPU kernels skip. Its CPU operations look weights
up by that index, and find the last slot's: in a batch with adapters, whoever asked for the base got
the answer of the version in that slot. Checked by `tests/contract/test_vllm.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

Operation = Callable[..., None]
"""Adds adapters' parts to an output: inputs, weights of all slots, output, each row's slot, …"""


def leaving_base_rows(operation: Operation) -> Operation:
    """The same for rows that have a slot; the others' output stays as it is."""

    @wraps(operation)
    def apply(inputs: Any, weights: Any, output: Any, slots: Any, *more: Any, **named: Any) -> None:
        base = slots < 0
        if base.all():
            return
        rows = output[: len(slots)]
        kept = rows[base]  # a copy
        operation(inputs, weights, output, slots, *more, **named)
        rows[base] = kept

    return apply


def leave_logits(_wrapper: Any, _logits: Any, *_more: Any, **_named: Any) -> None:
    """In the place of what adds an adapter's part to the logits: none that is admitted has one.

    vLLM adds it by the slots of the rows that are sampled, and the log-probabilities of a prompt's
    own tokens have more rows than those: with several requests at once its CPU operation fails and
    ends the engine.
    """
