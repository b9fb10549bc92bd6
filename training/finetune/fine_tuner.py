"""The real `FineTuner`: renders with the base's chat template, fine-tunes with PEFT and TRL.

torch takes seconds to import: it is imported where it is needed and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.settings import TrainPrecision
from training.data.questions import Question
from training.finetune.port import FineTuned, Measures, Task, Watch

if TYPE_CHECKING:
    from training.finetune.values import Progress


def import_slow_modules() -> None:
    """torch and its family: about ten seconds of a core."""
    importlib.import_module("training.finetune.run")
    importlib.import_module("training.finetune.log_probs")


class LoraFineTuner:
    """Fine-tunes the base model in one directory."""

    def __init__(self, base: Path, *, precision: TrainPrecision) -> None:
        self._base, self._precision = base, precision

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        """See `FineTuner.tune`."""
        from training.finetune.run import finetune
        from training.finetune.values import Run

        run = Run(
            base=self._base,
            train=task.train,
            valid=task.held_out,
            recipe=task.recipe,
            workdir=task.workdir,
            precision=self._precision,
        )
        done = finetune(run, ProgressReports(watch), stopping=watch.stopping)
        return FineTuned(
            directory=done.directory,
            steps=done.steps,
            best_step=done.best_step,
            trained_tokens=done.trained_tokens,
            seconds=done.history[-1].seconds,
            first_loss=done.first_valid_loss,
            best_loss=done.best_valid_loss,
            best_accuracy=done.best_valid_answers,
            ended=done.stopped,
            precision=done.precision,
        )

    def log_probs(self, adapter: Path, questions: Sequence[Question]) -> list[list[float]]:
        """See `FineTuner.log_probs`."""
        from training.finetune.log_probs import log_probs

        return log_probs(
            base=self._base,
            adapter=adapter,
            rows=[question.ids for question in questions],
            starts=[question.answer_start for question in questions],
        )


class ProgressReports:
    """Turns the trainer's progress into measures."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.train_loss is not None:
            self._last = progress
        if progress.step:
            self._watch.step(self._measures(progress), progress.seconds_left or 0.0)

    def _measures(self, progress: Progress) -> Measures:
        trained = self._last or progress
        return Measures(
            step=progress.step,
            total_steps=progress.total_steps,
            train_loss=trained.train_loss,
            train_accuracy=trained.train_accuracy,
            valid_loss=progress.valid_loss,
            valid_accuracy=progress.valid_accuracy,
            valid_answers=progress.valid_answers,
        )
