"""What a method makes smaller, and the rows as it reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.domain.recipes import Method, Recipe
from training.data.preferences import Thumb
from training.finetune.compared_rows import compare
from training.finetune.device_plan import DevicePlan
from training.finetune.loop import StepPasses
from training.finetune.passes import AnswerPasses, Passes
from training.finetune.port import Task, Watch
from training.finetune.preference_passes import DpoPasses, KtoPasses, PreferencePasses
from training.finetune.ranks import Ranks
from training.finetune.spread_passes import SpreadPasses
from training.stopping import Stopped


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a method makes smaller, and the rows as it reads them."""

    passes: StepPasses[Any]
    train: Sequence[Any]
    validation: Sequence[Any]


def lesson_of(
    model: Any, task: Task, watch: Watch, plan: DevicePlan, ranks: Ranks | None
) -> Lesson:
    """The lesson of a task. Its preferences are measured by `model`, which no step has changed yet.

    `ranks` compute with this process, where there are any. Raises Stopped, OSError, RankLost.
    """
    own = passes_for(model, task.recipe, plan, liked=liked_share(task))
    spread = SpreadPasses(own, ranks) if ranks else None
    if not isinstance(own, PreferencePasses):
        return Lesson(passes=spread or own, train=task.train, validation=task.validation)
    measure = partial(own.log_probs, plan=plan)
    if spread:
        measure = partial(spread.log_probs, plan=plan, own=measure)

    def compared(rows: Sequence[Any], part: str) -> Sequence[Any]:
        kept = task.workdir / f"reference.{part}.npy"
        return compare(rows, kept, measure, alive=lambda: _stop_if_asked(watch))

    return Lesson(
        passes=spread or own,
        train=compared(task.train, "train"),
        validation=compared(task.validation, "validation"),
    )


def passes_for(model: Any, recipe: Recipe, plan: DevicePlan, *, liked: float) -> Passes[Any]:
    """The passes of a recipe's method; `liked` is the share of training rows with a thumb up."""
    if recipe.method is Method.SUPERVISED:
        return AnswerPasses(model, plan)
    if recipe.method is Method.DPO:
        return DpoPasses(model, plan, beta=recipe.beta)
    return KtoPasses(model, plan, beta=recipe.beta, liked=liked)


def liked_share(task: Task) -> float:
    """The share of training rows with a thumb up; 0 where rows have none."""
    if task.recipe.method is not Method.KTO:
        return 0.0
    return sum(isinstance(row, Thumb) and row.liked for row in task.train) / len(task.train)


def _stop_if_asked(watch: Watch) -> None:
    if watch.stopping():
        raise Stopped
