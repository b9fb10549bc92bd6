"""What a method makes smaller, and the rows as it reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.domain.recipes import Method
from training.data.preferences import Thumb
from training.finetune.compared_rows import compare
from training.finetune.device_plan import DevicePlan
from training.finetune.passes import AnswerPasses, Passes
from training.finetune.port import Task, Watch
from training.finetune.preference_passes import DpoPasses, KtoPasses, PreferencePasses
from training.stopping import Stopped


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a method makes smaller, and the rows as it reads them."""

    passes: Passes[Any]
    train: Sequence[Any]
    validation: Sequence[Any]


def lesson_of(model: Any, task: Task, watch: Watch, plan: DevicePlan) -> Lesson:
    """The lesson of a task. Its preferences are measured by `model`, which no step has changed yet.

    Raises Stopped, OSError.
    """
    if task.recipe.method is Method.SUPERVISED:
        passes = AnswerPasses(model, plan)
        return Lesson(passes=passes, train=task.train, validation=task.validation)
    preferences = _preference_passes(model, task, plan)

    def compared(rows: Sequence[Any], part: str) -> Sequence[Any]:
        kept = task.workdir / f"reference.{part}.npy"
        measure = partial(preferences.log_probs, plan=plan)
        return compare(rows, kept, measure, alive=lambda: _stop_if_asked(watch))

    return Lesson(
        passes=preferences,
        train=compared(task.train, "train"),
        validation=compared(task.validation, "validation"),
    )


def _preference_passes(model: Any, task: Task, plan: DevicePlan) -> PreferencePasses:
    beta = task.recipe.beta
    if task.recipe.method is Method.DPO:
        return DpoPasses(model, plan, beta=beta)
    liked = sum(isinstance(row, Thumb) and row.liked for row in task.train)
    return KtoPasses(model, plan, beta=beta, liked=liked / len(task.train))


def _stop_if_asked(watch: Watch) -> None:
    if watch.stopping():
        raise Stopped
