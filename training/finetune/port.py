"""The seam between a job and what fine-tunes: tokenizer, optimizer and forward pass.

`fine_tuner.py` is the real one (torch, PEFT, TRL behind it); tests bring a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adapters.domain.recipes import Recipe
from adapters.errors import WardrobeError
from training.data.questions import Question
from training.data.render import Rendered


class Diverged(WardrobeError):
    """The loss is no finite number any more."""

    code = "diverged"

    def __init__(self, step: int) -> None:
        super().__init__(
            f"training diverged: the loss was no finite number any more at step {step}; lower the "
            "learning rate (the job's `learning_rate_multiplier`, or `recipe.learning_rate` of the "
            "unit) and start a new job"
        )


@dataclass(frozen=True, kw_only=True)
class Measures:
    """A step's numbers; None: not measured there. Losses are nats per token.

    All held-out examples are measured each time, so OpenAI's `valid_…` and `full_valid_…` are the
    same here.
    """

    step: int
    total_steps: int
    train_loss: float | None
    train_accuracy: float | None
    """Share of learnt tokens that greedy decoding gets right."""
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    """As `train_accuracy`, on the held-out examples."""
    valid_answers: float | None = None
    """Share of whole held-out answers that greedy decoding gets right."""

    @property
    def evaluated(self) -> bool:
        """Whether held-out examples were measured at this step."""
        return self.valid_loss is not None

    def as_data(self) -> dict[str, Any]:
        """OpenAI's shape of a metrics event, and one number of ours."""
        values = {
            "step": self.step,
            "total_steps": self.total_steps,
            "train_loss": self.train_loss,
            "train_mean_token_accuracy": self.train_accuracy,
            "valid_loss": self.valid_loss,
            "valid_mean_token_accuracy": self.valid_accuracy,
            "full_valid_loss": self.valid_loss,
            "full_valid_mean_token_accuracy": self.valid_accuracy,
            "valid_exact_match": self.valid_answers,
        }
        return {
            key: value if isinstance(value, int) else round(value, 5)
            for key, value in values.items()
            if value is not None
        }

    def as_text(self) -> str:
        """OpenAI's sentence for it."""
        losses = {"training loss": self.train_loss, "validation loss": self.valid_loss}
        parts = [f"{name}={loss:.2f}" for name, loss in losses.items() if loss is not None]
        return f"Step {self.step}/{self.total_steps}: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be learnt, how, and the folder that belongs to this alone."""

    train: Sequence[Rendered]
    held_out: Sequence[Rendered]
    recipe: Recipe
    workdir: Path


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a fine_tuner calls while it works."""

    step: Callable[[Measures, float], None]
    """(numbers, seconds left)."""
    stopping: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A finished fine-tuning: where the best adapter lies, and what it took."""

    directory: Path
    steps: int
    best_step: int
    trained_tokens: int
    seconds: float
    first_loss: float
    """Held-out, nats per token, before training; `best_loss` at the best step."""
    best_loss: float
    best_accuracy: float
    """Share of whole held-out answers right at the best step."""
    ended: str
    """`finished`, `early_stopping` or `time_limit`."""
    precision: str
    """What the steps were computed in: `float32` or `bfloat16`."""


class FineTuner(Protocol):
    """Fine-tunes one base model."""

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        """Trains from the newest checkpoint in the task's folder, or from the start.

        Raises Stopped behind a checkpoint of the step at whose end `watch.stopping` says so, and
        Diverged.
        """
        ...

    def log_probs(self, adapter: Path, questions: Sequence[Question]) -> list[list[float]]:
        """By the trainer's own forward pass: the log-probability (nats) of each token of each
        reference, behind its prompt and the reference's tokens before it.
        """
        ...
