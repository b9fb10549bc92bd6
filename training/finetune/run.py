"""The fine-tuning run, top to bottom.

It survives its process: the same call with the same `workdir` goes on from the newest whole
checkpoint, and a finished run is handed back as it is. What comes out is the adapter as PEFT writes
it, from the checkpoint that answered the held-out examples best.

Held-out examples are judged by how many whole answers greedy decoding would reproduce, and only
between equals by the loss. Greedy decoding gives the reference answer exactly when each of its
tokens is the likeliest after the ones before it, so one forward pass measures it. The loss alone
stops too early: it rises with over-confidence while answers still get better.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from transformers import AutoModelForCausalLM, EarlyStoppingCallback
from transformers.trainer_utils import set_seed
from trl import SFTConfig

from adapters.domain.recipes import Recipe
from adapters.durable_files import sync_folder, write_private
from training.base.chat_format import load_chat
from training.base.precision import Precision, choose
from training.finetune.batches import Padding, as_dataset
from training.finetune.checkpoints import (
    full_disk_told,
    newest_sealed,
    read_seal,
)
from training.finetune.clock import Clock, Watch
from training.finetune.port import Diverged
from training.finetune.trainer import LoraTrainer
from training.finetune.values import Finetuned, Progress, Run

ADAPTER = "adapter"
RESULT = "finetuned.json"
SHORT = 256
"""Tokens up to which attention by plain matrix products is faster on a CPU: the fused kernel's
backward pass made a step on the embedded base half as long again. Beyond, it saves memory."""


def finetune(
    run: Run, report: Callable[[Progress], None], *, stopping: Callable[[], bool] = lambda: False
) -> Finetuned:
    """Train, or go on training, and leave the adapter in `workdir/adapter`.

    Raises Stopped behind a checkpoint of the step at whose end `stopping` says so, and whatever
    `report` raises: a later call then goes on. Raises Diverged when the loss is no finite number,
    OSError when the disk has no room, TemplateError when the base's chat template cannot be used,
    ValueError without held-out examples.
    """
    if (run.workdir / RESULT).is_file():
        return _read_result(run.workdir)
    if not run.valid:
        raise ValueError("a run needs held-out examples")
    run.workdir.mkdir(parents=True, exist_ok=True)
    chat = load_chat(run.base)
    train, valid = run.train, run.valid
    checkpoint = newest_sealed(run.workdir)
    sealed = read_seal(checkpoint) if checkpoint else {}
    precision = _precision(sealed) if sealed else choose(run.precision)
    set_seed(run.recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(
        run.base,
        local_files_only=True,
        dtype=getattr(torch, precision),
        attn_implementation=_attention(max(map(len, (*train, *valid)))),
    )
    minutes = run.recipe.max_minutes
    clock = Clock(limit=minutes and minutes * 60, before=sealed.get("seconds", 0.0))
    history = [Progress(**entry) for entry in sealed.get("history", [])]
    watch = Watch(clock, report, history=history, stopping=stopping)
    watch.out_of_time = sealed.get("out_of_time", False)
    trainer = LoraTrainer(
        recipe=run.recipe,
        precision=precision,
        watch=watch,
        tokens=sealed.get("tokens", 0),
        model=model,
        args=_settings(run, precision, rows=len(train)),
        peft_config=_lora(run.recipe),
        processing_class=chat.tokenizer,
        data_collator=Padding(chat.tokenizer.pad_token_id or 0),
        train_dataset=as_dataset(train),
        eval_dataset=as_dataset(sorted(valid, key=len)),  # less padding
        callbacks=[watch, EarlyStoppingCallback(early_stopping_patience=run.recipe.patience)],
    )
    if checkpoint is None:
        trainer.evaluate()
    if checkpoint is not None and sealed.get("over"):
        trainer.end_at(checkpoint)
    else:
        with disable_input_dtype_casting(trainer.model):  # autocast does it; twice costs time
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return _publish(run, trainer, watch, precision)


def _precision(values: dict[str, Any]) -> Precision:
    """What a run has begun in is what it ends in. Builds that did not note it knew one only."""
    return Precision(values.get("precision", Precision.BFLOAT16))


def _attention(longest: int) -> str | None:
    """The implementation for examples of at most `longest` tokens; None is the library's choice."""
    return "eager" if longest <= SHORT and not torch.cuda.is_available() else None


def _settings(run: Run, precision: Precision, *, rows: int) -> SFTConfig:
    recipe = run.recipe
    steps = max(1, round(math.ceil(rows / recipe.batch_size) * recipe.n_epochs))
    every = max(1, math.ceil(steps / recipe.evaluations))
    return SFTConfig(
        output_dir=str(run.workdir),
        max_steps=steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        bf16=precision is Precision.BFLOAT16,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=torch.cuda.is_available(),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_score",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,  # early stopping goes on counting
        logging_steps=max(1, steps // 100),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=recipe.seed,
    )


def _lora(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        task_type="CAUSAL_LM",
    )


def _publish(run: Run, trainer: LoraTrainer, watch: Watch, precision: Precision) -> Finetuned:
    """Write the adapter and then the result, whose presence says that the adapter is whole."""
    model: Any = trainer.model
    target = run.workdir / ADAPTER
    if trainer.state.best_global_step is None:  # no evaluation could be compared with another
        raise Diverged(trainer.state.global_step)
    shutil.rmtree(target, ignore_errors=True)
    learnt = sum(part.nbytes for part in model.parameters() if part.requires_grad)
    with full_disk_told(run.workdir, size=learnt):
        model.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)
    sync_folder(target)
    held_out = [progress for progress in watch.history if progress.valid_loss is not None]
    best = next(p for p in held_out if p.step == trainer.state.best_global_step)
    result = Finetuned(
        directory=target,
        steps=trainer.state.global_step,
        best_step=best.step,
        trained_tokens=watch.history[-1].tokens,
        first_valid_loss=held_out[0].valid_loss or 0.0,
        best_valid_loss=best.valid_loss or 0.0,
        best_valid_answers=best.valid_answers or 0.0,
        history=tuple(watch.history),
        stopped=_why_stopped(trainer, watch),
        precision=precision,
    )
    told = asdict(result) | {"directory": ADAPTER}
    write_private(run.workdir / RESULT, json.dumps(told).encode())
    return result


def _why_stopped(trainer: LoraTrainer, watch: Watch) -> str:
    if trainer.state.global_step >= trainer.state.max_steps:
        return "finished"
    return "time_limit" if watch.out_of_time else "early_stopping"


def _read_result(workdir: Path) -> Finetuned:
    values = json.loads((workdir / RESULT).read_text("utf-8"))
    values["history"] = tuple(Progress(**entry) for entry in values["history"])
    values["precision"] = _precision(values)
    return Finetuned(**values | {"directory": workdir / ADAPTER})
