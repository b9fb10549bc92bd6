"""A job's training: one run, or several of which the validation part chooses one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.domain.datasets import Part
from adapters.domain.recipes import Method, Recipe
from adapters.hashing import sha256_bytes
from training.data.preferences import rows_of
from training.finetune.device_plan import DevicePlan, Estimate
from training.finetune.port import ChosenBy, FineTuned, Measures, Task, Watch
from training.job.context import JobContext
from training.job.job_plan import JobPlan
from training.job.progress import Reporter, in_advance
from training.job.replay import Joined, Replay, make_replay
from training.job.smaller_runs import learning_curve

CHECKPOINTS = 3
"""Counts the forms of checkpoints: those of a build that wrote another one are left alone."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out, by which recipe, and what is kept of how."""

    fine_tuned: FineTuned
    recipe: Recipe
    replay: Replay
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Of a sweep: each trial, and the validation losses of the chosen one; of a learning curve:
    its points."""


def train(
    context: JobContext,
    plan: JobPlan,
    reporter: Reporter,
    also: Callable[[Measures], None] = lambda _: None,
) -> Trained:
    """Trains each of the recipe's trials; those that an earlier attempt has finished are kept.

    `also` is told what steps measure, as the reporter is.

    Raises as `FineTuner.tune` does, and what asking the base for its answers raises.
    """
    replay = make_replay(context, plan.recipe, len(plan.dataset.train), reporter)
    trials, done = plan.recipe.trials(), list[FineTuned]()
    with reporter.steps() as step:
        for at, recipe in enumerate(trials):
            if len(trials) > 1:
                reporter.say(f"Trial {at + 1} of {len(trials)}: {_words(recipe)}")

            def told(measures: Measures, at: int = at) -> None:
                now = among(measures, at, len(trials))
                step(now)
                also(now)

            watch = Watch(step=told, stopping=context.stopping, planned=_planned(reporter))
            done.append(context.fine_tuner.tune(_task(context, plan, recipe, replay), watch))
    best = winner(done)
    if len(trials) > 1:
        reporter.say(f"Trial {best + 1} is the best on the validation part: {_words(trials[best])}")
    evidence = _sweep(trials, done, best) if len(trials) > 1 else {}
    if plan.unit.data.learning_curve:
        whole = _task(context, plan, trials[best], replay)
        evidence |= _curve(context, plan, whole, done[best], reporter)
    return Trained(
        fine_tuned=_of_all(done, best),
        recipe=trials[best],
        replay=replay,
        evidence=evidence,
    )


def among(measures: Measures, at: int, trials: int) -> Measures:
    """The measures of trial `at` (0 is the first) in the steps of all of them.

    Steps count on from trial to trial, as one curve; a trial that ends early leaves a gap.
    """
    if trials == 1:
        return measures
    left = measures.seconds_left
    if left is not None:
        left += (trials - at - 1) * (measures.seconds + left)
    return measures.evolve(
        step=measures.step + at * measures.total_steps if measures.step else 0,
        total_steps=trials * measures.total_steps,
        seconds_left=left,
    )


def winner(done: Sequence[FineTuned]) -> int:
    """The best by what checkpoints are chosen by; of equals, the first."""

    def merit(at: int) -> tuple[float, float, int]:
        run = done[at]
        answers = run.best_answers if run.chosen_by is ChosenBy.ANSWERS else 0.0
        return answers, -run.best_loss, -at

    return max(range(len(done)), key=merit)


def _task(context: JobContext, plan: JobPlan, recipe: Recipe, replay: Replay) -> Task:
    same = _same_training(context, plan, recipe, replay)
    rows = rows_of(plan.dataset, Part.TRAIN)
    return Task(
        train=Joined(rows, replay.rows) if replay.rows else rows,
        validation=rows_of(plan.dataset, Part.VALIDATION),
        recipe=recipe,
        workdir=context.workdir / f"tuning-{same}",
        start=plan.start.directory if plan.start else None,
    )


def _curve(
    context: JobContext, plan: JobPlan, task: Task, done: FineTuned, reporter: Reporter
) -> Mapping[str, Any]:
    """What more examples would buy, where the data is small. Rows of replay stay out of it."""
    whole = replace(task, train=rows_of(plan.dataset, Part.TRAIN))
    watch = Watch(
        step=lambda _measures: None,
        stopping=context.stopping,
        planned=lambda _device, _estimate: None,
    )
    return learning_curve(context.fine_tuner, whole, done, reporter, watch, part=plan.dataset.train)


def _same_training(context: JobContext, plan: JobPlan, recipe: Recipe, replay: Replay) -> str:
    """Names what checkpoints depend on: those of another recipe, base or rows do not fit."""
    decided = [CHECKPOINTS, recipe.model_dump(mode="json"), plan.dataset.digest, replay.evidence]
    text = json.dumps([*decided, context.base.fingerprint], sort_keys=True)
    return sha256_bytes(text.encode())[:16]


def _planned(reporter: Reporter) -> Any:
    def planned(device: DevicePlan, estimate: Estimate | None) -> None:
        reporter.say(in_advance(device, estimate))

    return planned


def _of_all(done: Sequence[FineTuned], best: int) -> FineTuned:
    """The best run, with the time and the tokens of all, its step among theirs."""
    run = done[best]
    before = best * run.history[-1].total_steps if best else 0
    return replace(
        run,
        best_step=run.best_step + before,
        trained_tokens=sum(each.trained_tokens for each in done),
        seconds=sum(each.seconds for each in done),
    )


def _sweep(trials: Sequence[Recipe], done: Sequence[FineTuned], best: int) -> dict[str, Any]:
    losses = [
        each.valid_loss for each in done[best].history if each.step and each.valid_loss is not None
    ]
    at_best = (each.train_loss for each in done[best].history if each.step == done[best].best_step)
    return {
        "validation": {
            "chosen": done[best].best_loss,
            "lowest": min(losses),
            **(
                {"trained": next(at_best, None)} if trials[best].method is Method.SUPERVISED else {}
            ),
        },
        "sweep": [
            {
                "rank": recipe.rank,
                "learning_rate": recipe.learning_rate,
                "steps": run.steps,
                "validation_loss": round(run.best_loss, 4),
                "validation_answers_right": round(run.best_answers, 4),
                "chosen": at == best,
            }
            for at, (recipe, run) in enumerate(zip(trials, done, strict=True))
        ],
    }


def _words(recipe: Recipe) -> str:
    return f"rank {recipe.rank}, learning rate {recipe.learning_rate:g}"
