"""Runs dry runs: a process each, which ends its job by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from adapters.domain.jobs import Job
from adapters.domain.names import JobId, Unit
from training.job.order import AGAIN
from training.worker.child_process import describe_exit, start

_POLL = 0.25
_STOP_PATIENCE = 10.0
_PAUSE = 1.0
"""Seconds before a run that was interrupted is tried again."""

_log = structlog.get_logger(__name__)


def next_in_turn(waiting: Sequence[Job], done: Sequence[Unit]) -> Job | None:
    """Units take turns: the oldest job of the unit whose last dry run is longest ago.

    `waiting` is oldest first, `done` latest last.
    """
    last = {unit: at for at, unit in enumerate(done)}
    return min(waiting, key=lambda job: last.get(job.unit, -1), default=None)


class DryRunCrashed(Exception):
    """The process ended without ending its job."""


class DryRunner:
    """Used by the validator's thread, with which its processes die."""

    def __init__(
        self,
        command: Callable[[JobId], Sequence[str]],
        environment: Mapping[str, str],
        stopping: threading.Event,
    ) -> None:
        self._command = command
        self._environment = environment
        self._stopping = stopping

    def __call__(self, job: Job) -> None:
        """Until the job has ended, or is to be tried again. Raises DryRunCrashed."""
        child = start(self._command(job.id), self._environment)
        try:
            while (code := child.ended(within=_POLL)) is None:
                if self._stopping.is_set():
                    child.ask_to_stop()
                    child.ended(within=_STOP_PATIENCE)
                    return
            if code == AGAIN:
                self._stopping.wait(_PAUSE)
            elif code:
                _log.warning("dry_run_crashed", job=job.id, how=describe_exit(code))
                raise DryRunCrashed(describe_exit(code))
        finally:
            child.kill()
