"""Adapters trained on a base in four bits, for real, on a base of a few thousand parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Linear

pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed")

from adapters.domain.recipes import Quantization, Recipe
from tests.training.finetune.random_base import write_random_base
from training.base.precision import Precision
from training.data.render import Rendered
from training.finetune.device_plan import DevicePlan, Rows, needs, plan_device
from training.finetune.loaded_base import LoadedBase
from training.finetune.log_probs import log_probs
from training.finetune.passes import AnswerPasses
from training.finetune.port import FineTuned, Measures, Task, Watch
from training.finetune.run import finetune
from training.finetune.this_device import this_device
from training.stopping import Stopped

pytestmark = pytest.mark.slow

AS_SERVED: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
RECIPE = Recipe(
    quantization=Quantization.NF4,
    rank=4,
    alpha=8,
    learning_rate=3e-2,
    batch_size=8,
    n_epochs=4.0,
    evaluations=4,
    patience=4,
    dropout=0.1,
)
ROWS = [
    Rendered(ids=(1, 3 + at % 4, 7 + at % 2, 20 + at % 4, 2), learn=(False,) * 3 + (True,) * 2)
    for at in range(32)
]
"""The second token says what the fourth will be."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whole blocks of 64, with weights large enough that an adapter moves answers."""
    folder = tmp_path_factory.mktemp("base")
    return write_random_base(folder, hidden_size=64, initializer_range=0.15)


def run(
    base: LoadedBase,
    workdir: Path,
    *,
    precision: Precision = Precision.FLOAT32,
    stopping: Callable[[int], bool] = lambda step: False,
) -> FineTuned:
    told = [0]

    def step(measures: Measures) -> None:
        told.append(measures.step)

    watch = Watch(
        step=step, stopping=lambda: stopping(told[-1]), planned=lambda plan, estimate: None
    )
    task = Task(train=ROWS, validation=ROWS[:8], recipe=RECIPE, workdir=workdir)
    return finetune(base, task, watch, precision=precision.value, threads=1)


def weights(done: FineTuned) -> bytes:
    return (done.directory / "adapter_model.safetensors").read_bytes()


def quantised(base: LoadedBase) -> Any:
    return base.model(
        dtype=torch.float32, device="cpu", attention="eager", quantization=Quantization.NF4
    )


def plan_for(base: LoadedBase) -> DevicePlan:
    sizes = Rows(in_step=8, longest=5, learnt=2)
    return plan_device(
        base.size(RECIPE),
        sizes,
        this_device(1),
        Precision.FLOAT32,
        quantization=Quantization.NF4,
    )


@pytest.mark.parametrize("precision", Precision)
def test_a_run_on_a_base_in_nf4_learns_and_says_so(
    base: Path, tmp_path: Path, precision: Precision
) -> None:
    done = run(LoadedBase(base), tmp_path, precision=precision)
    assert done.best_loss < done.first_loss - 0.5
    assert "the base in nf4" in done.device.as_text()
    evidence = done.as_evidence()
    assert evidence["base"] == "trained on the base in nf4, measured on the served base"
    assert evidence["device"]["quantization"] == "nf4"


def test_a_run_that_was_stopped_ends_as_if_it_had_not(base: Path, tmp_path: Path) -> None:
    whole = run(LoadedBase(base), tmp_path / "whole")
    with pytest.raises(Stopped):
        run(LoadedBase(base), tmp_path / "stopped", stopping=lambda step: step >= 6)
    assert weights(run(LoadedBase(base), tmp_path / "stopped")) == weights(whole)


def test_what_is_trained_works_on_the_base_as_it_is_served(base: Path, tmp_path: Path) -> None:
    loaded = LoadedBase(base)
    done = run(loaded, tmp_path)
    rows, starts = [list(row.ids) for row in ROWS[:4]], [3] * 4
    here = log_probs(base=loaded, adapter=done.directory, rows=rows, starts=starts)
    fresh = log_probs(base=LoadedBase(base), adapter=done.directory, rows=rows, starts=starts)
    assert here == fresh, "nothing of the four bits is left"
    assert all(type(part) is Linear for part in linears(loaded.model(**AS_SERVED)))
    mean = -sum(sum(row) for row in here) / sum(map(len, here))
    assert mean == pytest.approx(done.best_loss, rel=0.25)


def linears(model: Any) -> list[Any]:
    head = model.get_output_embeddings()
    return [part for part in model.modules() if isinstance(part, Linear) and part is not head]


def test_the_arithmetic_counts_what_is_really_quantised(base: Path) -> None:
    loaded = LoadedBase(base)
    size = loaded.size(RECIPE)
    held = linears(quantised(loaded))
    assert size.quantisable == sum(part.weight.quant_state.shape.numel() for part in held)
    plan = plan_for(loaded)
    in_bits = needs(plan, size, Rows(in_step=8, longest=5, learnt=2)).base
    rest = (size.parameters - size.quantisable + size.hidden * size.feed_forward) * 4
    packed = sum(part.weight.nbytes + part.weight.quant_state.absmax.nbytes for part in held)
    assert in_bits - rest == pytest.approx(packed, rel=0.02)


def test_a_question_between_two_steps_takes_no_gradient_away(base: Path) -> None:
    """bitsandbytes packs weights anew for answers where the CPU computes in bfloat16."""
    loaded = LoadedBase(base)
    plan = plan_for(loaded)
    with loaded.with_lora(RECIPE.model_copy(update={"dropout": 0.0}), plan) as model:
        passes = AnswerPasses(model, plan)
        learnt = {name: part for name, part in model.named_parameters() if part.requires_grad}
        for name, part in learnt.items():
            if ".lora_B." in name:
                part.data.fill_(0.01)

        def gradients() -> dict[str, torch.Tensor]:
            model.zero_grad(set_to_none=True)
            passes.gradients(ROWS[:8], plan)
            return {name: part.grad.clone() for name, part in learnt.items()}

        before = gradients()
        passes.evaluate(ROWS[:8], plan)
        after = gradients()
    assert all(torch.equal(before[name], after[name]) for name in learnt)
    assert all(part.any() for part in before.values())
