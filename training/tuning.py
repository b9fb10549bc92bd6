"""The seam between a run and what fine-tunes: tokenizer, optimizer and forward pass.

`training.tuner` is the real one (torch, PEFT, TRL behind it); tests bring a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.domain.recipes import Recipe
from adapters.errors import InvalidRequest, WardrobeError
from training.data.examples import Example, Message
from training.evaluate.answers import Question
from training.reporting import Measures


class Stopped(Exception):
    """The run was asked to stop and did, at a point from which it can go on."""


class Unrenderable(InvalidRequest):
    """The base model's chat template refuses an example; `at` is its place in what was given."""

    code = "chat_template"

    def __init__(self, message: str, *, at: int) -> None:
        super().__init__(message)
        self.at = at


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
class Task:
    """What is to be learnt, how, and the folder that belongs to this alone."""

    train: Sequence[Example]
    held_out: Sequence[Example]
    recipe: Recipe
    workdir: Path


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What a tuner calls while it works."""

    step: Callable[[Measures, float], None]
    """(numbers, seconds left)."""
    stopping: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Tuned:
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


class Tuner(Protocol):
    """Fine-tunes one base model."""

    def lengths(self, examples: Sequence[Example]) -> list[int]:
        """Tokens of each whole example, as the chat template renders it. Raises Unrenderable."""
        ...

    def prompt_lengths(self, prompts: Sequence[Sequence[Message]]) -> list[int]:
        """Tokens the service will send to the model for each prompt. Raises Unrenderable."""
        ...

    def tune(self, task: Task, watch: Watch) -> Tuned:
        """Trains from the newest checkpoint in the task's folder, or from the start.

        Raises Stopped behind a checkpoint of the step at whose end `watch.stopping` says so, and
        Diverged.
        """
        ...

    def own_answers(self, adapter: Path, questions: Sequence[Question]) -> list[str]:
        """Greedy answers of the trainer's own forward pass, uncut, in the order of `questions`."""
        ...
