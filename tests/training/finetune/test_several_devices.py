"""Runs over two devices: two processes on the CPU, which meet over gloo."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from resource import RLIMIT_AS, prlimit
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapters.domain.recipes import Method, Quantization, Recipe
from training.base.precision import Precision
from training.data.preferences import Pair, Row, Thumb
from training.data.render import Rendered
from training.finetune.adapter_exchange import AdapterExchange, process_group
from training.finetune.device_plan import (
    ONE,
    Device,
    DevicePlan,
    Devices,
    Estimate,
    OutOfMemory,
    Rows,
    plan_device,
)
from training.finetune.loaded_base import LoadedBase
from training.finetune.passes import AnswerPasses, Sums, Whole
from training.finetune.port import FineTuned, Measures, Task, Watch
from training.finetune.rank_link import RankLost
from training.finetune.rank_orders import Load
from training.finetune.ranks import Ranks, ranks_loading
from training.finetune.run import finetune
from training.finetune.spread_passes import SpreadPasses
from training.stopping import Stopped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RECIPE = Recipe(
    rank=4,
    alpha=8,
    learning_rate=1e-2,
    batch_size=6,
    n_epochs=2.0,
    evaluations=2,
    patience=4,
    dropout=0.0,
)
TWO = Devices(count=2)


def rendered(at: int, answer: int) -> Rendered:
    """Of different lengths, with one or two learnt tokens, and of different weights."""
    said = (answer, 2)[: 1 + at % 2]
    prompt = (1, *(3 + (at + place) % 8 for place in range(1 + at % 5)))
    learn = (False,) * len(prompt) + (True,) * len(said)
    return Rendered(ids=(*prompt, *said), learn=learn, weight=0.5 + at % 3 / 2)


ANSWERS = [rendered(at, 20 + at % 4) for at in range(31)]
PAIRS = [Pair(chosen=row, rejected=rendered(at, 12 + at % 3)) for at, row in enumerate(ANSWERS)]
THUMBS = [Thumb(answered=row, liked=at % 3 > 0) for at, row in enumerate(ANSWERS)]


def run(
    base: Path,
    workdir: Path,
    rows: Sequence[Row],
    recipe: Recipe = RECIPE,
    *,
    devices: Devices = ONE,
    stopping: Callable[[], bool] = lambda: False,
    step: Callable[[Measures], None] = lambda measures: None,
) -> tuple[FineTuned, list[str]]:
    told: list[str] = []

    def planned(plan: DevicePlan, estimate: Estimate | None) -> None:
        told.append(plan.as_text())

    watch = Watch(step=step, stopping=stopping, planned=planned)
    task = Task(train=rows, validation=rows[:9], recipe=recipe, workdir=workdir)
    done = finetune(LoadedBase(base), task, watch, precision="float32", threads=2, devices=devices)
    return done, told


def assert_same(ours: FineTuned, theirs: FineTuned) -> None:
    """But for rounding, which decides what is told of answers that are as likely."""
    for here, there in zip(ours.history, theirs.history, strict=True):
        assert (here.step, here.tokens) == (there.step, there.tokens)
        assert here.train_loss == (there.train_loss and pytest.approx(there.train_loss, rel=1e-4))
        assert here.valid_loss == (there.valid_loss and pytest.approx(there.valid_loss, rel=1e-4))
    last, same = ours.history[-1], theirs.history[-1]
    assert last.valid_accuracy == pytest.approx(same.valid_accuracy, abs=0.12)
    assert last.valid_answers == pytest.approx(same.valid_answers, abs=0.12)
    wanted = weights(theirs)
    for name, part in weights(ours).items():
        assert torch.allclose(part, wanted[name], atol=1e-4), name


def weights(done: FineTuned) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(done.directory / "adapter_model.safetensors")
    return found


def test_a_run_that_began_on_two_devices_goes_on_with_one_and_ends_as_on_one(
    base: Path, tmp_path: Path
) -> None:
    told = list[int]()
    one, _ = run(base, tmp_path / "one", ANSWERS)
    with pytest.raises(Stopped):
        run(
            base,
            tmp_path / "two",
            ANSWERS,
            devices=TWO,
            stopping=lambda: told[-1] >= 8,
            step=lambda measures: told.append(measures.step),
        )
    assert told[-1] == 8
    assert not processes_of_ours()
    two, plans = run(base, tmp_path / "two", ANSWERS)
    assert plans == ["2 threads of the CPU in float32, 6 rows at once"]
    assert one.best_loss < one.first_loss - 0.1, "something was learnt"
    assert_same(two, one)


@pytest.mark.parametrize(
    ("method", "rows", "quantization"),
    [
        (Method.KTO, THUMBS, Quantization.NONE),
        pytest.param(
            Method.DPO,
            PAIRS,
            Quantization.NF4,
            marks=pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="no extra `qlora`"),
        ),
    ],
)
def test_preferences_are_learnt_over_two_devices_as_on_one(
    base: Path, tmp_path: Path, method: Method, rows: Sequence[Row], quantization: Quantization
) -> None:
    recipe = RECIPE.model_copy(update={"method": method, "quantization": quantization})
    one, _ = run(base, tmp_path / "one", rows, recipe)
    two, (plan, *_) = run(base, tmp_path / "two", rows, recipe, devices=TWO)
    assert plan.startswith("2 processes on 1 thread each of the CPU in float32")
    assert "3 rows at once on each" in plan
    assert two.as_evidence()["device"]["devices"] == 2
    assert one.best_loss < one.first_loss, "something was learnt"
    assert_same(two, one)


def test_a_process_that_dies_ends_the_run_with_its_name(base: Path, tmp_path: Path) -> None:
    def kill(measures: Measures) -> None:
        for pid in processes_of_ours():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(RankLost, match="that trains with this one"):
        run(base, tmp_path, ANSWERS, devices=TWO, step=kill)
    assert not processes_of_ours()


def test_one_that_a_step_has_no_row_for_has_no_part_of_the_threads(
    base: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"batch_size": 1, "n_epochs": 1.0, "evaluations": 1})
    _, plans = run(base, tmp_path, ANSWERS[:2], recipe, devices=Devices(count=8))
    assert plans == ["2 threads of the CPU in float32, 1 row at once"]


def test_an_exchange_takes_no_memory_that_was_not_taken_before(tmp_path: Path) -> None:
    model = torch.nn.Linear(4096, 4096, bias=False)
    size = model.weight.nbytes
    model.weight.grad = torch.ones_like(model.weight)
    with process_group("cpu", tmp_path / "store", rank=0, ranks=1):
        ranks = Ranks([], AdapterExchange(model))
        most = limit_memory_of(os.getpid(), beyond=size // 2)
        try:
            with pytest.raises(RuntimeError, match="can't allocate memory"):
                torch.ones_like(model.weight)
            ranks.give_weights()
            ranks.add_gradients()
        finally:
            prlimit(os.getpid(), RLIMIT_AS, most)
    assert (model.weight.grad == 1).all()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), MemoryError()])
def test_memory_that_an_exchange_lacks_here_is_no_lost_process(error: Exception) -> None:
    class Lacking(AdapterExchange):
        def weights(self) -> None:
            raise error

    ranks = Ranks([], Lacking(torch.nn.Linear(2, 2)))
    with pytest.raises(OutOfMemory, match="exchange the adapter"):
        ranks.give_weights()


def test_memory_that_runs_out_on_either_side_leaves_all_ready_for_a_smaller_plan(
    base: Path, tmp_path: Path
) -> None:
    long = [Rendered(ids=(1, *range(2, 32)) * 2, learn=(True,) * 62) for _ in range(1500)]
    sizes = Rows(in_step=1500, longest=62, learnt=61)
    loaded = LoadedBase(base)
    device = Device(kind="cpu", free=8 << 30, threads=1, count=2)
    plan = plan_device(loaded.size(RECIPE), sizes, device, Precision.FLOAT32)
    assert (plan.devices, plan.micro_batch) == (2, 750)
    load = Load(base=base, recipe=RECIPE, plan=plan, liked=0.0, place=1, gpu_share=1.0)
    with (
        ranks_loading([load], tmp_path) as loading,
        loaded.with_lora(RECIPE, plan) as model,
    ):
        ranks = loading.joined(model, "cpu")
        assert [*tmp_path.iterdir()], "what they met in goes with the job's folder"
        passes = AnswerPasses(model, plan)
        spread = SpreadPasses(passes, ranks)
        (pid,) = ranks.pids
        most = limit_memory_of(pid, beyond=64 << 20)
        with pytest.raises(MemoryError, match="a process that trains with this one"):
            spread.gradients(long, plan)
        prlimit(pid, RLIMIT_AS, most)
        with pytest.raises(MemoryError, match="here"):
            SpreadPasses(TooLittleHere(model, plan), ranks).gradients(long[:9], plan)
        model.zero_grad()
        smaller = replace(plan, micro_batch=50)
        sums, gradients = spread.gradients(long[:301], smaller), gradients_of(model)
        model.zero_grad()
        same = passes.gradients(long[:301], smaller)
        assert float(sums.loss) == pytest.approx(float(same.loss), rel=1e-5)
        assert (sums.learnt, sums.tokens) == (same.learnt, same.tokens)
        for ours, theirs in zip(gradients, gradients_of(model), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert not [*tmp_path.iterdir()]
    assert not processes_of_ours()


class TooLittleHere(AnswerPasses):
    """Passes for which this process has too little memory."""

    def share(self, rows: Sequence[Rendered], plan: DevicePlan, whole: Whole, *, seed: int) -> Sums:
        raise MemoryError("here")


def gradients_of(model: Any) -> list[torch.Tensor]:
    return [part.grad.clone() for part in model.parameters() if part.grad is not None]


def limit_memory_of(pid: int, *, beyond: int) -> tuple[int, int]:
    """Allows a process so many bytes more than it has; the limits that it had."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[0])
    before = prlimit(pid, RLIMIT_AS)
    prlimit(pid, RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + beyond, before[1]))
    return before


def processes_of_ours() -> list[int]:
    """Those that compute with this one."""
    found = Path("/proc/self/task").glob("*/children")
    children = [int(pid) for each in found for pid in each.read_text("ascii").split()]
    return [pid for pid in children if b"rank_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
