"""The time a run takes, what it tells about itself, and the learning rate of each step.

The rate follows the steps alone: an adapter depends on its recipe and its data, never on how fast
the machine is. A time limit is its owner's wish, and ends the run where it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from adapters.domain.recipes import Recipe
from training.finetune.values import Progress
from training.stopping import Stopped


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


class Watch(TrainerCallback):
    """Turns what the trainer logs into `Progress`, and stops a run whose time limit is over.

    When `stopping` says so, the step under way is the last one: it is saved and `Stopped` raised.
    """

    def __init__(
        self,
        clock: Clock,
        report: Callable[[Progress], None],
        *,
        history: list[Progress],
        stopping: Callable[[], bool],
    ) -> None:
        self.clock, self.report, self.history = clock, report, history
        self.stopping = stopping
        self.out_of_time = False
        self.epoch = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs and "eval_loss" not in logs:
            return
        step, steps = state.global_step, state.max_steps
        progress = Progress(
            step=step,
            total_steps=steps,
            train_loss=logs.get("loss"),
            train_accuracy=logs.get("accuracy"),
            valid_loss=logs.get("eval_loss"),
            valid_accuracy=logs.get("eval_accuracy"),
            valid_answers=logs.get("eval_answers"),
            tokens=logs["tokens"],
            seconds=round(self.clock.seconds(), 2),
            seconds_left=round(self.clock.left(step / steps), 1) if step else None,
        )
        self.history.append(progress)
        self.report(progress)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.clock.is_up() and state.global_step < state.max_steps:
            self.out_of_time = True
            control.should_evaluate = control.should_save = control.should_training_stop = True
        if self.stopping():
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # a run that is over anyway only has its result to write
        if self.stopping() and not control.should_training_stop:
            raise Stopped

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.epoch = int(state.epoch or 0.0)
