"""The trainer's progress as the run tells it, and where it may stop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from training.finetune.fine_tuner import ProgressReports
from training.finetune.port import Measures, Watch


def progress(step: int, *, train: float | None = None, valid: float | None = None) -> Any:
    """As `training.finetune` reports it: training and held-out numbers come one after another."""
    return SimpleNamespace(
        step=step,
        total_steps=40,
        train_loss=train,
        train_accuracy=None if train is None else 0.5,
        valid_loss=valid,
        valid_accuracy=None if valid is None else 0.5,
        valid_answers=None if valid is None else 0.25,
        seconds_left=None if step == 0 else 7.0,
    )


def test_training_and_held_out_numbers_of_a_step_are_told_together() -> None:
    told: list[tuple[Measures, float]] = []
    reports = ProgressReports(
        Watch(step=lambda *numbers: told.append(numbers), stopping=lambda: False)
    )
    for report in (progress(0, valid=3.0), progress(10, train=1.0), progress(10, valid=0.9)):
        reports(report)
    trained, evaluated = told
    assert trained == (
        Measures(step=10, total_steps=40, train_loss=1.0, train_accuracy=0.5),
        7.0,
    )
    assert evaluated[0].train_loss == 1.0
    assert evaluated[0].valid_loss == 0.9
    assert (evaluated[0].valid_accuracy, evaluated[0].valid_answers) == (0.5, 0.25)
