"""A run in a process whose memory the kernel limits: `-m … BASE WORKDIR ROOM`.

ROOM is in MiB, beyond what the process has before it loads the base. It prints the plans that are
told, and how the run ended.
"""

from __future__ import annotations

import importlib
import re
import resource
import sys
from pathlib import Path

from adapters.domain.recipes import Recipe
from adapters.errors import WardrobeError
from training.data.render import Rendered
from training.finetune.device_plan import DevicePlan, Estimate
from training.finetune.loaded_base import LoadedBase
from training.finetune.port import Task, Watch
from training.finetune.run import finetune

ROWS = [
    Rendered(
        ids=tuple(3 + (at * 7 + place) % 400 for place in range(500)),
        learn=(False,) * 400 + (True,) * 100,
    )
    for at in range(32)
]
RECIPE = Recipe(rank=4, alpha=8, batch_size=16, n_epochs=2.0, evaluations=2, max_length=512)


def main(base: Path, workdir: Path, room: int) -> None:
    importlib.import_module("transformers.models.llama.modeling_llama")
    _limit(room)

    def planned(plan: DevicePlan, estimate: Estimate | None) -> None:
        print("tried" if estimate else "smaller", plan.micro_batch)

    task = Task(train=ROWS, validation=ROWS[:4], recipe=RECIPE, workdir=workdir)
    watch = Watch(step=lambda _: None, stopping=lambda: False, planned=planned)
    try:
        done = finetune(LoadedBase(base), task, watch, precision="float32", threads=1)
    except WardrobeError as error:
        print(error.reason, error.message)
    else:
        print("done", done.steps, done.device.micro_batch, done.last_loss)


def _limit(room: int) -> None:
    """Allows `room` MiB more than the process has now."""
    found = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    most = (int(found[1]) << 10) + (room << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
