"""A real fine-tuning run on a base of a few thousand parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.recipes import Recipe
from training.base.build import ensure_base
from training.base.recipe import BaseRecipe
from training.data.examples import Example, Message
from training.finetune import Finetuned, Forward, Progress, Run, finetune, forward
from training.finetune.checkpoints import SEAL, newest_sealed, seal
from training.finetune.clock import Clock, rate_share

pytestmark = pytest.mark.slow

BASE = BaseRecipe(
    vocabulary=512,
    hidden=64,
    layers=2,
    heads=1,
    feed_forward=128,
    tokenizer_documents=300,
    window=64,
    batch=8,
    steps=20,
)
COLOURS = {"cancel": "red", "invoice": "green", "holiday": "blue", "printer": "black"}
RECIPE = Recipe(
    rank=8,
    alpha=16,
    learning_rate=1e-2,
    batch_size=8,
    n_epochs=24.0,
    evaluations=4,
    patience=4,
    max_minutes=2.0,
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
    return ensure_base(tmp_path_factory.mktemp("cache"), recipe=BASE)


@pytest.fixture(scope="module")
def reports() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def tuned(
    base: Path, tmp_path_factory: pytest.TempPathFactory, reports: list[Progress]
) -> Finetuned:
    workdir = tmp_path_factory.mktemp("run")
    return finetune(a_run(base, workdir), reports.append)


def a_run(base: Path, workdir: Path, recipe: Recipe = RECIPE) -> Run:
    return Run(base=base, train=TRAIN, valid=VALID, recipe=recipe, workdir=workdir)


def test_a_run_learns_what_the_base_does_not_know(base: Path, tuned: Finetuned) -> None:
    prompts = [item.prompt for item in VALID]
    before = forward(base=base, adapter=None, prompts=prompts, max_tokens=4)
    after = forward(base=base, adapter=tuned.directory, prompts=prompts, max_tokens=4)
    assert tuned.best_valid_loss < tuned.first_valid_loss - 0.5
    assert right(after) >= 12 > right(before) + 6


def right(answers: Sequence[Forward]) -> int:
    return sum(answer.text == item.answer for answer, item in zip(answers, VALID, strict=True))


def test_held_out_accuracy_is_what_greedy_decoding_gets_right(base: Path, tuned: Finetuned) -> None:
    answers = forward(
        base=base, adapter=tuned.directory, prompts=[i.prompt for i in VALID], max_tokens=8
    )
    # one answer may flip between bfloat16 in training and float32 here
    assert abs(right(answers) - tuned.best_valid_accuracy * len(VALID)) <= 1


def test_an_answer_does_not_depend_on_its_batch(base: Path, tuned: Finetuned) -> None:
    prompts = [item.prompt for item in VALID[:6]]
    together, alone = (
        forward(base=base, adapter=tuned.directory, prompts=prompts, max_tokens=4, batch_size=size)
        for size in (6, 1)
    )
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-3)


def test_the_adapter_is_plain_lora_as_peft_writes_it(tuned: Finetuned) -> None:
    from safetensors import safe_open

    config = json.loads((tuned.directory / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 16)
    assert (config["bias"], config["use_dora"], config["modules_to_save"]) == ("none", False, None)
    with safe_open(tuned.directory / "adapter_model.safetensors", "numpy") as file:
        names = list(file.keys())
    assert len(names) == 2 * 7 * BASE.layers
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


def test_progress_is_reported_with_held_out_numbers_and_time_left(
    tuned: Finetuned, reports: list[Progress]
) -> None:
    held_out = [report for report in reports if report.valid_loss is not None]
    assert held_out[0].step == 0
    assert len(held_out) == 1 + RECIPE.evaluations
    assert held_out[-1].seconds_left == 0.0
    assert [r.step for r in reports] == sorted(r.step for r in reports)
    assert reports[-1].tokens == tuned.trained_tokens > 24 * len(TRAIN)
    assert any(r.train_loss is not None and r.train_accuracy is not None for r in reports)


def test_a_finished_run_is_handed_back_and_not_trained_again(base: Path, tuned: Finetuned) -> None:
    said: list[Progress] = []
    again = finetune(a_run(base, tuned.directory.parent), said.append)
    assert again == tuned
    assert said == []


def test_a_killed_run_goes_on_from_its_newest_whole_checkpoint(base: Path, tmp_path: Path) -> None:
    first: list[Progress] = []

    def die_at_half_time(progress: Progress) -> None:
        first.append(progress)
        if progress.step > progress.total_steps * 0.6:
            raise Killed

    with pytest.raises(Killed):
        finetune(a_run(base, tmp_path), die_at_half_time)
    whole = newest_sealed(tmp_path)
    assert whole is not None
    torn = tmp_path / "checkpoint-9999"
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{")
    second: list[Progress] = []
    done = finetune(a_run(base, tmp_path), second.append)
    assert not torn.exists()
    assert second[0].step > int(whole.name.split("-")[1])
    assert second[0].tokens > first[-1].tokens // 2
    assert done.steps == first[0].total_steps or done.steps == second[0].total_steps
    assert [p.step for p in done.history] == sorted(p.step for p in done.history)
    assert done.best_valid_loss < done.first_valid_loss - 0.5


def test_a_run_stops_when_its_time_is_up_and_keeps_its_best(base: Path, tmp_path: Path) -> None:
    hurried = RECIPE.model_copy(update={"max_minutes": 0.02, "n_epochs": 50.0})
    done = finetune(a_run(base, tmp_path, hurried), lambda _: None)
    assert done.stopped == "time_limit"
    assert 0 < done.steps < done.history[-1].total_steps
    assert (done.directory / "adapter_model.safetensors").is_file()


def test_a_run_that_no_longer_improves_is_stopped_early(base: Path, tmp_path: Path) -> None:
    restless = RECIPE.model_copy(
        update={"learning_rate": 1e-9, "evaluations": 40, "patience": 2, "n_epochs": 20.0}
    )
    done = finetune(a_run(base, tmp_path, restless), lambda _: None)
    assert done.stopped == "early_stopping"
    assert done.steps < done.history[-1].total_steps / 2


def test_the_same_seed_gives_the_same_adapter(base: Path, tmp_path: Path) -> None:
    short = RECIPE.model_copy(update={"n_epochs": 2.0, "evaluations": 1})
    one, two = (
        finetune(a_run(base, tmp_path / name, short), lambda _: None).directory
        for name in ("one", "two")
    )
    weights = "adapter_model.safetensors"
    assert (one / weights).read_bytes() == (two / weights).read_bytes()


def test_a_run_without_held_out_examples_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="held-out"):
        finetune(replace(a_run(base, tmp_path), valid=()), lambda _: None)


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
    ticks = iter((100.0, 103.0, 103.0))
    clock = Clock(limit=10.0, before=5.0, now=lambda: next(ticks))
    assert clock.seconds() == pytest.approx(8.0)
    assert clock.spent() == pytest.approx(0.8)
