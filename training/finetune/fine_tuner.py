"""The real `FineTuner`: PEFT's adapters and a loop of our own on torch.

torch takes seconds to import: it is imported where it is needed and not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.settings import TrainPrecision
from training.data.questions import Question
from training.finetune.port import FineTuned, Task, Watch

if TYPE_CHECKING:
    from training.finetune.loaded_base import LoadedBase

BATCH = 16
"""Prompts answered at once by the own forward pass; logits of a big vocabulary take room."""


def import_slow_modules() -> None:
    """torch and its family: about ten seconds of a core."""
    importlib.import_module("training.finetune.run")
    importlib.import_module("training.finetune.answers")


class LoraFineTuner:
    """Fine-tunes the base model in one directory, and loads it once."""

    def __init__(self, base: Path, *, precision: TrainPrecision, threads: int = 0) -> None:
        """`threads` of 0 are as many as this process may use."""
        self._base, self._precision, self._threads = base, precision, threads

    @cached_property
    def loaded(self) -> LoadedBase:
        """The base in memory: for training, and for what is asked of it afterwards."""
        from training.finetune.loaded_base import LoadedBase

        return LoadedBase(self._base)

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        """See `FineTuner.tune`."""
        from training.finetune.run import finetune

        return finetune(self.loaded, task, watch, precision=self._precision, threads=self._threads)

    def own_answers(self, adapter: Path, questions: Sequence[Question]) -> list[str]:
        """See `FineTuner.own_answers`."""
        from training.finetune.answers import forward

        self.loaded.let_go()  # two would need twice the room
        return forward(
            base=self._base,
            adapter=adapter,
            prompts=[question.prompt for question in questions],
            max_tokens=max(question.max_tokens for question in questions),
            batch_size=BATCH,
        )
