"""The trainer: `python -m training.worker.main`, one process beside the service.

Validates new jobs, claims queued ones and deserted running ones, and runs each in turn, or as many
at once as it is told. It holds nothing that it could not lose: killed at any point, it or another
trainer takes the jobs up again when their leases end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from adapters.brought_keys import trainer_environment
from adapters.domain.jobs import Job, JobError, JobStatus
from adapters.domain.names import Digest, JobId, Unit
from adapters.domain.principals import SYSTEM
from adapters.domain.units import InvalidUnits, Units, load_units
from adapters.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    StorageFull,
    Unavailable,
    WardrobeError,
)
from adapters.logs import configure_logs
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import Jobs, Replica
from adapters.settings import Settings
from adapters.signatures import Signer
from adapters.signing_keys import check_can_sign, find_signer
from adapters.state_folder import StateFolder
from adapters.store import ArtifactStore
from adapters.store.open import open_store
from adapters.telemetry_off import turn_telemetry_off
from training.job.order import Order
from training.job.service_limits import check_signed, reporting, trusted_by_all
from training.job.trackers import report_to
from training.worker.dry_runner import DryRunner, next_in_turn
from training.worker.import_prover import ImportProver
from training.worker.job_supervisor import Supervision, supervise
from training.worker.job_validator import validate_job
from training.worker.metrics import TrainingMetrics, serve_metrics
from training.worker.spare_process import Starter

POLL = 0.25
"""Seconds between two looks at the queue."""
_JOIN = 2.0
_REMEMBERED = 1000
_RUN = (sys.executable, "-m", "training.job")
_DRY_RUN = (sys.executable, "-m", "training.job.dry_run")
_EVALUATE = (sys.executable, "-m", "training.job.evaluate_again")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The loop and its parts; `stopping` ends it."""

    registry: Registry
    store: ArtifactStore
    state: StateFolder
    units: Path
    owner: str
    supervision: Supervision
    stopping: threading.Event
    dry_run: Callable[[Job], None]
    """Ends a job that asks for a dry run; raises where it could not."""
    more: Sequence[Supervision] = ()
    """One for each job that may run beside the first: each has a thread, and a starter, of its
    own."""
    imports: ImportProver | None = None
    on_end: Callable[[JobId], None] = lambda _: None
    """Called when a job is no longer supervised here, whatever became of it."""
    signer: Callable[[], Signer | None] = lambda: None
    """Finds what jobs sign with; on one machine the service makes it, perhaps after our start."""
    dry_runs_done: deque[Unit] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Whose, the latest last."""

    def run(self) -> None:
        """Until `stopping` is set. The first job's children die with the calling thread."""
        checkers = [
            threading.Thread(target=self._repeat, args=(step,), name=name, daemon=True)
            for name, step in (("validator", self._validate_new), ("dry-runs", self._dry_run_next))
        ]
        for thread in checkers:
            thread.start()
        beside = [
            threading.Thread(target=self._beside, args=(each,), name=f"jobs-{at}")
            for at, each in enumerate(self.more, start=2)
        ]
        for thread in beside:
            thread.start()
        try:
            self._take_jobs(self.supervision)
        finally:
            self.stopping.set()
            for thread in beside:  # each ends its child, which `supervise` bounds
                thread.join()
        for thread in checkers:
            thread.join(_JOIN)

    def _beside(self, supervision: Supervision) -> None:
        """The edge of a thread: whatever ends it ends the trainer, which is started anew."""
        try:
            self._take_jobs(supervision)
        except Exception:
            _log.exception("jobs_crashed")
        finally:
            self.stopping.set()

    def _take_jobs(self, supervision: Supervision) -> None:
        """One job after the other."""
        swept, heard = False, None
        supervision.starter.prepare()
        try:
            while not self.stopping.is_set():
                try:
                    if not swept:
                        sweep(self.state, self.registry.jobs)
                        swept = True
                    heard = self._turn(supervision, heard)
                except (Unavailable, StorageFull) as error:
                    _log.warning("registry_unavailable", reason=error.message)
                    self.stopping.wait(1.0)
        finally:
            supervision.starter.close()

    def _turn(self, supervision: Supervision, heard: bool | None) -> bool:
        """One look at the queue; the answer is whether the service is `heard`, as it was told of
        last; None: nothing was told yet.
        """
        replicas = reporting(self.registry.replicas)
        if not replicas:
            if heard is not False:
                _log.info("waiting_for_service", hint="no replica reports")
            self.stopping.wait(POLL)
            return False
        if not heard:
            _log.info("service_reports")
            self._tell_unless_loadable(replicas)
        job = self.registry.jobs.claim(owner=self.owner, lease_seconds=supervision.lease_seconds)
        if job is None:
            first = supervision is self.supervision  # one proves, whoever else waits
            if not (first and self._prove_import({each.base_fingerprint for each in replicas})):
                self.stopping.wait(POLL)
            return True
        _log.info("job_claimed", job=job.id, unit=job.unit, attempt=job.attempts)
        supervise(job, supervision)
        self.on_end(job.id)
        supervision.starter.prepare()
        sweep(self.state, self.registry.jobs)
        return True

    def _tell_unless_loadable(self, replicas: Sequence[Replica]) -> None:
        """Says loudly what every job would fail with before it trains."""
        signer = self.signer()
        try:
            check_signed(trusted_by_all(replicas), signer.key_id if signer else None)
        except Conflict as problem:
            _log.error("nothing_would_be_loaded", code=problem.reason, hint=problem.message)

    def _prove_import(self, bases: Collection[Digest]) -> bool:
        return self.imports is not None and self.imports.step(bases)

    def _repeat(self, step: Callable[[bool], bool]) -> None:
        """Checks new jobs beside the running one, until asked to stop: the edge of its thread."""
        unreadable = False
        while not self.stopping.wait(POLL):
            try:
                unreadable = step(unreadable)
            except WardrobeError as error:
                _log.warning("validation_interrupted", reason=error.message)
            except Exception:
                _log.exception("validation_crashed")
                self.stopping.wait(1.0)

    def _dry_run_next(self, _: bool) -> bool:
        """One dry run, in a thread of its own: it takes longer than other jobs' validation may."""
        job = next_in_turn([job for job in self._new_jobs() if job.dry_run], self.dry_runs_done)
        if job is not None:
            self.dry_runs_done.append(job.unit)
            self._check(job, lambda: self.dry_run(job))
        return False

    def _new_jobs(self) -> Sequence[Job]:
        return self.registry.jobs.in_status(JobStatus.VALIDATING_FILES)

    def _validate_new(self, unreadable: bool) -> bool:
        """One look at new jobs; the answer is whether the units folder cannot be read.

        They wait then: one unit's typo is neither another unit's mistake nor its business.
        """
        jobs = [job for job in self._new_jobs() if not job.dry_run]
        if not jobs:
            return unreadable
        try:
            units = load_units(self.units)
        except InvalidUnits as error:
            if not unreadable:
                _log.error("units_unreadable", problems=error.problems, waiting_jobs=len(jobs))
            return True
        for job in jobs:
            if not self.stopping.is_set():
                self._check(job, partial(self._validate_one, job, units))
        return False

    def _validate_one(self, job: Job, units: Units) -> None:
        validate_job(
            job,
            registry=self.registry,
            store=self.store,
            units=units,
            workdir=self.state.job(job.id),
        )

    def _check(self, job: Job, check: Callable[[], None]) -> None:
        try:
            check()
        except WardrobeError:
            raise
        except Exception:
            # A job that cannot even be refused must not stand in the way of the others.
            _log.exception("validation_crashed", job=job.id)
            error = JobError(
                code="internal_error",
                message="the files could not be checked; the trainer's log says why",
            )
            self.registry.jobs.accept(job.id, error=error)


def sweep(state: StateFolder, jobs: Jobs) -> None:
    """Removes the scratch of jobs that have ended or are not known."""
    folder = state.job("any").parent
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            ended = jobs.get(JobId(path.name), SYSTEM).status.finished
        except NotFound:
            ended = True
        if ended:
            shutil.rmtree(path, ignore_errors=True)


def child_command(order: Order, *, slot: int = 0) -> Sequence[str]:
    """The command line of a job's process; `slot` is which of those at once it is, from 0."""
    return [*_RUN, "--job", order.job_id, "--fence", str(order.fence), "--slot", str(slot)]


def main() -> int:
    """Runs the trainer with the settings of the environment; the answer is the exit code."""
    turn_telemetry_off()
    settings = Settings()
    configure_logs(settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    state = settings.state_folder.create()
    try:
        _check_base(settings)
        check_can_sign(settings)
        report_to(settings.report_to, os.environ)
        with state.lock("trainer"):
            _run(settings, state, stopping)
    except WardrobeError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


def _check_base(settings: Settings) -> None:
    if not settings.base or not Path(settings.base).is_dir():
        raise InvalidRequest(
            "WARDROBE_BASE must be the base model's folder; `wardrobe trainer` finds it by itself"
        )


def _run(settings: Settings, state: StateFolder, stopping: threading.Event) -> None:
    registry = open_registry(settings.registry_url)
    environment = trainer_environment(settings, os.environ)

    def supervision(starter: Starter) -> Supervision:
        return Supervision(
            jobs=registry.jobs,
            starter=starter,
            lease_seconds=settings.lease_seconds,
            stopping=stopping,
        )

    try:
        # a spare for one: each holds the memory of its imports
        first = Starter(child_command, environment, waiting=[*_RUN, "--wait"])
        others = [
            Starter(partial(child_command, slot=slot), environment)
            for slot in range(1, settings.train_jobs)
        ]
        metrics = TrainingMetrics(registry.jobs, state)
        if settings.train_metrics_port:
            serve_metrics(settings.train_metrics_port, metrics)
        _log.info("trainer_started", pid=os.getpid())
        Trainer(
            registry=registry,
            store=open_store(settings),
            state=state,
            units=settings.units,
            owner=f"{socket.gethostname()}:{os.getpid()}",
            supervision=supervision(first),
            stopping=stopping,
            dry_run=DryRunner(lambda job_id: [*_DRY_RUN, job_id], environment, stopping),
            more=[supervision(starter) for starter in others],
            imports=ImportProver(
                versions=registry.versions,
                datasets=registry.datasets,
                command=lambda version: [*_EVALUATE, version],
                environment=environment,
                stopping=stopping,
            ),
            signer=lambda: find_signer(settings),
            on_end=metrics.note_end,
        ).run()
        _log.info("trainer_stopped")
    finally:
        registry.close()


if __name__ == "__main__":
    sys.exit(main())
