"""The training loop, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from adapters.domain.recipes import Recipe
from training.finetune.batches import BatchOrder
from training.finetune.checkpoints import save_checkpoint
from training.finetune.clock import Clock, rate_share
from training.finetune.device_plan import DevicePlan
from training.finetune.passes import Evaluation, Sums
from training.finetune.port import AccuracyOf, Diverged, Measures, Watch
from training.finetune.run_state import RunState
from training.finetune.this_device import (
    give_back_memory,
    memory_held,
    ran_out_of_memory,
)
from training.finetune.trainee import Trainee
from training.stopping import Stopped

REPORTS = 100
"""Reports of the training loss, spread over a run."""
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)
T = TypeVar("T")


class StepPasses(Protocol[R_contra]):
    """Passes of rows, on one device or on several."""

    @property
    def accuracy_of(self) -> AccuracyOf: ...

    def gradients(self, rows: Sequence[R_contra], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """See `Passes.gradients`."""
        ...

    def evaluate(self, rows: Sequence[R_contra], plan: DevicePlan) -> Evaluation:
        """See `Passes.evaluate`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a run does what, in steps."""

    steps: int
    evaluate_every: int
    report_every: int


@dataclass(frozen=True, kw_only=True)
class Run(Generic[R]):
    """What the loop works with; `RunState` is how far it is."""

    train: Sequence[R]
    validation: Sequence[R]
    recipe: Recipe
    workdir: Path
    order: BatchOrder
    passes: StepPasses[R]
    trainee: Trainee
    clock: Clock
    watch: Watch
    smaller: Callable[[DevicePlan], DevicePlan]
    """The plan after one that ran out of memory. Raises OutOfMemory."""


def schedule(recipe: Recipe, rows: int) -> Schedule:
    """The steps of a run on so many rows: a part of an epoch counts, a part of a step does not."""
    steps = max(1, round(math.ceil(rows / recipe.batch_size) * recipe.n_epochs))
    return Schedule(
        steps=steps,
        evaluate_every=max(1, math.ceil(steps / recipe.evaluations)),
        report_every=max(1, steps // REPORTS),
    )


def train(run: Run[Any], state: RunState) -> RunState:
    """Steps until the run ends, with a checkpoint behind every evaluation.

    Raises Stopped behind a checkpoint of the step at whose end the watch says so, Diverged,
    OutOfMemory, OSError when the disk has no room, and what the watch raises.
    """
    plan, recipe = schedule(run.recipe, len(run.train)), run.recipe
    if not state.history:
        state = _evaluated(run, state, plan, trained=())
    untold: list[tuple[int, Sums]] = []
    while state.ended is None:
        step = state.step + 1
        rows = [run.train[row] for row in run.order.rows(step)]
        gradients = partial(run.passes.gradients, rows, seed=_seed(recipe, step))
        state, sums = fitting(run, state, gradients)
        rate = recipe.learning_rate * rate_share(recipe, (step - 1) / plan.steps)
        run.trainee.step(rate)
        untold.append((step, sums))
        state = state.evolve(step=step, tokens=state.tokens + sums.tokens, learning_rate=rate)

        is_last = step == plan.steps or run.clock.is_up()
        is_due = is_last or step % plan.evaluate_every == 0
        if is_due:
            state = _evaluated(run, state, plan, trained=untold)
            state = state.evolve(ended=_why_ended(state, recipe, plan, is_last=is_last))
            untold = []
        elif step % plan.report_every == 0:
            state = _told(run, state, _measures(run, state, plan, trained=untold))
            untold = []
        is_stopped = state.ended is None and run.watch.stopping()
        if is_due or is_stopped:
            state = state.evolve(seconds=run.clock.seconds())
            save_checkpoint(run.workdir, run.trainee, state)
        if is_stopped:
            raise Stopped
    return state


def fitting(run: Run[Any], state: RunState, work: Callable[[DevicePlan], T]) -> tuple[RunState, T]:
    """Does `work` from its start with a smaller plan, each time it runs out of memory."""
    while True:
        try:
            return state, work(state.plan)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        # not above: the exception still held the tensors of the failed step there
        run.trainee.forget_gradients()
        give_back_memory()
        state = state.evolve(plan=run.smaller(state.plan))
        if state.history:  # not while the plan is still tried
            run.watch.planned(state.plan, None)


def _evaluated(
    run: Run[Any], state: RunState, plan: Schedule, *, trained: Sequence[tuple[int, Sums]]
) -> RunState:
    """The state after measuring the validation rows, told; the trainee keeps its best self."""
    now = _measures(run, state, plan, trained=trained)
    state, found = fitting(run, state, partial(run.passes.evaluate, run.validation))
    if not math.isfinite(found.loss):
        raise Diverged(state.step)
    state = state.judged(
        now.evolve(
            valid_loss=found.loss,
            valid_accuracy=found.accuracy,
            valid_answers=found.answers,
            seconds=round(run.clock.seconds(), 2),
        )
    )
    if state.best_step == state.step > 0:
        run.trainee.keep_as_best()
    run.watch.step(state.history[-1])
    return state


def _told(run: Run[Any], state: RunState, measures: Measures) -> RunState:
    run.watch.step(measures)
    return state.evolve(history=(*state.history, measures))


def _measures(
    run: Run[Any], state: RunState, plan: Schedule, *, trained: Sequence[tuple[int, Sums]]
) -> Measures:
    """What the steps since the last report have computed. Raises Diverged."""
    losses = [(step, float(sums.loss), sums.learnt) for step, sums in trained]
    for step, loss, _ in losses:
        if not math.isfinite(loss):
            raise Diverged(step)
    learnt = sum(count for _, _, count in losses)
    return Measures(
        step=state.step,
        total_steps=plan.steps,
        train_loss=sum(loss * count for _, loss, count in losses) / learnt if learnt else None,
        train_accuracy=sum(int(s.hits) for _, s in trained) / learnt if learnt else None,
        tokens=state.tokens,
        seconds=round(run.clock.seconds(), 2),
        seconds_left=round(run.clock.left(state.step / plan.steps), 1) if state.step else None,
        memory_bytes=memory_held(),
        accuracy_of=run.passes.accuracy_of,
    )


def _why_ended(state: RunState, recipe: Recipe, plan: Schedule, *, is_last: bool) -> str | None:
    if is_last:
        return "finished" if state.step == plan.steps else "time_limit"
    return "early_stopping" if state.unimproved >= recipe.patience else None


def _seed(recipe: Recipe, step: int) -> int:
    """Dropout's dice for one step: a run that is resumed needs none of another step's."""
    return recipe.seed + (step << 31)
