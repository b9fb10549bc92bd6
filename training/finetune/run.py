"""The fine-tuning run, from the rendered rows to the adapter as PEFT writes it.

It survives its process: the same call with the same folder goes on from the newest whole
checkpoint, and a finished run is handed back as it is. What comes out is the best checkpoint by the
validation rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from heapq import nlargest
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting

from adapters.domain.recipes import Quantization
from adapters.durable_files import sync_folder, write_private
from adapters.settings import TrainPrecision
from training.base.precision import Precision, choose
from training.data.preferences import learnt_tokens, length
from training.finetune.batches import BatchOrder, InOrder
from training.finetune.checkpoint_choice import choose_by
from training.finetune.checkpoints import full_disk_told, newest_sealed, read_seal
from training.finetune.clock import Clock
from training.finetune.device_plan import (
    ONE,
    BaseSize,
    Device,
    DevicePlan,
    Devices,
    Estimate,
    OutOfMemory,
    Rows,
    devices_for,
    does_not_fit,
    plan_device,
    plan_from_json,
    smaller,
)
from training.finetune.dry_step import dry_step
from training.finetune.lesson import lesson_of, liked_share
from training.finetune.loaded_base import LoadedBase, recompute_activations
from training.finetune.loop import Run, fitting, schedule, train
from training.finetune.port import (
    ChosenBy,
    Diverged,
    FineTuned,
    Measures,
    Task,
    Watch,
    measures_from_json,
)
from training.finetune.rank_orders import Load
from training.finetune.ranks import Ranks, ranks_loading
from training.finetune.run_state import RunState, state_from_json
from training.finetune.this_device import places, ran_out_of_memory, this_device, use_place
from training.finetune.trainee import Trainee

ADAPTER = "adapter"
RESULT = "finetuned.json"
EVALUATED = 3
"""How many times faster a row is evaluated than trained on: it needs no gradient."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides about memory and time."""

    base: BaseSize
    device: Device
    rows: Rows
    train: list[int]
    """Tokens of each training row."""
    validation: list[int]

    def plan(self, precision: Precision, quantization: Quantization) -> DevicePlan:
        """Raises OutOfMemory."""
        return plan_device(self.base, self.rows, self.device, precision, quantization=quantization)

    def does_not_fit(self, plan: DevicePlan) -> OutOfMemory:
        return does_not_fit(plan, self.base, self.rows, self.device)


def finetune(
    base: LoadedBase,
    task: Task,
    watch: Watch,
    *,
    precision: TrainPrecision = "auto",
    threads: int = 0,
    devices: Devices = ONE,
) -> FineTuned:
    """Trains, or goes on training, and leaves the adapter in the task's folder.

    `threads` of 0 are as many as this process may use; all `devices` together use them. Raises as
    `FineTuner.tune`, ValueError without validation rows, and RankLost.
    """
    where = places(devices)
    # also for what is asked of a finished run's adapter
    use_place(where[0], gpu_share=devices.gpu_share)
    if (task.workdir / RESULT).is_file():
        result = _read_result(task.workdir)
        _tell_again(result.history, watch)
        return result
    if not task.validation:
        raise ValueError("a run needs validation rows")
    task.workdir.mkdir(parents=True, exist_ok=True)
    where = where[: _rows_in_step(task)]  # no more share memory and threads than have a row
    sizes = _sizes(base, task, this_device(threads, count=len(where)))
    torch.set_num_threads(sizes.device.threads)
    checkpoint = newest_sealed(task.workdir)
    state = _resumed(checkpoint, sizes) if checkpoint else _begun(task, sizes, precision)
    try:
        with _on_all(base, task, state.plan, where, devices.gpu_share) as (model, ranks):
            return _trained(model, ranks, task, watch, sizes, state, checkpoint)
    except (RuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise sizes.does_not_fit(state.plan) from error
        raise


@contextmanager
def _on_all(
    base: LoadedBase, task: Task, plan: DevicePlan, where: Sequence[int], gpu_share: float
) -> Iterator[tuple[Any, Ranks | None]]:
    """The base with the adapter's layers in it, here and on each other device of the plan."""
    if plan.devices == 1:
        with base.with_lora(task.recipe, plan, start=task.start) as model:
            yield model, None
        return
    liked = liked_share(task)
    loads = [
        Load(
            base=base.path,
            recipe=task.recipe,
            plan=plan,
            liked=liked,
            place=place,
            gpu_share=gpu_share,
        )
        for place in where[1 : plan.devices]
    ]
    with (
        ranks_loading(loads, task.workdir) as loading,
        base.with_lora(task.recipe, plan, start=task.start) as model,
    ):
        yield model, loading.joined(model, plan.device)


def _rows_in_step(task: Task) -> int:
    return min(task.recipe.batch_size, len(task.train))


def _sizes(base: LoadedBase, task: Task, device: Device) -> Sizes:
    lengths, validation = list(map(length, task.train)), list(map(length, task.validation))
    return Sizes(
        base=base.size(task.recipe),
        device=device,
        rows=Rows(
            in_step=_rows_in_step(task),
            longest=max(*lengths, *validation),
            learnt=max(map(learnt_tokens, task.train)),
        ),
        train=lengths,
        validation=validation,
    )


def _begun(task: Task, sizes: Sizes, wanted: TrainPrecision) -> RunState:
    return RunState(
        plan=sizes.plan(choose(wanted), task.recipe.quantization),
        chosen_by=choose_by(task.train, task.validation),
    )


def _resumed(checkpoint: Path, sizes: Sizes) -> RunState:
    """What a run has begun in is what it ends in; on other devices only the precision stays."""
    state = state_from_json(read_seal(checkpoint))
    here = sizes.device.kind, devices_for(sizes.rows, sizes.device)
    if (state.plan.device, state.plan.devices) == here:
        return state.evolve(plan=replace(state.plan, threads=sizes.device.threads))
    return state.evolve(plan=sizes.plan(state.plan.precision, state.plan.quantization))


def _trained(
    model: Any,
    ranks: Ranks | None,
    task: Task,
    watch: Watch,
    sizes: Sizes,
    state: RunState,
    checkpoint: Path | None,
) -> FineTuned:
    """The run on a loaded base with the adapter's layers in it."""

    def next_smaller(plan: DevicePlan) -> DevicePlan:
        less = smaller(plan)
        if less is None:
            raise sizes.does_not_fit(plan)
        if less.gradient_checkpointing:
            recompute_activations(model)
        return less

    minutes, trainee = task.recipe.max_minutes, Trainee(model, task.recipe)
    by_length = sorted(range(len(sizes.validation)), key=sizes.validation.__getitem__)
    with disable_input_dtype_casting(model):  # autocast does it; twice costs time
        lesson = lesson_of(model, task, watch, state.plan, ranks)
        run = Run[Any](
            train=lesson.train,
            validation=InOrder(lesson.validation, by_length),  # less padding
            recipe=task.recipe,
            workdir=task.workdir,
            order=BatchOrder(sizes.train, task.recipe.batch_size, seed=task.recipe.seed),
            passes=lesson.passes,
            trainee=trainee,
            clock=Clock(limit=minutes and minutes * 60, before=state.seconds),
            watch=watch,
            smaller=next_smaller,
        )
        if checkpoint is not None:
            trainee.load(checkpoint, step=state.step)
            _tell_again(state.history, watch)
            if state.ended is None:
                watch.planned(state.plan, _rest(run, state))
        else:
            state, estimate = _dry_step(run, state, sizes)
            watch.planned(state.plan, estimate)
        state = train(run, state)
    return _publish(task, trainee, model, state)


def _dry_step(run: Run[Any], state: RunState, sizes: Sizes) -> tuple[RunState, Estimate]:
    """The longest rows, once: whether the plan fits, and how long the run will take."""
    longest = nlargest(state.plan.batch, range(len(sizes.train)), key=sizes.train.__getitem__)
    rows = [run.train[row] for row in longest]

    def tried(plan: DevicePlan) -> float:
        some = rows[: plan.micro_batch * plan.devices]
        return dry_step(run.passes, some, plan, forget=run.trainee.forget_gradients)

    state, pace = fitting(run, state, tried)
    plan = schedule(run.recipe, len(run.train))
    tokens = round(sum(sizes.train) * plan.steps / run.order.steps_an_epoch)
    evaluations = 1 + -(-plan.steps // plan.evaluate_every)
    evaluated = evaluations * sum(sizes.validation)
    seconds = pace * (tokens + evaluated / EVALUATED)
    return state, Estimate(steps=plan.steps, tokens=tokens, seconds=seconds)


def _rest(run: Run[Any], state: RunState) -> Estimate:
    """What is left of a run, at the pace it had."""
    steps = schedule(run.recipe, len(run.train)).steps
    done = max(1, state.step)
    return Estimate(
        steps=steps - state.step,
        tokens=round(state.tokens * (steps - state.step) / done),
        seconds=run.clock.left(done / steps),
    )


def _tell_again(history: Sequence[Measures], watch: Watch) -> None:
    """What the process before this one may not have come to tell."""
    for measures in history:
        if measures.evaluated:
            watch.step(measures)


def _publish(task: Task, trainee: Trainee, model: Any, state: RunState) -> FineTuned:
    """Writes the adapter and then the result, whose presence says that the adapter is whole."""
    target = task.workdir / ADAPTER
    best = state.best
    if best is None:  # no evaluation could be compared with another
        raise Diverged(state.step)
    trainee.become_best()
    shutil.rmtree(target, ignore_errors=True)
    with full_disk_told(task.workdir, size=trainee.adapter_bytes):
        model.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)
    sync_folder(target)
    result = FineTuned(
        directory=target,
        steps=state.step,
        best_step=best.step,
        chosen_by=state.chosen_by,
        trained_tokens=state.tokens,
        seconds=state.history[-1].seconds,
        first_loss=state.evaluations[0].valid_loss or 0.0,
        best_loss=best.valid_loss or 0.0,
        last_loss=state.evaluations[-1].valid_loss or 0.0,
        best_answers=best.valid_answers or 0.0,
        ended=state.ended or "finished",
        device=state.plan,
        history=state.history,
    )
    told = asdict(result) | {"directory": ADAPTER}
    write_private(task.workdir / RESULT, json.dumps(told).encode())
    return result


def _read_result(workdir: Path) -> FineTuned:
    values = json.loads((workdir / RESULT).read_text("utf-8"))
    return FineTuned(
        **values
        | {
            "directory": workdir / ADAPTER,
            "chosen_by": ChosenBy(values["chosen_by"]),
            "device": plan_from_json(values["device"]),
            "history": tuple(map(measures_from_json, values["history"])),
        }
    )
