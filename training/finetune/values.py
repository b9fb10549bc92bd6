"""What a fine-tuning run works on, how far it is and what came out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.recipes import Recipe
from training.data.examples import Example


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
    """How far a run is.

    Losses are nats per learnt token; `train_accuracy` is the share of tokens and `valid_accuracy`
    the share of whole held-out answers that greedy decoding gets right.
    """

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
