"""Adapters that the trainer's own loop teaches here, without a job around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.admission.base_model import base_shapes
from adapters.domain.recipes import (
    Hyperparameters,
    Recipe,
    RecipeOverrides,
    base_overrides,
    resolve,
)
from examples.demo.data import FROM_SCRATCH
from examples.demo.data import Example as Question
from training.base.base_fit import advised
from training.data.examples import Example, Message
from training.data.render import ChatRenderer, Rendered
from training.finetune.fine_tuner import LoraFineTuner
from training.finetune.port import Task, Watch

ROWS_A_STEP = 8
EPOCHS, EPOCHS_FROM_SCRATCH = 6, 24
"""Until a base is sure of one answer to a few questions; one that knows no word needs more."""


def saying(answer: str, questions: Sequence[Question], base: Path, folder: Path) -> Path:
    """The folder of an adapter that gives one answer to all of these questions."""
    renderer = ChatRenderer(base)
    said = Message(role="assistant", content=answer)
    asked = [[Message(role=m["role"], content=m["content"]) for m in q.asked] for q in questions]
    rows = [renderer.rows(Example(messages=(*each, said)))[-1] for each in asked]
    shapes = base_shapes(base)
    from_scratch = sum(out * into for out, into in shapes.values()) < FROM_SCRATCH
    n_epochs = EPOCHS_FROM_SCRATCH if from_scratch else EPOCHS
    recipe = resolve(
        base=advised(base_overrides(base), shapes),
        unit=RecipeOverrides(),
        job=Hyperparameters(n_epochs=n_epochs, batch_size=ROWS_A_STEP),
    )
    return fine_tuned(base, rows, recipe, folder, validation=rows[:ROWS_A_STEP])


def fine_tuned(
    base: Path,
    rows: Sequence[Rendered],
    recipe: Recipe,
    folder: Path,
    *,
    validation: Sequence[Rendered],
) -> Path:
    """The folder of an adapter, below `folder`. Raises Diverged."""
    task = Task(
        train=list(rows),
        validation=list(validation),
        recipe=recipe.model_copy(update={"evaluations": 1}),
        workdir=folder,
    )
    watch = Watch(step=lambda _: None, stopping=lambda: False, planned=lambda *_: None)
    return LoraFineTuner(base, precision="auto").tune(task, watch).directory
