"""What the machine has to train with, asked more than once in a process."""

from __future__ import annotations

import pytest
import torch

from training.finetune.this_device import this_device, use_place

GIB = 1 << 30


def test_a_second_run_gets_as_many_threads_as_the_first() -> None:
    before = torch.get_num_threads()
    first = this_device(0).threads
    try:
        torch.set_num_threads(max(1, first // 2))
        assert this_device(0).threads == first
    finally:
        torch.set_num_threads(before)


class Gpu:
    """What torch tells of a GPU; the process is allowed a part of it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, free: int, total: int, used: int
    ) -> None:
        self.share = 1.0
        for name, value in {
            "is_available": lambda: True,
            "set_device": lambda _: None,
            "set_per_process_memory_fraction": self._bound,
            "get_per_process_memory_fraction": lambda: self.share,
            "mem_get_info": lambda: (free, total),
            "memory_reserved": lambda: used,
            "memory_allocated": lambda: used,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def _bound(self, share: float) -> None:
        self.share = share


def test_a_training_counts_on_no_more_of_a_gpu_than_its_share_while_the_engine_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that starts again refuses to, where its own part is not free."""
    Gpu(monkeypatch, free=75 * GIB, total=80 * GIB, used=4 * GIB)
    use_place(0, gpu_share=0.45)
    assert this_device(1).free == 32 * GIB
    use_place(0, gpu_share=1.0)
    assert this_device(1).free == 75 * GIB


def test_a_training_counts_on_no_more_than_is_free_where_its_share_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Gpu(monkeypatch, free=10 * GIB, total=80 * GIB, used=0)
    use_place(0, gpu_share=0.45)
    assert this_device(1).free == 10 * GIB
