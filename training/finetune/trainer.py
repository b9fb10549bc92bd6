"""TRL's trainer with our mask, our measure of held-out examples and sealed checkpoints."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from trl import SFTTrainer

from adapters.domain.recipes import Recipe
from training.base.precision import Precision
from training.finetune.batches import IGNORED, EpochOrder, scored
from training.finetune.checkpoints import full_disk_told, seal
from training.finetune.clock import Watch, rate_share
from training.finetune.port import Diverged


class LoraTrainer(SFTTrainer):
    """Fine-tunes on examples that come with their loss mask; logs accuracy and tokens seen."""

    control: Any
    state: Any
    lr_scheduler: Any

    def __init__(
        self, *, recipe: Recipe, precision: Precision, watch: Watch, tokens: int = 0, **rest: Any
    ) -> None:
        """`tokens` have been seen before a resumption."""
        self._recipe, self._precision = recipe, precision
        self._watch, self._tokens = watch, tokens
        self._right = self._said = 0
        super().__init__(**rest)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy over the learnt tokens of the batch.

        TRL's own fused head scores every position of a batch where there is no Triton; on a CPU
        that is most of the head's cost for nothing.
        """
        logits, labels = scored(model, inputs)
        learnt = labels != IGNORED
        self._right += int(((logits.argmax(-1) == labels) & learnt).sum())
        self._said += int(learnt.sum())
        self._tokens += int(inputs["attention_mask"].sum())
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
        if not loss.isfinite():
            raise Diverged(self.state.global_step + 1)
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss a token and shares of tokens and whole answers right, over the held-out examples.

        `eval_score` orders checkpoints: by answers right, and between equals by the loss.
        Raises Diverged.
        """
        model: Any = self.model
        model.eval()
        loss, tokens, right_tokens, right, examples = 0.0, 0, 0, 0, 0
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self.get_eval_dataloader():
                logits, labels = scored(model, batch)
                learnt = labels != IGNORED
                loss += float(
                    cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
                )
                tokens += int(learnt.sum())
                hits = logits.argmax(-1) == labels
                right_tokens += int((hits & learnt).sum())
                right += int((hits | ~learnt).all(1).sum())
                examples += len(labels)
        model.train()
        if not math.isfinite(loss):
            raise Diverged(self.state.global_step)
        metrics = {
            "eval_loss": loss / tokens,
            "eval_accuracy": right_tokens / tokens,
            "eval_answers": right / examples,
            "eval_score": right + math.exp(-loss / tokens),
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Without TRL's own metrics, which belong to its own loss."""
        if "loss" in logs and self._said:
            logs["accuracy"] = self._right / self._said
            self._right = self._said = 0
        logs["tokens"] = self._tokens
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The rate follows the steps: see `rate_share`."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer,
                lambda step: rate_share(self._recipe, step / num_training_steps),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        rows: Any = train_dataset or self.train_dataset
        return EpochOrder(
            [len(ids) for ids in rows["input_ids"]],
            self.args.train_batch_size,
            seed=self._recipe.seed,
            epoch=lambda: self._watch.epoch,
        )

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The project writes a card of its own."""

    def _send_telemetry(self, *_: Any, **__: Any) -> None:
        """Nothing leaves the building."""

    def end_at(self, checkpoint: Path) -> None:
        """As `train` leaves things, for a run that was over with this checkpoint."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        self._load_best_model()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        learnt = sum(part.nbytes for part in model.parameters() if part.requires_grad)
        # the adapter, and two moments of each of its numbers
        with full_disk_told(Path(self.args.output_dir), size=3 * learnt):
            super()._save_checkpoint(model, trial)
        seal(
            Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}",
            {
                "seconds": self._watch.clock.seconds(),
                "tokens": self._tokens,
                "over": self.control.should_training_stop,
                "out_of_time": self._watch.out_of_time,
                "precision": self._precision,
                "history": [asdict(progress) for progress in self._watch.history],
            },
        )
