"""The real pipeline around a toy fine-tuner and a toy service, in a process that dies where told.

python -m tests.training.worker.mortal_child STATE JOB FENCE MODE

Each start takes one order from the folder `orders` beside the state folder: `<place> <victim>`. It
counts its calls of the registry, the store and the service, and its steps, before and behind each;
at that place the victim, itself or the trainer, is killed with 9.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from adapters.admission.base_model import BaseModel
from adapters.domain.names import JobId
from adapters.registry.open import open_registry
from adapters.state_folder import StateFolder
from adapters.store.folder import FolderStore
from tests.training.job.stage import MODULE, ToyFineTuner, ToyRenderer, ToyService
from tests.training.job.toy_replica import FINGERPRINT, ToyReplica
from tests.training.worker.orders import Order, next_order
from training.job.context import JobContext
from training.job.pipeline import run_job


class Heart:
    """Beats at each place, and stops at the ordered one."""

    def __init__(self, order: Order | None, orders: Path) -> None:
        self._order, self._orders, self._beats = order, orders, 0

    def beat(self, *_: Any) -> None:
        self._beats += 1
        if self._order is None or self._beats != self._order.place:
            return
        self._order.carried_out(self._orders)
        if self._order.victim == "trainer":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60.0)  # the kernel ends us with it
        os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A port that may be the last thing that was used."""

    def __init__(self, port: Any, heart: Heart) -> None:
        self._port, self._heart = port, heart

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, found: Any, *given: Any, **named: Any) -> Any:
        self._heart.beat()
        done = found(*given, **named)
        self._heart.beat()
        return done


def main(state: StateFolder, job_id: JobId, fence: int) -> None:
    scratch = state.job(job_id)
    scratch.mkdir(parents=True, exist_ok=True)
    folder = state.root.parent
    with (folder / "pids").open("a") as log:
        log.write(f"{os.getpid()}\n")
    heart = Heart(next_order(folder / "orders", job_id), folder / "orders")
    registry = open_registry(state.database_url)
    ports: Sequence[str] = [field.name for field in fields(registry) if field.name != "close"]
    mortal: dict[str, Any] = {name: Mortal(getattr(registry, name), heart) for name in ports}
    store: Any = Mortal(FolderStore(state.artifacts), heart)
    service: Any = Mortal(ToyService(ToyReplica(registry)), heart)
    context = JobContext(
        registry=replace(registry, **mortal),
        store=store,
        units=folder / "units",
        base=BaseModel(path=folder, name="tiny", fingerprint=FINGERPRINT, shapes={MODULE: (8, 8)}),
        renderer=ToyRenderer(),
        fine_tuner=ToyFineTuner(at_step=heart.beat),
        answers=service,
        workdir=scratch,
        clock=time.monotonic,
        sleep=time.sleep,
        stopping=lambda: False,
    )
    run_job(context, job_id, fence)


if __name__ == "__main__":
    main(StateFolder(Path(sys.argv[1])), JobId(sys.argv[2]), int(sys.argv[3]))
