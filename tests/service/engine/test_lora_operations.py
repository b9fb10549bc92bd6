"""LoRA operations of the CPU engine: each row gets its own slot's part, rows of the base none."""

from __future__ import annotations

import pytest
import torch

from service.engine.lora_operations import bgmv_expand, bgmv_expand_slice, bgmv_shrink

RANK, INTO, OUT = 2, 5, 7
BASE = -1
BATCHES = ([0], [2, 2, 2], [1, BASE, 0, 1], [BASE, BASE])


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7)).to(dtype)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_shrunk_by_its_own_adapter_and_a_base_row_not_at_all(
    batch: list[int], dtype: torch.dtype
) -> None:
    inputs, weights = drawn(len(batch), INTO, dtype=dtype), drawn(3, 1, RANK, INTO, dtype=dtype)
    output = torch.zeros(len(batch), RANK)
    bgmv_shrink(inputs, weights, output, torch.tensor(batch), 0.5)
    for row, slot in enumerate(batch):
        part = 0.5 * (weights[slot, 0].float() @ inputs[row].float())
        wanted = torch.zeros(RANK) if slot == BASE else part
        torch.testing.assert_close(output[row], wanted)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("adds", [True, False])
def test_a_rows_part_goes_into_its_columns_and_a_base_row_stays_as_it_is(
    batch: list[int], adds: bool
) -> None:
    inputs, weights = drawn(len(batch), RANK), drawn(3, 1, 3, RANK)
    output = torch.ones(len(batch), OUT)
    bgmv_expand_slice(inputs, weights, output, torch.tensor(batch), 2, 3, adds)
    for row, slot in enumerate(batch):
        wanted = torch.ones(OUT)
        if slot != BASE:
            part = weights[slot, 0] @ inputs[row]
            wanted[2:5] = 1.0 + part if adds else part
        torch.testing.assert_close(output[row], wanted)


def test_padding_behind_the_rows_and_columns_beyond_the_weights_are_left_alone() -> None:
    inputs, weights = drawn(2, RANK), drawn(3, 1, 3, RANK)
    output = torch.ones(4, OUT)
    bgmv_expand(inputs, weights, output, torch.tensor([1, 1]))
    torch.testing.assert_close(output[:2, :3], 1.0 + inputs @ weights[1, 0].T)
    assert bool((output[2:] == 1.0).all())
    assert bool((output[:, 3:] == 1.0).all())


def test_an_empty_batch_changes_nothing() -> None:
    output = torch.ones(1, OUT)
    bgmv_expand(drawn(0, RANK), drawn(3, 1, 3, RANK), output, torch.tensor([], dtype=torch.long))
    assert bool((output == 1.0).all())
