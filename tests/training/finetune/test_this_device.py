"""What the machine has to train with, asked more than once in a process."""

from __future__ import annotations

import torch

from training.finetune.this_device import free_of_a_share, this_device

GIB = 1 << 30


def test_a_second_run_gets_as_many_threads_as_the_first() -> None:
    before = torch.get_num_threads()
    first = this_device(0).threads
    try:
        torch.set_num_threads(max(1, first // 2))
        assert this_device(0).threads == first
    finally:
        torch.set_num_threads(before)


def test_a_training_counts_on_no_more_of_a_gpu_than_its_share_while_the_engine_is_away() -> None:
    """An engine that starts again refuses to, where its own part is not free."""
    share = 36 * GIB
    assert free_of_a_share(free=75 * GIB, held=0, used=0, share=share) == share
    assert free_of_a_share(free=75 * GIB, held=6 * GIB, used=4 * GIB, share=share) == 32 * GIB


def test_a_training_counts_on_no_more_than_is_free_where_its_share_is_in_use() -> None:
    share = 36 * GIB
    assert free_of_a_share(free=10 * GIB, held=0, used=0, share=share) == 10 * GIB
    held = {"held": 6 * GIB, "used": 4 * GIB}
    assert free_of_a_share(free=10 * GIB, **held, share=share) == 12 * GIB, "what it holds, too"
    assert free_of_a_share(free=0, held=40 * GIB, used=40 * GIB, share=share) == 0
