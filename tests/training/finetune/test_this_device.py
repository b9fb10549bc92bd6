"""What the machine has to train with, asked more than once in a process."""

from __future__ import annotations

import torch

from training.finetune.this_device import this_device


def test_a_second_run_gets_as_many_threads_as_the_first() -> None:
    before = torch.get_num_threads()
    first = this_device(0).threads
    try:
        torch.set_num_threads(max(1, first // 2))
        assert this_device(0).threads == first
    finally:
        torch.set_num_threads(before)
