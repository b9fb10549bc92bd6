"""Runs on preferences: on a base of a few thousand parameters, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

torch = pytest.importorskip("torch")

from adapters.domain.recipes import Method, Recipe  # noqa: E402
from tests.training.finetune.test_finetune import TRAIN, VALID, Run, after_step  # noqa: E402
from tests.training.finetune.test_finetune import finetune as run  # noqa: E402
from tests.training.small_base import SMALL_BASE  # noqa: E402
from training.base.build import ensure_base  # noqa: E402
from training.base.precision import Precision  # noqa: E402
from training.data.examples import Example, Message  # noqa: E402
from training.data.preferences import Pair, Row, Thumb  # noqa: E402
from training.data.render import ChatRenderer, Rendered  # noqa: E402
from training.finetune.compared_rows import Compared, ComparedRows, compare  # noqa: E402
from training.finetune.device_plan import DevicePlan, Rows, plan_device  # noqa: E402
from training.finetune.loaded_base import LoadedBase  # noqa: E402
from training.finetune.port import FineTuned, Measures, Task  # noqa: E402
from training.finetune.preference_passes import (  # noqa: E402
    DpoPasses,
    KtoPasses,
    PreferencePasses,
)
from training.finetune.this_device import this_device  # noqa: E402
from training.stopping import Stopped  # noqa: E402

RECIPE = Recipe(
    method=Method.DPO,
    rank=8,
    alpha=16,
    learning_rate=3e-3,
    batch_size=8,
    n_epochs=3.0,
    evaluations=3,
    patience=3,
    dropout=0.1,
)
WORSE = "no colour at all"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_base(tmp_path_factory.mktemp("cache"), recipe=SMALL_BASE)


def worse(example: Example) -> Example:
    return Example(messages=(*example.prompt, Message(role="assistant", content=WORSE)))


def rows(base: Path, examples: list[Example], method: Method) -> list[Row]:
    renderer = ChatRenderer(base)

    def row(example: Example) -> Rendered:
        return renderer.rows(example)[0]

    if method is Method.SUPERVISED:
        return [row(each) for each in examples]
    if method is Method.DPO:
        return [Pair(chosen=row(each), rejected=row(worse(each))) for each in examples]
    return [
        Thumb(answered=row(worse(each) if at % 3 else each), liked=at % 3 == 0)
        for at, each in enumerate(examples)
    ]


def a_run(base: Path, workdir: Path, method: Method, **changes: Any) -> Run:
    recipe = RECIPE.model_copy(update={"method": method, **changes})
    task = Task(
        train=rows(base, TRAIN, method),
        validation=rows(base, VALID, method),
        recipe=recipe,
        workdir=workdir,
    )
    return Run(base=base, task=task, precision="float32")


def adapter(done: FineTuned) -> bytes:
    return (done.directory / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("method", [Method.DPO, Method.KTO])
def test_what_is_preferred_is_learnt_and_a_stopped_run_ends_as_if_it_had_not(
    base: Path, tmp_path: Path, method: Method
) -> None:
    told: list[Measures] = []
    whole = run(a_run(base, tmp_path / "whole", method), told.append)
    before, after = told[0], told[-1]
    assert before.valid_loss == pytest.approx(0.6931 if method is Method.DPO else 0.5, abs=0.02)
    assert before.valid_accuracy == 0.0
    assert whole.best_loss < whole.first_loss - 0.05
    told_apart = after.as_data()["valid_preference_accuracy"]
    assert told_apart > (0.9 if method is Method.DPO else 0.5)
    assert whole.chosen_by == "validation_loss"

    stopped = a_run(base, tmp_path / "stopped", method)
    for asked_at in (5, 14):
        report, stopping = after_step(asked_at)
        with pytest.raises(Stopped):
            run(stopped, report, stopping=stopping)
    assert adapter(run(stopped, lambda _: None)) == adapter(whole)


def test_a_run_that_goes_on_compares_with_the_model_it_began_with(
    base: Path, tmp_path: Path
) -> None:
    """Also where a power cut took the file: it is measured before the checkpoint is read."""
    whole = run(a_run(base, tmp_path / "whole", Method.DPO), lambda _: None)
    stopped = a_run(base, tmp_path / "stopped", Method.DPO)
    report, stopping = after_step(14)
    with pytest.raises(Stopped):
        run(stopped, report, stopping=stopping)
    for kept in stopped.workdir.glob("reference.*.npy"):
        kept.unlink()
    assert adapter(run(stopped, lambda _: None)) == adapter(whole)


@pytest.mark.parametrize("method", [Method.SUPERVISED, Method.DPO])
def test_a_run_begins_where_the_adapter_it_is_given_ended(
    base: Path, tmp_path: Path, method: Method
) -> None:
    """Whatever the recipe's alpha; preferences are compared with that adapter, not the base."""
    supervised = a_run(base, tmp_path / "first", Method.SUPERVISED, n_epochs=2.0, dropout=0.0)
    first = run(supervised, lambda _: None)
    other = a_run(base, tmp_path / "further", method, alpha=40, n_epochs=0.5)
    further = replace(other, task=replace(other.task, start=first.directory))
    done = run(further, lambda _: None)
    before = 0.6931 if method is Method.DPO else first.best_loss
    assert done.first_loss == pytest.approx(before, abs=1e-3)


def test_an_adapter_of_other_layers_is_not_begun_with(base: Path, tmp_path: Path) -> None:
    few = a_run(base, tmp_path / "few", Method.SUPERVISED, target_modules=("q_proj",), n_epochs=0.5)
    start = run(few, lambda _: None).directory
    more = a_run(base, tmp_path / "more", Method.SUPERVISED)
    with pytest.raises(ValueError, match="has other layers"):
        run(replace(more, task=replace(more.task, start=start)), lambda _: None)


@pytest.fixture(scope="module")
def plan(base: Path) -> DevicePlan:
    sizes = Rows(in_step=9, longest=128, learnt=30)
    return plan_device(LoadedBase(base).size(RECIPE), sizes, this_device(0), Precision.FLOAT32)


@pytest.fixture
def model(base: Path, plan: DevicePlan) -> Iterator[Any]:
    still = RECIPE.model_copy(update={"dropout": 0.0})
    with LoadedBase(base).with_lora(still, plan) as model:
        yield model


MAKERS: dict[Method, Callable[[Any, DevicePlan], PreferencePasses]] = {
    Method.DPO: lambda model, plan: DpoPasses(model, plan, beta=0.5),
    Method.KTO: lambda model, plan: KtoPasses(model, plan, beta=0.5, liked=1 / 3),
}


def moved(model: Any) -> None:
    """An adapter that says something: a new one's second halves are zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in model.parameters():
            if part.requires_grad:
                part.add_(0.05 * torch.randn_like(part))


@pytest.mark.parametrize("method", MAKERS)
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_gradient_of_preferences_is_the_same_whatever_the_micro_batch(
    base: Path, model: Any, plan: DevicePlan, method: Method, micro_batch: int, tmp_path: Path
) -> None:
    passes = MAKERS[method](model, plan)
    found = rows(base, TRAIN[:9], method)
    some = compare(
        found,  # type: ignore[arg-type]
        tmp_path / "kept.npy",
        lambda read: passes.log_probs(read, plan),
        alive=lambda: None,
    )[:]
    moved(model)
    gradients = []
    for size in (9, micro_batch):
        model.zero_grad(set_to_none=True)
        sums = passes.gradients(some, replace(plan, micro_batch=size))
        gradients.append((float(sums.loss), [p.grad.clone() for p in learnt(model)]))
    (whole_loss, whole), (loss, parts) = gradients
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert any(part.abs().sum() > 0 for part in whole)
    for part, same in zip(whole, parts, strict=True):
        assert torch.allclose(part, same, rtol=1e-3, atol=1e-6)
    measured = passes.evaluate(some, replace(plan, micro_batch=micro_batch))
    assert measured.loss == pytest.approx(whole_loss, rel=1e-4)


def learnt(model: Any) -> list[Any]:
    return [part for part in model.parameters() if part.requires_grad]


def test_both_kinds_of_thumbs_count_the_same_in_all(model: Any, plan: DevicePlan) -> None:
    row = Rendered(ids=(3, 4, 5), learn=(False, False, True))
    passes = KtoPasses(model, plan, beta=0.5, liked=0.25)
    (said,) = passes.log_probs([row], plan)
    some = [
        Compared(answer=row, other=row, answer_then=said, other_then=said, liked=liked)
        for liked in (True, False, False, False)
    ]
    assert passes.evaluate(some, plan).loss == pytest.approx(0.5)
    assert passes.evaluate(some[:1], plan).loss == pytest.approx(1.0)
    assert passes.evaluate(some[1:], plan).loss == pytest.approx(1 / 3)


def test_another_answer_stands_behind_this_prompt_and_is_no_longer_than_the_rows_are() -> None:
    def judged(prompt: range, answer: range) -> Thumb:
        ids = (*prompt, *answer)
        learn = (False,) * len(prompt) + (True,) * len(answer)
        return Thumb(answered=Rendered(ids=ids, learn=learn), liked=True)

    three = [
        judged(range(4), range(10, 12)),
        judged(range(1), range(20, 28)),
        judged(range(2), range(2)),
    ]
    others = [row.other for row in ComparedRows(three, [(0.0, 0.0)] * 3)]
    assert others[0].ids == (0, 1, 2, 3, 20, 21, 22, 23, 24)
    assert sum(others[0].learn) == 5
    assert others[2].ids == (0, 1, 10, 11), "the last one meets the first one's answer"
