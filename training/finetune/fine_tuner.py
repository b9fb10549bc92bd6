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
from training.finetune.device_plan import ONE, Devices
from training.finetune.port import FineTuned, Task, Watch

if TYPE_CHECKING:
    from training.finetune.loaded_base import LoadedBase


def import_slow_modules() -> None:
    """torch and its family: about ten seconds of a core."""
    importlib.import_module("training.finetune.run")
    importlib.import_module("training.finetune.log_probs")


class LoraFineTuner:
    """Fine-tunes the base model in one directory, and loads it once."""

    def __init__(
        self, base: Path, *, precision: TrainPrecision, threads: int = 0, devices: Devices = ONE
    ) -> None:
        """`threads` of 0 are as many as this process may use; all devices together use them."""
        self._base, self._precision, self._threads = base, precision, threads
        self._devices = devices

    @cached_property
    def loaded(self) -> LoadedBase:
        """The base in memory: for training, and for what is asked of it afterwards."""
        from training.finetune.loaded_base import LoadedBase

        return LoadedBase(self._base)

    def tune(self, task: Task, watch: Watch) -> FineTuned:
        """See `FineTuner.tune`."""
        from training.finetune.run import finetune

        return finetune(
            self.loaded,
            task,
            watch,
            precision=self._precision,
            threads=self._threads,
            devices=self._devices,
        )

    def log_probs(self, adapter: Path, questions: Sequence[Question]) -> list[list[float]]:
        """See `FineTuner.log_probs`."""
        from training.finetune.log_probs import log_probs

        return log_probs(
            base=self.loaded,
            adapter=adapter,
            rows=[question.ids for question in questions],
            starts=[question.answer_start for question in questions],
        )
