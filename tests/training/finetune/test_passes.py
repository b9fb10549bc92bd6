"""Gradients and evaluations, and the base they are computed on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

torch = pytest.importorskip("torch")

from tests.training.finetune.test_finetune import RECIPE, a_run  # noqa: E402
from tests.training.small_base import SMALL_BASE  # noqa: E402
from training.base.build import ensure_base  # noqa: E402
from training.base.precision import Precision  # noqa: E402
from training.data.preferences import sequences  # noqa: E402
from training.data.render import Rendered  # noqa: E402
from training.finetune.device_plan import DevicePlan, Rows, plan_device  # noqa: E402
from training.finetune.dry_step import dry_step  # noqa: E402
from training.finetune.loaded_base import LoadedBase, recompute_activations  # noqa: E402
from training.finetune.passes import AnswerPasses  # noqa: E402
from training.finetune.this_device import this_device  # noqa: E402
from training.finetune.trainee import Trainee  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("cache"), recipe=SMALL_BASE)


@pytest.fixture(scope="module")
def rows(base: Path) -> list[Rendered]:
    """Of different lengths, and with different numbers of learnt tokens."""
    found = [row for each in a_run(base, base).task.train[:9] for row in sequences(each)]
    return [replace(row, learn=row.learn[:-at] + (True,) * at) for at, row in enumerate(found, 1)]


@pytest.fixture(scope="module")
def plan(base: Path) -> DevicePlan:
    sizes = Rows(in_step=9, longest=64, learnt=9)
    return plan_device(LoadedBase(base).size(RECIPE), sizes, this_device(0), Precision.FLOAT32)


@pytest.fixture
def model(base: Path, plan: DevicePlan) -> Iterator[Any]:
    with LoadedBase(base).with_lora(RECIPE, plan) as model:
        yield model


def gradients(model: Any, rows: list[Rendered], plan: DevicePlan) -> tuple[float, dict[str, Any]]:
    model.zero_grad(set_to_none=True)
    sums = AnswerPasses(model, plan).gradients(rows, plan)
    found = {
        name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None
    }
    return float(sums.loss), found


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_gradient_is_the_same_whatever_the_micro_batch(
    model: Any, rows: list[Rendered], plan: DevicePlan, micro_batch: int
) -> None:
    loss, whole = gradients(model, rows, plan)
    same_loss, parts = gradients(model, rows, replace(plan, micro_batch=micro_batch))
    assert same_loss == pytest.approx(loss, rel=1e-5)
    assert whole.keys() == parts.keys()
    assert any(part.abs().sum() > 0 for part in whole.values())
    for name, part in whole.items():
        assert torch.allclose(part, parts[name], rtol=1e-3, atol=1e-6), name


def test_a_row_counts_in_the_gradient_by_its_weight_and_not_in_what_is_told(
    model: Any, rows: list[Rendered], plan: DevicePlan
) -> None:
    two = [replace(row, learn=(False,) * (len(row) - 2) + (True,) * 2) for row in rows[:2]]
    singles = [gradients(model, [row], plan)[1] for row in two]
    plain, _ = gradients(model, two, plan)
    weighted = [replace(row, weight=weight) for row, weight in zip(two, (0.5, 1.5), strict=True)]
    for micro_batch in (1, 2):
        told, found = gradients(model, weighted, replace(plan, micro_batch=micro_batch))
        assert told == pytest.approx(plain, rel=1e-5)
        for name, part in found.items():
            wanted = (0.5 * singles[0][name] + 1.5 * singles[1][name]) / 2
            assert torch.allclose(part, wanted, rtol=1e-3, atol=1e-6), name


def test_a_gradient_is_the_same_where_activations_are_computed_twice(
    model: Any, rows: list[Rendered], plan: DevicePlan
) -> None:
    _, kept = gradients(model, rows, plan)
    recompute_activations(model)
    _, twice = gradients(model, rows, plan)
    for name, part in kept.items():
        assert torch.allclose(part, twice[name], rtol=1e-3, atol=1e-6), name


def test_an_evaluation_is_the_same_whatever_the_micro_batch(
    model: Any, rows: list[Rendered], plan: DevicePlan
) -> None:
    passes = AnswerPasses(model, plan)
    whole, single = (
        passes.evaluate(rows, replace(plan, micro_batch=size, loss_chunk=chunk))
        for size, chunk in ((9, 1000), (1, 3))
    )
    assert single.loss == pytest.approx(whole.loss, rel=1e-4)
    assert (single.accuracy, single.answers) == (whole.accuracy, whole.answers)
    assert model.training


def test_a_dry_step_leaves_no_gradient_behind(
    model: Any, rows: list[Rendered], plan: DevicePlan
) -> None:
    pace = dry_step(AnswerPasses(model, plan), rows, plan, forget=model.zero_grad)
    assert 0.0 < pace < 60.0
    assert all(part.grad is None for part in model.parameters())


def test_one_loaded_base_is_trained_on_and_asked_with_the_adapter_after(
    base: Path, plan: DevicePlan, tmp_path: Path
) -> None:
    loaded = LoadedBase(base)
    ids = torch.tensor([[3, 4, 5, 6]])
    bare = loaded.model(dtype=torch.float32, device=plan.device)
    weights = bare.get_input_embeddings().weight
    with torch.no_grad():
        before = bare(input_ids=ids).logits
    with loaded.with_lora(RECIPE, plan) as model:
        trainee = Trainee(model, RECIPE)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        trainee.step(0.5)
        model.save_pretrained(tmp_path)
        with torch.no_grad():
            trained = model.eval()(input_ids=ids).logits
    with torch.no_grad():
        assert torch.equal(
            loaded.model(dtype=torch.float32, device="cpu")(input_ids=ids).logits, before
        )
        with loaded.with_adapter(tmp_path, dtype=torch.float32, device=plan.device) as asked:
            assert torch.allclose(asked(input_ids=ids).logits, trained, atol=1e-5)
            assert asked.get_input_embeddings().weight is weights, "it was loaded once"
    assert not torch.allclose(trained, before, atol=1e-3)


def test_sizes_are_seen_without_the_weights(base: Path) -> None:
    size = LoadedBase(base).size(RECIPE)
    hidden, forward = SMALL_BASE.hidden, SMALL_BASE.feed_forward
    assert (size.layers, size.hidden, size.vocabulary) == (
        SMALL_BASE.layers,
        hidden,
        SMALL_BASE.vocabulary,
    )
    attention, mlp = 4 * (hidden + hidden), 3 * (hidden + forward)
    assert size.adapter == RECIPE.rank * SMALL_BASE.layers * (attention + mlp)
    assert size.parameters > SMALL_BASE.vocabulary * hidden
