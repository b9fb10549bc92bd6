"""A step that changes nothing: whether a plan fits, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from training.finetune.device_plan import DevicePlan
from training.finetune.loop import StepPasses

WARM = 2.0
"""Seconds: a dry step that took less is taken again, for the first one also makes the kernels."""


def dry_step(
    passes: StepPasses[Any], rows: Sequence[Any], plan: DevicePlan, *, forget: Callable[[], None]
) -> float:
    """Seconds a token that gradients of `rows` take here; `forget` throws the gradients away."""

    def timed() -> float:
        began = time.perf_counter()
        try:
            float(passes.gradients(rows, plan).loss)  # waits for the device
        finally:
            forget()
        return time.perf_counter() - began

    seconds = timed()
    if seconds < WARM:
        seconds = timed()
    return seconds / (len(rows) * max(map(len, rows)))
