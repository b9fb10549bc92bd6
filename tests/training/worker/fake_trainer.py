"""The real trainer loop around `fake_child`, as a process that tests may kill.

python -m tests.training.worker.fake_trainer STATE UNITS LEASE_SECONDS MODE
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from adapters.domain.jobs import Job
from adapters.registry.open import open_registry
from adapters.state_folder import StateFolder
from adapters.store.folder import FolderStore
from tests.training.world import child_command
from training.worker.job_supervisor import Supervision
from training.worker.main import Trainer
from training.worker.spare_process import Starter


def no_dry_run(job: Job) -> None:
    """No job here asks for one."""
    raise NotImplementedError(job.id)


def main(state: StateFolder, units: Path, lease_seconds: float, mode: str) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    registry = open_registry(state.database_url)
    supervision = Supervision(
        jobs=registry.jobs,
        starter=Starter(child_command(state, mode), os.environ),
        lease_seconds=lease_seconds,
        stopping=stopping,
    )
    Trainer(
        registry=registry,
        store=FolderStore(state.artifacts),
        state=state,
        units=units,
        owner=f"fake:{os.getpid()}",
        supervision=supervision,
        stopping=stopping,
        dry_run=no_dry_run,
    ).run()


if __name__ == "__main__":
    main(StateFolder(Path(sys.argv[1])), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
