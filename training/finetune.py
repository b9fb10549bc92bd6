"""One LoRA fine-tuning run, top to bottom: the only module beside `training.base` with torch.

The run survives its process: the same call with the same `workdir` goes on from the newest whole
checkpoint, and a finished run is handed back as it is. What comes out is the adapter as PEFT writes
it, from the checkpoint that answered the held-out examples best.

Held-out examples are judged by how many whole answers greedy decoding would reproduce, and only
between equals by the loss. Greedy decoding gives the reference answer exactly when each of its
tokens is the likeliest after the ones before it, so one forward pass measures it. The loss alone
stops too early: it rises with over-confidence while answers still get better.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, TrainerCallback
from transformers.trainer_utils import set_seed
from trl import SFTConfig, SFTTrainer

from adapters.recipes import Recipe
from training.data.examples import Example, Message
from training.data.render import Rendered, load_tokenizer, prompt_ids, render

ADAPTER = "adapter"
RESULT = "finetuned.json"
SEAL = "sealed.json"
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one fine-tuning run works on. `workdir` belongs to it alone."""

    base: Path
    train: Sequence[Example]
    valid: Sequence[Example]
    recipe: Recipe
    workdir: Path


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. Losses are per token; `train_accuracy` is the share of tokens and
    `valid_accuracy` the share of whole held-out answers that greedy decoding gets right."""

    step: int
    total_steps: int
    epoch: float
    train_loss: float | None = None
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    tokens: int
    seconds: float
    seconds_left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """The outcome; `stopped` is `finished`, `early_stopping` or `time_limit`."""

    directory: Path
    steps: int
    best_step: int
    trained_tokens: int
    first_valid_loss: float
    best_valid_loss: float
    best_valid_accuracy: float
    train_loss: float
    history: tuple[Progress, ...]
    stopped: str


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A greedy answer of the trainer's own forward pass; one log-probability a token."""

    text: str
    token_logprobs: tuple[float, ...]


def finetune(run: Run, report: Callable[[Progress], None]) -> Finetuned:
    """Train, or go on training, and leave the adapter in `workdir/adapter`."""
    if (run.workdir / RESULT).is_file():
        return _read_result(run.workdir)
    if not run.valid:
        raise ValueError("a run needs held-out examples")
    run.workdir.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(run.base)
    train, valid = ([render(tokenizer, example) for example in part] for part in (run.train, run.valid))
    set_seed(run.recipe.seed)
    model = AutoModelForCausalLM.from_pretrained(
        run.base, local_files_only=True, dtype=torch.float32
    )
    checkpoint = newest_sealed(run.workdir)
    clock = _Clock(limit=run.recipe.max_minutes * 60, before=_seconds_in(checkpoint))
    watch = _Watch(clock, report, _reports_in(checkpoint))
    trainer = _Trainer(
        model=model,
        args=_settings(run, steps_an_epoch=math.ceil(len(train) / run.recipe.batch_size)),
        peft_config=_lora(run.recipe),
        processing_class=tokenizer,
        data_collator=_Padding(tokenizer.pad_token_id or 0),
        train_dataset=_dataset(train),
        eval_dataset=_dataset(valid),
        callbacks=[watch, EarlyStoppingCallback(early_stopping_patience=run.recipe.patience)],
        recipe=run.recipe,
        clock=clock,
        watch=watch,
    )
    if checkpoint is None:
        trainer.evaluate()
    trained = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return _publish(run, trainer, watch, train_loss=trained.training_loss)


def forward(
    *,
    base: Path,
    adapter: Path | None,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int = 64,
    batch_size: int = 64,
) -> list[Forward]:
    """Greedy answers to `prompts` by base and adapter as the trainer runs them, in float32."""
    tokenizer = load_tokenizer(base)
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, dtype=torch.float32
    )
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    rows = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    answers: dict[int, Forward] = {}
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(rows), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = _Padding(tokenizer.pad_token_id or 0)([{"input_ids": rows[i]} for i in chosen])
        answers.update(zip(chosen, _greedy(model, tokenizer, batch, max_tokens), strict=True))
    return [answers[i] for i in range(len(rows))]


def rate_share(recipe: Recipe, progress: float) -> float:
    """The part of the learning rate in force when `progress` (0 to 1) of the run is done."""
    if progress < recipe.warmup_ratio:
        return max(progress, 1e-3) / recipe.warmup_ratio
    rest = min(1.0, (progress - recipe.warmup_ratio) / (1.0 - recipe.warmup_ratio))
    if recipe.scheduler == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * rest))
    return 1.0 - rest if recipe.scheduler == "linear" else 1.0


def newest_sealed(workdir: Path) -> Path | None:
    """The newest checkpoint that is whole; what a crash left torn is removed."""
    found = sorted(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    whole = []
    for path in found:
        if _is_whole(path):
            whole.append(path)
        else:
            shutil.rmtree(path)
    return whole[-1] if whole else None


class _Clock:
    """Seconds this run has been trained for, the time before a resumption included."""

    def __init__(self, *, limit: float, before: float) -> None:
        self.limit = limit
        self._started = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._started


class _Padding:
    """Rows of a batch made equally long on the left, so that all answers end at the same place
    and the language-model head is computed for those few positions only."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        mask = [[0] * (longest - len(r["input_ids"])) + [1] * len(r["input_ids"]) for r in rows]
        attention = torch.tensor(mask)
        batch = {
            "input_ids": self._column(rows, "input_ids", self._pad, longest),
            "attention_mask": attention,
            "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        }
        if "labels" in rows[0]:
            batch["labels"] = self._column(rows, "labels", IGNORED, longest)
        return batch

    def _column(
        self, rows: Sequence[dict[str, Any]], name: str, filler: int, longest: int
    ) -> torch.Tensor:
        return torch.tensor([[filler] * (longest - len(r[name])) + list(r[name]) for r in rows])


class _Watch(TrainerCallback):
    """Turns what the trainer logs into `Progress`, and stops the run when its time is up."""

    def __init__(
        self, clock: _Clock, report: Callable[[Progress], None], history: list[Progress]
    ) -> None:
        self.clock, self.report, self.history = clock, report, history
        self.out_of_time = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" not in logs and "eval_loss" not in logs:
            return
        seconds = self.clock.seconds()
        done = max(state.global_step / max(1, state.max_steps), seconds / self.clock.limit)
        progress = Progress(
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=round(state.epoch or 0.0, 3),
            train_loss=logs.get("loss"),
            train_accuracy=logs.get("accuracy"),
            valid_loss=logs.get("eval_loss"),
            valid_accuracy=logs.get("eval_accuracy"),
            tokens=logs["tokens"],
            seconds=round(seconds, 2),
            seconds_left=round(seconds * (1 - done) / done, 1) if state.global_step else None,
        )
        self.history.append(progress)
        self.report(progress)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.clock.seconds() >= self.clock.limit and state.global_step < state.max_steps:
            self.out_of_time = True
            control.should_evaluate = control.should_save = control.should_training_stop = True


class _Trainer(SFTTrainer):
    """TRL's trainer with our mask, our measure of held-out examples and sealed checkpoints."""

    def __init__(self, *, recipe: Recipe, clock: _Clock, watch: _Watch, **rest: Any) -> None:
        self._recipe, self._clock, self._watch = recipe, clock, watch
        self._tokens = watch.history[-1].tokens if watch.history else 0
        self._right = self._said = 0
        super().__init__(**rest)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy over the learnt tokens. TRL's own fused head scores every position
        where there is no Triton, which costs a third of a step on a CPU."""
        logits, labels = _scored(model, inputs)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        learnt = labels != IGNORED
        self._right += int(((logits.argmax(-1) == labels) & learnt).sum())
        self._said += int(learnt.sum())
        self._tokens += int(inputs["attention_mask"].sum())
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss a token and share of whole answers right, over the held-out examples."""
        model: Any = self.model
        model.eval()
        loss, tokens, right, examples = 0.0, 0, 0, 0
        with torch.no_grad():
            for inputs in self.get_eval_dataloader():
                logits, labels = _scored(model, inputs)
                learnt = labels != IGNORED
                loss += float(
                    torch.nn.functional.cross_entropy(
                        logits.flatten(0, 1), labels.flatten(), reduction="sum"
                    )
                )
                tokens += int(learnt.sum())
                right += int(((logits.argmax(-1) == labels) | ~learnt).all(1).sum())
                examples += len(labels)
        model.train()
        accuracy = right / examples
        metrics = {
            "eval_loss": loss / tokens,
            "eval_accuracy": accuracy,
            "eval_score": right + math.exp(-loss / tokens),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Without TRL's own metrics, which belong to its own loss."""
        if "loss" in logs and self._said:
            logs["accuracy"] = self._right / self._said
            self._right = self._said = 0
        logs["tokens"] = self._tokens
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The rate follows the run's progress in steps or in time, whichever is further, so that
        a slow machine ends its shorter run with a low rate too."""
        if self.lr_scheduler is None:

            def share(step: int) -> float:
                late = self._clock.seconds() / self._clock.limit
                return rate_share(self._recipe, max(step / num_training_steps, late))

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, share)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The project writes its own card."""

    def _send_telemetry(self, *_: Any, **__: Any) -> None:
        """Nothing leaves the building."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        _seal(
            Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}",
            {"seconds": self._clock.seconds(), "history": [asdict(p) for p in self._watch.history]},
        )


def _scored(model: Any, inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of the positions at which some row of the batch has a learnt token."""
    labels = inputs["labels"][:, 1:]
    places = (labels != IGNORED).any(0).nonzero().flatten()
    rest = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**rest, use_cache=False, logits_to_keep=places).logits
    return logits.float(), labels[:, places]


@torch.no_grad()
def _greedy(model: Any, tokenizer: Any, batch: Any, max_tokens: int) -> Iterator[Forward]:
    out = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=max_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    said = out.sequences[:, batch["input_ids"].shape[1] :]
    scores = torch.stack(out.logits, 1).float().log_softmax(-1)
    chosen = scores.gather(-1, said.unsqueeze(-1)).squeeze(-1)
    ends = set(torch.as_tensor(model.generation_config.eos_token_id).flatten().tolist())
    for ids, logprobs in zip(said.tolist(), chosen.tolist(), strict=True):
        length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
        text = tokenizer.decode(ids[:length], skip_special_tokens=True)
        yield Forward(text=text, token_logprobs=tuple(logprobs[:length]))


def _settings(run: Run, *, steps_an_epoch: int) -> SFTConfig:
    recipe = run.recipe
    steps = max(1, round(steps_an_epoch * recipe.n_epochs))
    every = max(1, math.ceil(steps / recipe.evaluations))
    return SFTConfig(
        output_dir=str(run.workdir),
        max_steps=steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_score",
        greater_is_better=True,
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


def _dataset(rows: Sequence[Rendered]) -> Dataset:
    labels = [
        [token if learn else IGNORED for token, learn in zip(row.ids, row.learn, strict=True)]
        for row in rows
    ]
    return Dataset.from_dict({"input_ids": [list(row.ids) for row in rows], "labels": labels})


def _publish(run: Run, trainer: _Trainer, watch: _Watch, *, train_loss: float) -> Finetuned:
    """Write the adapter and the result, the result last: it says that the adapter is whole."""
    model: Any = trainer.model
    target = run.workdir / ADAPTER
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)
    held_out = [p for p in watch.history if p.valid_loss is not None]
    best = max(
        held_out[1:] or held_out, key=lambda p: (p.valid_accuracy or 0.0, -(p.valid_loss or 0.0))
    )
    last, total = trainer.state.global_step, trainer.state.max_steps
    early = "time_limit" if watch.out_of_time else "early_stopping"
    result = Finetuned(
        directory=target,
        steps=last,
        best_step=best.step,
        trained_tokens=watch.history[-1].tokens,
        first_valid_loss=held_out[0].valid_loss or 0.0,
        best_valid_loss=best.valid_loss or 0.0,
        best_valid_accuracy=best.valid_accuracy or 0.0,
        train_loss=train_loss,
        history=tuple(watch.history),
        stopped="finished" if last >= total else early,
    )
    _write_synced(run.workdir / RESULT, asdict(result) | {"directory": ADAPTER})
    return result


def _read_result(workdir: Path) -> Finetuned:
    values = json.loads((workdir / RESULT).read_text("utf-8"))
    values["history"] = tuple(Progress(**entry) for entry in values["history"])
    return Finetuned(**values | {"directory": workdir / ADAPTER})


def _seal(checkpoint: Path, values: dict[str, Any]) -> None:
    """Put every file on disk, then a seal that names them: a checkpoint without one is torn."""
    for path in checkpoint.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    digests = {path.name: _sha256(path) for path in sorted(checkpoint.iterdir())}
    _write_synced(checkpoint / SEAL, values | {"files": digests})


def _is_whole(checkpoint: Path) -> bool:
    try:
        files = json.loads((checkpoint / SEAL).read_text("utf-8"))["files"]
        return all(_sha256(checkpoint / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _seconds_in(checkpoint: Path | None) -> float:
    return float(_read_seal(checkpoint)["seconds"]) if checkpoint else 0.0


def _reports_in(checkpoint: Path | None) -> list[Progress]:
    return [Progress(**entry) for entry in _read_seal(checkpoint)["history"]] if checkpoint else []


def _read_seal(checkpoint: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((checkpoint / SEAL).read_text("utf-8"))
    return values


def _write_synced(path: Path, values: dict[str, Any]) -> None:
    staged = path.with_suffix(".part")
    with staged.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    staged.rename(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
