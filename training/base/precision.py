"""In which precision this machine trains: measured, never assumed.

bfloat16 moves half the bytes and is the faster one where the processor computes in it. Elsewhere it
is emulated: without AVX-512 BF16 or AMX a product takes ten times as long as in float32, and so
does a training step. torch is imported where it is needed and not before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from adapters.settings import TrainPrecision

WORTH = 1.1
"""How many times faster bfloat16 must be: between equals the exact one is taken, and the one that a
service on a CPU computes in."""
ROWS, INTO, OUT = 512, 192, 512
"""The probe: one linear layer of the embedded base over the tokens of a small batch. A machine that
emulates bfloat16 needs a tenth of a second for a pass over it, at worst."""
PASSES = 8
BUDGET = 0.5
"""Seconds after which no further pass begins."""


class Precision(StrEnum):
    """What the matrix products of a training step are computed in."""

    FLOAT32 = "float32"
    """Everything in float32."""
    BFLOAT16 = "bfloat16"
    """Products in bfloat16 (autocast), sums and optimizer in float32."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that a forward and a backward pass over the probe take in each precision."""

    float32: float
    bfloat16: float

    def of(self, precision: Precision) -> float:
        """Those of one precision."""
        return self.float32 if precision is Precision.FLOAT32 else self.bfloat16


def choose(wanted: TrainPrecision) -> Precision:
    """What `wanted` says; `auto` is bfloat16 on a GPU, and on a CPU what is faster there."""
    if wanted != "auto":
        return Precision(wanted)
    import torch

    return Precision.BFLOAT16 if torch.cuda.is_available() else faster(measured())


def faster(speed: Speed) -> Precision:
    """The precision to train in on a CPU of that speed."""
    worth_it = speed.bfloat16 * WORTH < speed.float32
    return Precision.BFLOAT16 if worth_it else Precision.FLOAT32


@cache
def measured() -> Speed:
    """This machine's speed, measured once in a process.

    Seconds of the processor on one thread, best of a few passes in turn: beside other load, threads
    wait for each other and a clock on the wall would measure that.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _best(time.monotonic() + BUDGET)
    finally:
        torch.set_num_threads(threads)


def products_per_second(wanted: TrainPrecision, *, threads: int) -> float | None:
    """Multiplications and additions of this CPU's matrix products, in the precision that is wanted
    and on so many threads (0: all that this process may use); None where there is a GPU, which
    trains instead.
    """
    import torch

    if torch.cuda.is_available():
        return None
    seconds = measured().of(choose(wanted))
    once = 3 * 2 * ROWS * INTO * OUT  # one product forward and two back
    at_once: int = threads or torch.get_num_threads()
    return once * at_once / seconds


def _best(until: float) -> Speed:
    best = dict.fromkeys(Precision, float("inf"))
    for done in range(PASSES + 1):
        for precision in Precision:
            seconds = _pass(precision)
            if done:  # the first one also makes the kernels
                best[precision] = min(best[precision], seconds)
        if done and time.monotonic() > until:
            break
    return Speed(float32=best[Precision.FLOAT32], bfloat16=best[Precision.BFLOAT16])


def _pass(precision: Precision) -> float:
    import torch

    # ones: a run's random numbers must not depend on whether its machine was measured
    rows = torch.ones(ROWS, INTO, requires_grad=True)
    weights = torch.ones(OUT, INTO, requires_grad=True)
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is Precision.BFLOAT16):
        out = torch.nn.functional.linear(rows, weights)
    out.float().sum().backward()
    return time.process_time() - began
