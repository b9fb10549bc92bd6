"""LoRA operations in the place of vLLM's: on a CPU one matrix product for each version in a batch.

vLLM 0.32 copies an adapter's weights once for every token of a batch, at the highest rank served,
before it multiplies: a prompt of 45 tokens on a base of 135 M parameters moves 3.5 GB at rank 64.
It also looks weights up by the index -1, which marks rows of the base model, and so finds the last
slot's. Here each slot's weights are read where they lie, once, for all its rows; rows of the base
are in no slot and stay as they are. The contract test of vLLM pins the signatures, and that both
ways give the same numbers.

Tensors come and go as arguments: torch is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def bgmv_shrink(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
    """`output[row] = scaling * inputs[row] @ A[slot].T`; `weights` are (slots, 1, rank, in)."""
    for rows, weight in _by_slot(weights, slots, output.dtype):
        output[rows, : weight.shape[0]] = scaling * (inputs[rows].to(output.dtype) @ weight.T)


def bgmv_expand(
    inputs: Any, weights: Any, output: Any, slots: Any, add_inputs: bool = True
) -> None:
    """`output[row] (+)= inputs[row] @ B[slot].T`, over the columns that both have."""
    width = min(weights.shape[-2], output.shape[1])
    bgmv_expand_slice(inputs, weights, output, slots, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: Any,
    weights: Any,
    output: Any,
    slots: Any,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """The same into the columns from `slice_offset`; `weights` are (slots, 1, out, rank)."""
    columns = slice(slice_offset, slice_offset + slice_size)
    for rows, weight in _by_slot(weights, slots, output.dtype):
        part = inputs[rows].to(output.dtype) @ weight[:slice_size].T
        output[rows, columns] = output[rows, columns] + part if add_inputs else part


def leave_logits(_wrapper: Any, _logits: Any, *_more: Any, **_named: Any) -> None:
    """In the place of what adds an adapter's part to the logits: none that is admitted has one.

    vLLM adds it by the slots of the rows that are sampled, and the log-probabilities of a prompt's
    own tokens have more rows than those: with several requests at once its CPU operation fails and
    ends the engine.
    """


def _by_slot(weights: Any, slots: Any, dtype: Any) -> Iterator[tuple[Any, Any]]:
    """Rows of each slot in the batch, and its weights; a slice where one slot has all rows."""
    if not len(slots):
        return
    first = int(slots[0])
    if bool((slots == first).all()):
        found = {first: slice(0, len(slots))}
    else:
        found = {slot: (slots == slot).nonzero().flatten() for slot in slots.unique().tolist()}
    for slot, rows in found.items():
        if slot >= 0:
            weight = weights[slot]
            yield rows, (weight[0] if weight.dim() == 3 else weight).to(dtype)
