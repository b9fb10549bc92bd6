"""A stand-in for `training.job` that finishes, dies or hangs as told; no torch, real processes.

python -m tests.training.worker.fake_child STATE JOB FENCE MODE
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType


def main(state: Path, job_id: str, fence: int, mode: str) -> None:
    scratch = state / "jobs" / job_id
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "started").open("a") as log:
        log.write(f"{os.getpid()}\n")
    if mode == "die" or (mode == "die-once" and not (scratch / "died").exists()):
        (scratch / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "refused":
        sys.exit(76)
    if mode in ("hang", "stubborn"):
        hang(scratch, stubborn=mode == "stubborn")
    finish(state, job_id, fence)


def hang(scratch: Path, *, stubborn: bool) -> None:
    """Works for ever, with a helper process of its own."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        (scratch / "asked").touch()
        if not stubborn:
            sys.exit(75)

    signal.signal(signal.SIGTERM, stop)
    helper = subprocess.Popen(["sleep", "600"])
    (scratch / "helper.new").write_text(str(helper.pid))
    (scratch / "helper.new").rename(scratch / "helper")
    while True:
        time.sleep(0.05)


def finish(state: Path, job_id: str, fence: int) -> None:
    # Imported here: a child that dies or hangs should do so at once.
    from adapters.domain.jobs import JobStatus
    from adapters.domain.names import JobId
    from adapters.registry.open import open_registry
    from adapters.state_folder import StateFolder

    registry = open_registry(StateFolder(state).database_url)
    registry.jobs.finish(
        JobId(job_id), JobStatus.SUCCEEDED, fence=fence, fine_tuned_model="support:1"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
