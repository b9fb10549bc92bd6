"""Supervises one leased job: its child process from start to end, and what becomes of the job.

The lease is kept alive from here, whatever the training step is doing. The child itself lands the
job in a final state; what is decided here is only what a child cannot say: that it was stopped,
lost its lease, or died.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from adapters.domain.jobs import Job, JobError, JobStatus, StopRequest
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.errors import LeaseLost, StorageFull, Unavailable
from adapters.registry.ports import Jobs
from training.job.order import Order
from training.worker.child_process import Child, describe_exit
from training.worker.spare_process import Starter

MAX_CRASHES = 3
"""Children of one lease that may die before the job fails."""
MAX_CLAIMS = 10
"""Leases of one job: one that takes the whole machine down must not come back for ever."""
PAUSE_PATIENCE = 600.0
"""Seconds a child has to end its step and write a checkpoint when its job is paused."""
SHUTDOWN_PATIENCE = 5.0
"""Seconds a child has when the trainer itself stops; it goes on from an older checkpoint then."""
FINISH_PATIENCE = 10.0
"""Seconds a child has to end after its job has ended."""

_log = structlog.get_logger(__name__)


class Wish(Enum):
    """What is wanted of a running child."""

    GO_ON = auto()
    CANCEL = auto()
    PAUSE = auto()
    SHUT_DOWN = auto()


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """What supervising a job needs."""

    jobs: Jobs
    starter: Starter
    lease_seconds: float
    stopping: threading.Event

    @property
    def beat(self) -> float:
        """Seconds between heartbeats."""
        return min(self.lease_seconds / 5, 1.0)


def supervise(job: Job, supervision: Supervision) -> None:
    """Runs a job that was just claimed, until it has ended, is paused, or is someone else's."""
    fence = _fence(job)
    log = _log.bind(job=job.id, unit=job.unit, fence=fence)
    if job.attempts > MAX_CLAIMS:
        _fail(job, supervision, f"the job was taken up {MAX_CLAIMS} times and never came to an end")
        return
    for crash in range(1, MAX_CRASHES + 1):
        child = supervision.starter.begin(Order(job_id=job.id, fence=fence))
        log.info("child_started", pid=child.pid)
        try:
            wish, code = _watch(child, job.id, fence, supervision)
        except LeaseLost:
            log.warning("lease_lost")
            return
        finally:
            if not child.kill():
                log.error("child_hangs", pid=child.pid)
        log.info("child_ended", code=code, wish=wish.name.lower())
        if _settled(job.id, fence, wish, supervision):
            return
        _tell_crash(job, code, crash, supervision)
    _fail(job, supervision, "the training process died; the trainer's log may say why")


def _watch(
    child: Child, job_id: JobId, fence: int, supervision: Supervision
) -> tuple[Wish, int | None]:
    """Until the child ends or must be: (what was wanted of it, exit code). Raises LeaseLost."""
    wish, deadline = Wish.GO_ON, float("inf")
    beaten = time.monotonic()
    while (code := child.ended(within=supervision.beat)) is None:
        now = time.monotonic()
        try:
            job = supervision.jobs.heartbeat(
                job_id, fence=fence, lease_seconds=supervision.lease_seconds
            )
            beaten = now
        except LeaseLost:
            if not supervision.jobs.get(job_id, SYSTEM).status.finished:
                raise
            return wish, child.ended(within=FINISH_PATIENCE)
        except (Unavailable, StorageFull) as error:
            _log.warning("heartbeat_missed", job=job_id, reason=error.message)
            if now - beaten > supervision.lease_seconds:
                raise LeaseLost("the lease could not be prolonged for its whole length") from None
            continue
        if job.trained_tokens is not None:  # training is over: a core is free for the next one
            supervision.starter.prepare()
        wanted = wanted_of(job, shutting_down=supervision.stopping.is_set())
        if wanted is Wish.CANCEL or now > deadline:
            return wanted, None
        if wanted is not wish:
            wish, deadline = wanted, now + _patience(wanted)
            child.ask_to_stop()
        if supervision.stopping.is_set():  # also while a pause is awaited
            deadline = min(deadline, now + SHUTDOWN_PATIENCE)
    return wish, code


def wanted_of(job: Job, *, shutting_down: bool) -> Wish:
    """What the job's owner or the trainer's wants of the child."""
    if job.stop_requested is StopRequest.CANCEL:
        return Wish.CANCEL
    if job.stop_requested is StopRequest.PAUSE:
        return Wish.PAUSE
    return Wish.SHUT_DOWN if shutting_down else Wish.GO_ON


def _patience(wish: Wish) -> float:
    return SHUTDOWN_PATIENCE if wish is Wish.SHUT_DOWN else PAUSE_PATIENCE


def _settled(job_id: JobId, fence: int, wish: Wish, supervision: Supervision) -> bool:
    """After a child is gone: whether nothing is left to do here. False means that it crashed."""
    job = supervision.jobs.get(job_id, SYSTEM)
    if job.status is not JobStatus.RUNNING or job.lease is None or job.lease.fence != fence:
        return True
    wish = (
        wanted_of(job, shutting_down=supervision.stopping.is_set()) if wish is Wish.GO_ON else wish
    )
    try:
        if wish is Wish.CANCEL:
            supervision.jobs.finish(job_id, JobStatus.CANCELLED, fence=fence)
            _say(job_id, "Fine-tuning job cancelled", "info", supervision)
        elif wish is Wish.PAUSE:
            supervision.jobs.finish(job_id, JobStatus.PAUSED, fence=fence)
            _say(job_id, "Fine-tuning job paused", "info", supervision)
    except LeaseLost:
        _log.warning("lease_lost", job=job_id)
        return True
    return wish is not Wish.GO_ON


def _tell_crash(job: Job, code: int | None, crash: int, supervision: Supervision) -> None:
    words = describe_exit(code) if code is not None else "was ended"
    again = "it goes on from its last checkpoint" if crash < MAX_CRASHES else "giving up"
    _log.error("child_crashed", job=job.id, code=code, crash=crash)
    _say(
        job.id,
        f"The training process {words} (attempt {crash} of {MAX_CRASHES}); {again}",
        "warn",
        supervision,
    )


def _fail(job: Job, supervision: Supervision, why: str) -> None:
    error = JobError(code="trainer_crashed", message=f"{why}; start a new job to try again")
    try:
        supervision.jobs.finish(job.id, JobStatus.FAILED, fence=_fence(job), error=error)
    except LeaseLost:
        _log.warning("lease_lost", job=job.id)
        return
    _say(job.id, error.message, "error", supervision)


def _fence(job: Job) -> int:
    """Raises LeaseLost where there is none."""
    if job.lease is None:
        raise LeaseLost(f"job {job.id} is not leased")
    return job.lease.fence


def _say(job_id: JobId, message: str, level: str, supervision: Supervision) -> None:
    """Events are for people: one that cannot be written changes nothing."""
    try:
        supervision.jobs.say(job_id, message, level=level)
    except (Unavailable, StorageFull) as error:
        _log.warning("event_not_written", job=job_id, reason=error.message)
