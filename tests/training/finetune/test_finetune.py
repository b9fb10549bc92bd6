"""A real fine-tuning run on a base of a few thousand parameters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.recipes import Recipe
from adapters.settings import TrainPrecision
from tests.training.finetune.greedy import forward
from tests.training.small_base import SMALL_BASE
from training.base.build import ensure_base
from training.data.examples import Example, Message
from training.data.render import ChatRenderer
from training.finetune import run as running
from training.finetune.batches import BatchOrder, epoch_order
from training.finetune.checkpoints import SEAL, newest_sealed, read_seal, seal
from training.finetune.clock import Clock, rate_share
from training.finetune.device_plan import DevicePlan, Estimate
from training.finetune.loaded_base import LoadedBase
from training.finetune.port import Diverged, FineTuned, Measures, Task, Watch
from training.finetune.run import RESULT
from training.stopping import Stopped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

COLOURS = {"cancel": "red", "invoice": "green", "holiday": "blue", "printer": "black"}
RECIPE = Recipe(
    rank=8,
    alpha=16,
    learning_rate=1e-2,
    batch_size=8,
    n_epochs=24.0,
    evaluations=4,
    patience=4,
)


class Killed(Exception):
    """Stands for the end of the process."""


def example(word: str, at: int) -> Example:
    asked = ("tell me about the", "what is the", "please do the", "i have a question on the")[
        at % 4
    ]
    return Example(
        messages=(
            Message(role="user", content=f"{asked} {word} {at}"),
            Message(role="assistant", content=COLOURS[word]),
        )
    )


TRAIN = [example(word, at) for at in range(16) for word in COLOURS]
VALID = [example(word, at) for at in range(20, 24) for word in COLOURS]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("cache"), recipe=SMALL_BASE)


@pytest.fixture(scope="module")
def reports() -> list[Measures]:
    return []


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def finetuned(
    base: Path,
    tmp_path_factory: pytest.TempPathFactory,
    reports: list[Measures],
    request: pytest.FixtureRequest,
) -> FineTuned:
    """One run in each precision, whatever this machine would choose."""
    reports.clear()
    run = a_run(base, tmp_path_factory.mktemp("run"), precision=request.param)
    done = finetune(run, reports.append)
    assert done.device.precision == request.param
    return done


@dataclass(frozen=True, kw_only=True)
class Run:
    """A task on a base, in a precision."""

    base: Path
    task: Task
    precision: TrainPrecision

    @property
    def workdir(self) -> Path:
        return self.task.workdir


def a_run(
    base: Path, workdir: Path, recipe: Recipe = RECIPE, *, precision: TrainPrecision = "auto"
) -> Run:
    renderer = ChatRenderer(base)
    train, validation = (
        [row for example in examples for row in renderer.rows(example)]
        for examples in (TRAIN, VALID)
    )
    task = Task(train=train, validation=validation, recipe=recipe, workdir=workdir)
    return Run(base=base, task=task, precision=precision)


def finetune(
    run: Run,
    report: Callable[[Measures], None],
    *,
    stopping: Callable[[], bool] = lambda: False,
    planned: Callable[[DevicePlan, Estimate | None], None] = lambda plan, estimate: None,
) -> FineTuned:
    watch = Watch(step=report, stopping=stopping, planned=planned)
    return running.finetune(LoadedBase(run.base), run.task, watch, precision=run.precision)


def answers(base: Path, adapter: Path, *, batch_size: int = 16) -> list[str]:
    prompts = [item.prompt for item in VALID]
    return forward(base=base, adapter=adapter, prompts=prompts, max_tokens=8, batch_size=batch_size)


def right(said: Sequence[str]) -> int:
    return sum(answer == item.answer for answer, item in zip(said, VALID, strict=True))


def test_a_run_learns_what_the_base_does_not_know(base: Path, finetuned: FineTuned) -> None:
    assert finetuned.best_loss < finetuned.first_loss - 0.5
    before = finetuned.history[0].valid_answers
    assert before is not None
    assert right(answers(base, finetuned.directory)) >= 12 > before * len(VALID) + 6


def test_validation_accuracy_is_what_greedy_decoding_gets_right(
    base: Path, finetuned: FineTuned
) -> None:
    # one answer may flip between bfloat16 in training and float32 in `answers`
    said = answers(base, finetuned.directory)
    assert abs(right(said) - finetuned.best_answers * len(VALID)) <= 1


def test_an_answer_does_not_depend_on_its_batch(base: Path, finetuned: FineTuned) -> None:
    together, alone = (answers(base, finetuned.directory, batch_size=size) for size in (16, 1))
    assert together == alone


def test_what_a_base_says_about_sampling_does_not_change_the_answers(
    base: Path, finetuned: FineTuned, tmp_path: Path
) -> None:
    opinionated = tmp_path / "base"
    shutil.copytree(base, opinionated)
    config = opinionated / "generation_config.json"
    said = json.loads(config.read_text()) if config.exists() else {}
    config.write_text(json.dumps(said | {"repetition_penalty": 50.0, "do_sample": True}))
    assert answers(opinionated, finetuned.directory) == answers(base, finetuned.directory)


def test_the_adapter_is_plain_lora_as_peft_writes_it(finetuned: FineTuned) -> None:
    from safetensors import safe_open

    config = json.loads((finetuned.directory / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16)
    assert (config["bias"], config["use_dora"], config["modules_to_save"]) == ("none", False, None)
    with safe_open(finetuned.directory / "adapter_model.safetensors", "numpy") as file:
        names = list(file.keys())
    assert len(names) == 2 * 7 * SMALL_BASE.layers
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


def test_progress_is_reported_with_validation_numbers_and_time_left(
    finetuned: FineTuned, reports: list[Measures]
) -> None:
    evaluated = [report for report in reports if report.evaluated]
    assert evaluated[0].step == 0
    assert len(evaluated) == 1 + RECIPE.evaluations
    assert evaluated[-1].seconds_left == 0.0
    assert [r.step for r in reports] == sorted(r.step for r in reports)
    assert reports[-1].tokens == finetuned.trained_tokens > 24 * len(TRAIN)
    assert all(r.train_loss is not None and r.train_accuracy is not None for r in reports[1:])
    for report in evaluated:
        assert report.valid_accuracy is not None
        assert report.valid_answers is not None
        assert report.valid_answers <= report.valid_accuracy <= 1.0


def test_a_finished_run_is_handed_back_and_not_trained_again(
    base: Path, finetuned: FineTuned
) -> None:
    said: list[Measures] = []
    again = finetune(a_run(base, finetuned.directory.parent), said.append)
    assert again == finetuned
    assert said == [measures for measures in finetuned.history if measures.evaluated]


def test_a_killed_run_goes_on_from_its_newest_whole_checkpoint(base: Path, tmp_path: Path) -> None:
    first: list[Measures] = []

    def die_at_half_time(progress: Measures) -> None:
        first.append(progress)
        if progress.step > progress.total_steps * 0.6:
            raise Killed

    with pytest.raises(Killed):
        finetune(a_run(base, tmp_path), die_at_half_time)
    whole = newest_sealed(tmp_path)
    assert whole is not None
    torn = tmp_path / "checkpoint-9999"
    torn.mkdir()
    (torn / "tensors.safetensors").write_text("{")
    second: list[Measures] = []
    done = finetune(a_run(base, tmp_path), second.append)
    assert not torn.exists()
    resumed_at = int(whole.name.split("-")[1])
    new = [p for p in second if p.step > resumed_at]
    assert second[: -len(new)] == [p for p in first if p.evaluated and p.step <= resumed_at]
    assert 0 < resumed_at < new[0].step <= resumed_at + 2
    seen_before = [p.tokens for p in first if p.step <= resumed_at][-1]
    assert new[0].tokens > seen_before
    assert done.steps == first[-1].total_steps
    steps = [p.step for p in done.history if p.valid_loss is not None]
    assert steps == sorted(set(steps)), "every evaluation is told once"


def after_step(step: int) -> tuple[Callable[[Measures], None], Callable[[], bool]]:
    """(report, stopping) of a run that is asked to stop once it has told of `step`."""
    told = [0]

    def report(progress: Measures) -> None:
        told.append(progress.step)

    return report, lambda: told[-1] >= step


# 202 steps, 8 an epoch: logged at every other one, evaluated at every 34th
UNEVEN = RECIPE.model_copy(
    update={"n_epochs": 25.2, "evaluations": 6, "patience": 6, "dropout": 0.1}
)


def test_a_run_asked_to_stop_loses_at_most_one_step_and_ends_as_if_it_had_not(
    base: Path, tmp_path: Path
) -> None:
    whole = finetune(a_run(base, tmp_path / "whole", UNEVEN), lambda _: None)
    stopped = a_run(base, tmp_path / "stopped", UNEVEN)
    for asked_at in (20, 68, 150):
        report, stopping = after_step(asked_at)
        with pytest.raises(Stopped):
            finetune(stopped, report, stopping=stopping)
        checkpoint = newest_sealed(stopped.workdir)
        assert checkpoint is not None
        assert int(checkpoint.name.split("-")[1]) in (asked_at, asked_at + 1)
    done = finetune(stopped, lambda _: None)
    assert (done.steps, done.trained_tokens) == (whole.steps, whole.trained_tokens)
    assert weights(done) == weights(whole)


def weights(run: FineTuned) -> bytes:
    return (run.directory / "adapter_model.safetensors").read_bytes()


def test_a_run_asked_to_stop_in_its_last_step_ends(base: Path, tmp_path: Path) -> None:
    short = RECIPE.model_copy(update={"n_epochs": 0.5, "evaluations": 1})
    report, stopping = after_step(4)
    assert finetune(a_run(base, tmp_path, short), report, stopping=stopping).steps == 4


def test_early_stopping_goes_on_counting_after_a_resumption(base: Path, tmp_path: Path) -> None:
    hopeless = RECIPE.model_copy(
        update={"learning_rate": 1e-9, "evaluations": 40, "patience": 4, "n_epochs": 20.0}
    )
    straight = finetune(a_run(base, tmp_path / "straight", hopeless), lambda _: None)
    report, stopping = after_step(straight.steps - 3)
    with pytest.raises(Stopped):
        finetune(a_run(base, tmp_path / "resumed", hopeless), report, stopping=stopping)
    resumed = finetune(a_run(base, tmp_path / "resumed", hopeless), lambda _: None)
    assert (resumed.ended, resumed.steps) == ("early_stopping", straight.steps)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_epochs": 25.2, "evaluations": 6, "patience": 6},
        {"learning_rate": 1e-9, "evaluations": 40, "patience": 2},
        {"max_minutes": 0.02, "n_epochs": 50.0},
    ],
    ids=["finished", "early_stopping", "time_limit"],
)
def test_a_run_killed_behind_its_last_checkpoint_is_not_trained_further(
    base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = a_run(base, tmp_path, RECIPE.model_copy(update=changes))
    done = finetune(run, lambda _: None)
    before = weights(done)
    (tmp_path / RESULT).unlink()
    shutil.rmtree(done.directory)
    assert finetune(run, lambda _: None) == done
    assert weights(done) == before


def test_the_order_of_an_epoch_follows_from_the_seed_alone() -> None:
    import torch

    def order(seed: int, epoch: int) -> list[int]:
        torch.rand(1)  # the global generator has nothing to do with it
        return epoch_order([5, 9, 2, 7] * 20, 4, seed=seed, epoch=epoch)

    assert order(1, 0) == order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert sorted(order(1, 3)) == list(range(80))


def test_each_step_has_its_rows_wherever_a_run_begins() -> None:
    lengths = [5, 9, 2, 7, 3]
    straight = BatchOrder(lengths, 2, seed=3)
    rows = {step: straight.rows(step) for step in range(1, 10)}
    assert [rows[step] for step in (1, 2, 3)] != [rows[step] for step in (4, 5, 6)]
    for epoch in (0, 1, 2):
        seen = [row for at in (1, 2, 3) for row in rows[3 * epoch + at]]
        assert sorted(seen) == [0, 1, 2, 3, 4]
    for step in (8, 2, 5):
        assert BatchOrder(lengths, 2, seed=3).rows(step) == rows[step]


@pytest.mark.parametrize("n_epochs", [24.0, 0.125])
def test_a_loss_that_is_no_number_ends_the_run_naming_the_step(
    base: Path, tmp_path: Path, n_epochs: float
) -> None:
    absurd = RECIPE.model_copy(
        update={"learning_rate": 1e38, "warmup_ratio": 0.0, "n_epochs": n_epochs}
    )
    with pytest.raises(Diverged, match=r"at step [123]; lower the learning rate") as caught:
        finetune(a_run(base, tmp_path, absurd), lambda _: None)
    assert caught.value.reason == "diverged"


@pytest.mark.parametrize("room", [64, 150, 500])
def test_a_disk_without_room_for_a_checkpoint_is_told_as_such(
    base: Path, small_disk: Callable[[int], Path], room: int
) -> None:
    with pytest.raises(OSError, match="No space left"):
        finetune(a_run(base, small_disk(room) / "run"), lambda _: None)


def test_a_run_stops_when_its_time_is_up_and_keeps_its_best(base: Path, tmp_path: Path) -> None:
    hurried = RECIPE.model_copy(update={"max_minutes": 0.02, "n_epochs": 50.0})
    done = finetune(a_run(base, tmp_path, hurried), lambda _: None)
    assert done.ended == "time_limit"
    assert 0 < done.steps < done.history[-1].total_steps
    assert (done.directory / "adapter_model.safetensors").is_file()


def test_the_rate_follows_the_steps_and_not_the_clock(base: Path, tmp_path: Path) -> None:
    hurried = RECIPE.model_copy(update={"max_minutes": 0.02, "n_epochs": 50.0})
    done = finetune(a_run(base, tmp_path, hurried), lambda _: None)
    assert done.ended == "time_limit"
    rate = read_seal(tmp_path / f"checkpoint-{done.steps}")["learning_rate"]
    share = rate_share(hurried, (done.steps - 1) / done.history[-1].total_steps)
    assert rate == pytest.approx(hurried.learning_rate * share)


def test_a_run_without_a_limit_takes_the_time_it_needs() -> None:
    assert Recipe().max_minutes is None
    ticks = iter(range(0, 10**9, 10**7))
    clock = Clock(before=0.0, now=lambda: float(next(ticks)))
    assert not clock.is_up()
    assert clock.left(0.5) > 10**6


def test_a_resumed_run_goes_on_in_the_precision_it_began_in(base: Path, tmp_path: Path) -> None:
    report, stopping = after_step(20)
    begun = a_run(base, tmp_path, precision="bfloat16")
    with pytest.raises(Stopped):
        finetune(begun, report, stopping=stopping)
    done = finetune(replace(begun, precision="float32"), lambda _: None)
    assert done.device.precision == "bfloat16"


def test_a_run_that_no_longer_improves_is_stopped_early(base: Path, tmp_path: Path) -> None:
    restless = RECIPE.model_copy(
        update={"learning_rate": 1e-9, "evaluations": 40, "patience": 2, "n_epochs": 20.0}
    )
    done = finetune(a_run(base, tmp_path, restless), lambda _: None)
    assert done.ended == "early_stopping"
    assert done.steps < done.history[-1].total_steps / 2


def test_the_same_seed_gives_the_same_adapter(base: Path, tmp_path: Path) -> None:
    short = RECIPE.model_copy(update={"n_epochs": 2.0, "evaluations": 1})
    one, two = (
        finetune(a_run(base, tmp_path / name, short), lambda _: None).directory
        for name in ("one", "two")
    )
    weights = "adapter_model.safetensors"
    assert (one / weights).read_bytes() == (two / weights).read_bytes()


def test_a_run_without_validation_rows_is_refused(base: Path, tmp_path: Path) -> None:
    run = a_run(base, tmp_path)
    with pytest.raises(ValueError, match="validation rows"):
        finetune(replace(run, task=replace(run.task, validation=())), lambda _: None)


def test_a_changed_checkpoint_is_torn(tmp_path: Path) -> None:
    for step in (10, 20):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"whole")
        seal(folder, {"seconds": 1.0})
    assert newest_sealed(tmp_path) == tmp_path / "checkpoint-20"
    (tmp_path / "checkpoint-20" / "weights").write_bytes(b"who")
    assert newest_sealed(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / SEAL).unlink()
    assert newest_sealed(tmp_path) is None


def test_the_rate_rises_falls_and_ends_at_nothing() -> None:
    recipe = Recipe(warmup_ratio=0.1)
    shares = [rate_share(recipe, at / 100) for at in range(101)]
    assert shares[10] == max(shares) == 1.0
    assert shares[:11] == sorted(shares[:11])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0.0)
    assert rate_share(Recipe(scheduler="constant", warmup_ratio=0.0), 0.9) == 1.0


def test_a_resumed_clock_counts_the_time_before() -> None:
    ticks = iter((100.0, 103.0, 103.0, 103.0, 106.0))
    clock = Clock(limit=10.0, before=5.0, now=lambda: next(ticks))
    assert clock.seconds() == pytest.approx(8.0)
    assert not clock.is_up()
    assert clock.left(0.5) == pytest.approx(2.0), "the limit is nearer than the end"
    assert clock.is_up()
