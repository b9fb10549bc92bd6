"""The time a run takes, and the learning rate of each step.

The rate follows the steps alone: an adapter depends on its recipe and its data, never on how fast
the machine is. A time limit is its owner's wish, and ends the run where it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from adapters.domain.recipes import Recipe


class Clock:
    """Seconds this run has been trained for, the time before a resumption included."""

    def __init__(
        self,
        *,
        limit: float | None = None,
        before: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` is in seconds; None is none."""
        self._limit, self._now = limit, now
        self._started = now() - before

    def seconds(self) -> float:
        return self._now() - self._started

    def is_up(self) -> bool:
        """Whether the owner's time limit is over."""
        return self._limit is not None and self.seconds() >= self._limit

    def left(self, done: float) -> float:
        """Seconds until the end of a run of which the part `done` (above 0) is done."""
        seconds = self.seconds()
        left = seconds * (1.0 - done) / done
        return max(0.0, left if self._limit is None else min(left, self._limit - seconds))


def rate_share(recipe: Recipe, progress: float) -> float:
    """The part of the learning rate in force when `progress` (0 to 1) of the run is done."""
    if progress < recipe.warmup_ratio:
        return max(progress, 1e-3) / recipe.warmup_ratio
    rest = min(1.0, (progress - recipe.warmup_ratio) / (1.0 - recipe.warmup_ratio))
    if recipe.scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0 - rest if recipe.scheduler == "linear" else 1.0
