"""The adapter's numbers between the processes of one run, by torch.distributed.

nccl moves them between GPUs, gloo on the CPU. They meet in a file and speak over the loopback
interface alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist

PATIENCE = timedelta(minutes=10)
"""For one exchange. All take part before it begins, and it moves an adapter's numbers alone: what
takes so long will never end."""
_LOOK = 2e-4
_LOOPBACK = "lo"


@contextmanager
def process_group(
    device: Literal["cpu", "cuda"], store: Path, *, rank: int, ranks: int
) -> Iterator[None]:
    """While all processes of a run are together; each waits here for the others."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[name] = _LOOPBACK
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=dist.FileStore(str(store), ranks),
        rank=rank,
        world_size=ranks,
        timeout=PATIENCE,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


class AdapterExchange:
    """The weights and gradients of an adapter, in the order in which the model has them."""

    def __init__(self, model: Any, *, check: Callable[[], None] = lambda: None) -> None:
        """`check` is called while others are waited for and raises where they are gone.

        All memory is taken here: where it ran out within an exchange, the processes would no longer
        agree on which one is the next.
        """
        self._learnt = [part for part in model.parameters() if part.requires_grad]
        self._weights, self._gradients = _flat(self._learnt), _flat(self._learnt)
        self._check = check

    def weights(self) -> None:
        """Gives all processes the weights of rank 0."""
        with torch.no_grad():
            for part, numbers in self._parts(self._weights):
                numbers.copy_(part)
            self._wait(dist.broadcast(self._weights, src=0, async_op=True))
            for part, numbers in self._parts(self._weights):
                part.copy_(numbers)

    def gradients(self) -> None:
        """Adds the gradients of all processes into those of rank 0; the others forget theirs."""
        for part, numbers in self._parts(self._gradients):
            if part.grad is None:
                numbers.zero_()
            else:
                numbers.copy_(part.grad)
        self._wait(dist.reduce(self._gradients, dst=0, async_op=True))
        if dist.get_rank() != 0:
            self.forget()
            return
        for part, numbers in self._parts(self._gradients):
            part.grad = numbers

    def forget(self) -> None:
        for part in self._learnt:
            part.grad = None

    def _parts(self, flat: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each part of the adapter, with its place in `flat`."""
        sizes = [part.numel() for part in self._learnt]
        for part, numbers in zip(self._learnt, flat.split(sizes), strict=True):
            yield part, numbers.view_as(part)

    def _wait(self, work: Any) -> None:
        """Not `work.wait()` alone: nccl waits for ever for a process that is gone."""
        while not work.is_completed():
            self._check()
            time.sleep(_LOOK)
        work.wait()


def _flat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Room for a number of each of theirs."""
    return parts[0].new_zeros(sum(part.numel() for part in parts))
