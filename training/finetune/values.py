"""What a fine-tuning run works on, how far it is and what came out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.domain.recipes import Recipe
from adapters.settings import TrainPrecision
from training.data.render import Rendered


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one fine-tuning run works on. `workdir` belongs to it alone."""

    base: Path
    train: Sequence[Rendered]
    valid: Sequence[Rendered]
    recipe: Recipe
    workdir: Path
    precision: TrainPrecision = "auto"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Losses are nats per learnt token. Accuracies are the share of learnt tokens that greedy decoding
    gets right, `valid_answers` is the share of whole held-out answers.
    """

    step: int
    total_steps: int
    train_loss: float | None = None
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    valid_answers: float | None = None
    tokens: int
    seconds: float
    seconds_left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """The outcome; `stopped` is `finished`, `early_stopping` or `time_limit`.

    `precision` is what the steps were computed in.
    """

    directory: Path
    steps: int
    best_step: int
    trained_tokens: int
    first_valid_loss: float
    best_valid_loss: float
    best_valid_answers: float
    history: tuple[Progress, ...]
    stopped: str
    precision: str
