"""The seam between a job and what fine-tunes: tokenizer, optimizer and forward pass.

`fine_tuner.py` is the real one (torch and PEFT behind it); tests bring a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from adapters.domain.recipes import Recipe
from adapters.errors import WardrobeError
from training.data.preferences import Row
from training.data.questions import Question
from training.finetune.device_plan import DevicePlan, Estimate

TRAINED_ON_NF4 = "trained on the base in nf4, measured on the served base"


class Diverged(WardrobeError):
    """The loss is no finite number any more."""

    code = "diverged"

    def __init__(self, step: int) -> None:
        super().__init__(
            f"training diverged: the loss was no finite number any more at step {step}; lower the "
            "learning rate (the job's `learning_rate_multiplier`, or `recipe.learning_rate` of the "
            "unit) and start a new job"
        )


class ChosenBy(StrEnum):
    """What the best checkpoint is chosen by, on the validation rows."""

    LOSS = "validation_loss"
    """The lowest: free text."""
    ANSWERS = "validation_answers"
    """The most whole answers right, and between equals the lowest loss: short labels. The loss
    alone stops too early there: it rises with over-confidence while answers still get better."""


class AccuracyOf(StrEnum):
    """What a run gets right or wrong; the values end the names of its numbers."""

    TOKENS = "mean_token_accuracy"
    """Learnt tokens that greedy decoding gives back."""
    PREFERENCES = "preference_accuracy"
    """Preferences that the model tells as they are; before training it tells none."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """How far a run is at one step; None: not measured there.

    Losses are nats per learnt token, or of a preference.

    All validation rows are measured each time, so OpenAI's `valid_…` and `full_valid_…` are the
    same here.
    """

    step: int
    """0 before training."""
    total_steps: int
    train_loss: float | None
    train_accuracy: float | None
    """Share of what `accuracy_of` says."""
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    """As `train_accuracy`, on the validation rows."""
    valid_answers: float | None = None
    """Share of validation rows that greedy decoding gets right as a whole."""
    tokens: int = 0
    """Read in training so far."""
    seconds: float = 0.0
    seconds_left: float | None = None
    memory_bytes: int | None = None
    """Held by the process: of the GPU where it trains there, else of the machine."""
    accuracy_of: AccuracyOf = AccuracyOf.TOKENS

    def evolve(self, **changes: Any) -> Measures:
        return replace(self, **changes)

    @property
    def evaluated(self) -> bool:
        """Whether validation rows were measured at this step."""
        return self.valid_loss is not None

    def as_data(self) -> dict[str, Any]:
        """OpenAI's shape of a metrics event, and one number of ours."""
        values = {
            "step": self.step,
            "total_steps": self.total_steps,
            "train_loss": self.train_loss,
            f"train_{self.accuracy_of}": self.train_accuracy,
            "valid_loss": self.valid_loss,
            f"valid_{self.accuracy_of}": self.valid_accuracy,
            "full_valid_loss": self.valid_loss,
            f"full_valid_{self.accuracy_of}": self.valid_accuracy,
            "valid_exact_match": self.valid_answers,
        }
        return {
            key: value if isinstance(value, int) else round(value, 5)
            for key, value in values.items()
            if value is not None
        }

    @property
    def tokens_per_second(self) -> float | None:
        """Read in training so far, evaluations included; None before the first step."""
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    def pace(self) -> dict[str, float]:
        """How fast it goes and what it takes, in the words of the trainer's metrics."""
        values = {
            "seconds": self.seconds or None,
            "tokens_per_second": self.tokens_per_second,
            "memory_bytes": self.memory_bytes,
            "seconds_left": self.seconds_left,
        }
        return {key: round(value, 1) for key, value in values.items() if value is not None}

    def as_text(self) -> str:
        """OpenAI's sentence for it."""
        losses = {"training loss": self.train_loss, "validation loss": self.valid_loss}
        parts = [f"{name}={loss:.2f}" for name, loss in losses.items() if loss is not None]
        return f"Step {self.step}/{self.total_steps}: {', '.join(parts)}"


def measures_from_json(values: dict[str, Any]) -> Measures:
    """What `dataclasses.asdict` made of measures."""
    accuracy_of = AccuracyOf(values.get("accuracy_of", AccuracyOf.TOKENS))
    return Measures(**{**values, "accuracy_of": accuracy_of})


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be learnt, how, and the folder that belongs to this alone."""

    train: Sequence[Row]
    """Of one kind, which the recipe's method learns from; so are those of `validation`."""
    validation: Sequence[Row]
    recipe: Recipe
    workdir: Path
    start: Path | None = None
    """The adapter that is trained further, of the recipe's rank and layers; None: a new one."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a fine-tuner calls while it works. Whatever they raise ends the run."""

    step: Callable[[Measures], None]
    """Evaluations of an earlier attempt are told again: it may not have come to it."""
    stopping: Callable[[], bool]
    planned: Callable[[DevicePlan, Estimate | None], None]
    """How the device will be used and how long it will take, before the first step. Again, without
    an estimate, where memory ran out and the run goes on with a smaller plan."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A finished fine-tuning: where the best adapter lies, and what it took."""

    directory: Path
    steps: int
    best_step: int
    chosen_by: ChosenBy
    trained_tokens: int
    seconds: float
    first_loss: float
    """On the validation rows, nats per token, before training; `best_loss` at the best step,
    `last_loss` where training ended."""
    best_loss: float
    last_loss: float
    best_answers: float
    """Share of validation rows right as a whole at the best step."""
    ended: str
    """`finished`, `early_stopping` or `time_limit`."""
    device: DevicePlan
    history: tuple[Measures, ...] = ()

    def as_evidence(self) -> dict[str, Any]:
        """What is kept beside the version of it."""
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "chosen_by": str(self.chosen_by),
            "ended": self.ended,
            "trained_tokens": self.trained_tokens,
            "seconds": round(self.seconds, 1),
            "validation_loss_before": round(self.first_loss, 4),
            "validation_loss": round(self.best_loss, 4),
            "validation_loss_at_end": round(self.last_loss, 4),
            "validation_answers_right": round(self.best_answers, 4),
            "precision": str(self.device.precision),
            **({"base": TRAINED_ON_NF4} if self.device.is_quantised else {}),
            "device": asdict(self.device) | {"accumulation": self.device.accumulation},
        }


class FineTuner(Protocol):
    """Fine-tunes one base model."""

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        """Trains from the newest checkpoint in the task's folder, or from the start.

        A finished task is handed back as it is.

        Raises Stopped behind a checkpoint of the step at whose end `watch.stopping` says so, or
        before the first step while preferences are measured; Diverged, OutOfMemory, and OSError
        when the disk has no room.
        """
        ...

    def log_probs(self, adapter: Path, questions: Sequence[Question]) -> list[list[float]]:
        """By the trainer's own forward pass: the log-probability (nats) of each token of each
        reference, behind its prompt and the reference's tokens before it.
        """
        ...
