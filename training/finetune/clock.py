"""The time a run has, what it tells about itself, and the learning rate that follows from both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from adapters.domain.recipes import Recipe
from training.finetune.values import Progress
from training.tuning import Stopped

BEHIND = 0.05
"""Part of the time limit that a run may be late before its learning rate follows the clock."""


class Clock:
    """Seconds this run has been trained for, the time before a resumption included."""

    def __init__(
        self, *, limit: float, before: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._now = limit, now
        self._started = now() - before

    def seconds(self) -> float:
        return self._now() - self._started

    def spent(self) -> float:
        """The part of the time limit that is gone; 1.0 and more when time is up."""
        return self.seconds() / self._limit


def rate_share(recipe: Recipe, progress: float) -> float:
    """The part of the learning rate in force when `progress` (0 to 1) of the run is done."""
    if progress < recipe.warmup_ratio:
        return max(progress, 1e-3) / recipe.warmup_ratio
    rest = min(1.0, (progress - recipe.warmup_ratio) / (1.0 - recipe.warmup_ratio))
    if recipe.scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0 - rest if recipe.scheduler == "linear" else 1.0


class Watch(TrainerCallback):
    """Turns what the trainer logs into `Progress`, and stops the run when its time is up.

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

    def done(self, step: int, total: int) -> float:
        """The run's progress in steps, or in time once it has fallen behind.

        A run that keeps up follows its steps alone, so that its seed determines the adapter.
        """
        return max(step / max(1, total), self.clock.spent() - BEHIND)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs and "eval_loss" not in logs:
            return
        seconds, done = self.clock.seconds(), self.done(state.global_step, state.max_steps)
        progress = Progress(
            step=state.global_step,
            total_steps=state.max_steps,
            train_loss=logs.get("loss"),
            train_accuracy=logs.get("accuracy"),
            valid_loss=logs.get("eval_loss"),
            valid_accuracy=logs.get("eval_accuracy"),
            valid_answers=logs.get("eval_answers"),
            tokens=logs["tokens"],
            seconds=round(seconds, 2),
            seconds_left=_left(seconds, done) if state.global_step else None,
        )
        self.history.append(progress)
        self.report(progress)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.clock.spent() >= 1.0 and state.global_step < state.max_steps:
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


def _left(seconds: float, done: float) -> float:
    return round(max(0.0, seconds * (1.0 - done) / done), 1)
