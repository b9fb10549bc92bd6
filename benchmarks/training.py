"""Steps of a job's training loop beside a plain PEFT loop, in one run on one device.

    python -m benchmarks.training                                   # the embedded base
    python -m benchmarks.training --base PATH --rows 256 --length 512

Both read the same token rows in the same order, with the same base, adapter, optimizer, learning
rates, precision and micro-batch; a plain loop is what one writes with PEFT by hand: padded batches,
the model's own loss over all positions, AdamW. They take turns, so that other load on the machine
meets both. It prints medians of seconds a step, their ratio (plain / ours: above 1 is faster than
plain), tokens a second and peak memory as JSON.

It imports torch, transformers, peft, numpy, safetensors, pydantic and pydantic-settings, and no
service: it runs on a bare machine with a GPU.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM

from adapters.domain.recipes import Recipe
from adapters.settings import TrainPrecision
from benchmarks.machine import machine, versions
from training.base.precision import Precision, choose
from training.data.preferences import learnt_tokens
from training.data.render import Rendered
from training.finetune.batches import BatchOrder, parts
from training.finetune.clock import rate_share
from training.finetune.device_plan import DevicePlan, Rows, plan_device
from training.finetune.loaded_base import LoadedBase
from training.finetune.passes import AnswerPasses
from training.finetune.this_device import this_device
from training.finetune.trainee import Trainee

WARM = 3
"""Steps of each loop that are not counted: the first ones also make kernels."""
IGNORED = -100
Step = Callable[[Sequence[Rendered], int], float]
"""(rows, number of the step) → the loss."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One of the two, and what it took."""

    name: str
    step: Step
    seconds: list[float]
    losses: list[float]
    peak: list[int]


def main() -> None:
    """Measures and prints."""
    chosen = _arguments()
    base = LoadedBase(chosen.base or _embedded())
    recipe = Recipe(
        rank=chosen.rank,
        alpha=2 * chosen.rank,
        learning_rate=1e-4,
        batch_size=chosen.batch,
        n_epochs=50.0,
    )
    rows = synthetic_rows(chosen.rows, chosen.length, chosen.answer, seed=recipe.seed)
    plan = _plan(base, recipe, rows, chosen.precision, chosen.threads)
    torch.set_num_threads(plan.threads)
    order = BatchOrder([len(row) for row in rows], recipe.batch_size, seed=recipe.seed)
    with base.with_lora(recipe, plan) as model, disable_input_dtype_casting(model):
        loops = [
            _loop("ours", _ours(model, recipe, plan, steps=chosen.steps)),
            _loop("plain", _plain(base.path, recipe, plan, steps=chosen.steps)),
        ]
        for step in range(1, WARM + chosen.steps + 1):
            batch = [rows[row] for row in order.rows(step)]
            for loop in loops if step % 2 else reversed(loops):
                _measure(loop, batch, step, plan.device)
    print(json.dumps(_result(loops, rows, recipe, plan), indent=2))


def synthetic_rows(count: int, length: int, answer: int, *, seed: int) -> list[Rendered]:
    """Rows of random tokens, three quarters to all of `length` long, learnt at their end."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        long = draw.randint(length * 3 // 4, length)
        learnt = min(long - 1, draw.randint(max(1, answer // 2), answer))
        ids = tuple(draw.randrange(10, 400) for _ in range(long))
        rows.append(Rendered(ids=ids, learn=(False,) * (long - learnt) + (True,) * learnt))
    return rows


def _plan(
    base: LoadedBase,
    recipe: Recipe,
    rows: Sequence[Rendered],
    precision: TrainPrecision,
    threads: int,
) -> DevicePlan:
    heaviest = Rows(
        in_step=recipe.batch_size,
        longest=max(map(len, rows)),
        learnt=max(map(learnt_tokens, rows)),
    )
    return plan_device(base.size(recipe), heaviest, this_device(threads), choose(precision))


def _ours(model: Any, recipe: Recipe, plan: DevicePlan, *, steps: int) -> Step:
    passes, trainee = AnswerPasses(model, plan), Trainee(model, recipe)

    def step(rows: Sequence[Rendered], number: int) -> float:
        sums = passes.gradients(rows, plan, seed=number)
        trainee.step(_rate(recipe, number, steps))
        return float(sums.loss)

    return step


def _plain(path: Path, recipe: Recipe, plan: DevicePlan, *, steps: int) -> Step:
    """As one writes it by hand: nothing of `training.finetune` but how rows are sliced."""
    base: Any = AutoModelForCausalLM.from_pretrained(
        path,
        local_files_only=True,
        dtype=getattr(torch, plan.precision),
        attn_implementation=plan.attention,
    )
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(recipe.target_modules),
        task_type="CAUSAL_LM",
    )
    model: Any = get_peft_model(base.to(plan.device), config)
    if plan.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    learnt = [part for part in model.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=recipe.learning_rate, weight_decay=0.0, fused=True)
    half = plan.precision is Precision.BFLOAT16

    def step(rows: Sequence[Rendered], number: int) -> float:
        total, loss_sum = sum(map(learnt_tokens, rows)), 0.0
        for part in parts(rows, plan.micro_batch):
            inputs, labels = _padded(part)
            with torch.autocast(plan.device, torch.bfloat16, enabled=half):
                loss = model(
                    **{name: tensor.to(plan.device) for name, tensor in inputs.items()},
                    labels=labels.to(plan.device),
                    num_items_in_batch=total,
                    use_cache=False,
                ).loss
            loss.backward()
            loss_sum += float(loss.detach())
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, number, steps)
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss_sum

    return step


def _padded(rows: Sequence[Rendered]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row.ids)
        mask[at, : len(row)] = 1
        learn = torch.tensor(row.learn)
        labels[at, : len(row)] = torch.where(learn, torch.tensor(row.ids), IGNORED)
    return {"input_ids": ids, "attention_mask": mask}, labels


def _rate(recipe: Recipe, number: int, steps: int) -> float:
    return recipe.learning_rate * rate_share(recipe, min(1.0, (number - 1) / (WARM + steps)))


def _loop(name: str, step: Step) -> Loop:
    return Loop(name=name, step=step, seconds=[], losses=[], peak=[])


def _measure(loop: Loop, rows: Sequence[Rendered], number: int, device: str) -> None:
    held = _reset_peak(device)
    began = time.perf_counter()
    loss = loop.step(rows, number)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if number > WARM:
        loop.seconds.append(seconds)
        loop.losses.append(loss)
        if device == "cuda":
            loop.peak.append(torch.cuda.max_memory_allocated() - held)


def _reset_peak(device: str) -> int:
    """Bytes held before a step."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())


def _result(
    loops: Sequence[Loop], rows: Sequence[Rendered], recipe: Recipe, plan: DevicePlan
) -> dict[str, Any]:
    ours, plain = loops
    tokens = sum(map(len, rows)) / len(rows) * recipe.batch_size
    return {
        "machine": machine() | _gpu(plan.device),
        "versions": versions(),
        "plan": asdict(plan) | {"accumulation": plan.accumulation},
        "rows": {"count": len(rows), "tokens_a_step": round(tokens)},
        "rank": recipe.rank,
        "steps": len(ours.seconds),
        **{
            loop.name: {
                "median_seconds_a_step": round(median(loop.seconds), 5),
                "tokens_a_second": round(tokens / median(loop.seconds)),
                "last_loss": round(loop.losses[-1], 4),
            }
            | _memory(loop)
            for loop in loops
        },
        "ratio": round(median(plain.seconds) / median(ours.seconds), 3),
        "largest_difference_of_losses": round(
            max(abs(a - b) for a, b in zip(ours.losses, plain.losses, strict=True)), 5
        ),
    }


def _memory(loop: Loop) -> dict[str, float]:
    """Of a step, beside weights and optimizer; a CPU's allocator does not tell."""
    return {"peak_gib_of_a_step": round(max(loop.peak) / 2**30, 3)} if loop.peak else {}


def _gpu(device: str) -> dict[str, str]:
    return {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}


def _embedded() -> Path:
    from adapters.settings import cache_folder
    from training.base.build import ensure_base

    return ensure_base(cache_folder())


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.training")
    arguments.add_argument("--base", type=Path, help="a model's folder; default: the embedded one")
    arguments.add_argument("--rows", type=int, default=512)
    arguments.add_argument("--length", type=int, default=64, help="tokens of the longest row")
    arguments.add_argument("--answer", type=int, default=12, help="most learnt tokens of a row")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rank", type=int, default=16)
    arguments.add_argument("--steps", type=int, default=50)
    arguments.add_argument("--threads", type=int, default=0)
    arguments.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
