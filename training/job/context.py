"""Everything a run works with, as one value; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.admission.base_model import BaseModel
from adapters.registry import Registry
from adapters.signatures import Signer
from adapters.store import ArtifactStore
from training.data.render import Renderer
from training.evaluate.answers import Answers
from training.finetune.port import FineTuner
from training.job.tracking import Open
from training.stopping import Stopped


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """What one run works with, and the folder that is its own until the job ends.

    `clock` is monotonic: it measures how long this process waits; what time it is, the registry
    says.
    """

    registry: Registry
    store: ArtifactStore
    units: Path
    base: BaseModel
    renderer: Renderer
    fine_tuner: FineTuner
    answers: Answers
    workdir: Path
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    stopping: Callable[[], bool]
    signer: Signer | None = None
    """Signs what is published; None where this installation has no key."""
    trackers: Sequence[Open] = ()
    """Are told of training while it goes on."""
    tensorboard: bool = False
    """Whether the job's results hold the curve as TensorBoard reads it."""

    def pause(self) -> None:
        """Waits a moment for others. Raises Stopped."""
        if self.stopping():
            raise Stopped
        self.sleep(0.1)
