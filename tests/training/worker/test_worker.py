"""The trainer as a process: it is killed, stopped and started again, and no job is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from adapters.domain.jobs import JobError, JobStatus
from adapters.domain.names import JobId
from adapters.errors import StorageFull
from adapters.registry import Registry
from adapters.signatures import Signer, public_pem
from tests.training.worker.fake_trainer import no_dry_run
from tests.training.world import World, alive, child_command, data, wait_until
from training.worker.job_supervisor import Supervision
from training.worker.main import Trainer, sweep
from training.worker.spare_process import Starter

pytestmark = pytest.mark.timeout(600)

LEASE = 2.0


@contextmanager
def running(world: World, mode: str) -> Iterator[subprocess.Popen[bytes]]:
    module = "tests.training.worker.fake_trainer"
    arguments = [str(world.state.root), str(world.units), str(LEASE), mode]
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def hanging(world: World, job_id: JobId) -> Callable[[], bool]:
    return (world.state.job(job_id) / "helper").exists


def status_is(world: World, job_id: JobId, status: JobStatus) -> Callable[[], bool]:
    return lambda: world.job(job_id).status is status


def test_a_new_job_is_validated_run_and_its_scratch_removed(world: World) -> None:
    world.report_ready()
    good, bad = world.add_job(data()), world.add_job(b"nonsense")
    with running(world, "finish"):
        wait_until(status_is(world, good, JobStatus.SUCCEEDED))
        wait_until(status_is(world, bad, JobStatus.FAILED))
        wait_until(lambda: not world.state.job(good).exists())


def test_jobs_stay_queued_until_the_service_is_ready(world: World) -> None:
    job_id = world.add_job(data())
    with running(world, "finish") as process:
        wait_until(status_is(world, job_id, JobStatus.QUEUED))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        assert world.job(job_id).status is JobStatus.QUEUED
        world.report_ready()
        wait_until(status_is(world, job_id, JobStatus.SUCCEEDED))


def test_one_units_damaged_version_keeps_no_jobs_waiting(world: World) -> None:
    world.report_ready(ready=False)  # as a replica says that cannot load one live version
    job_id = world.add_job(data())
    with running(world, "finish"):
        wait_until(status_is(world, job_id, JobStatus.SUCCEEDED))


def test_a_trainer_killed_with_9_is_followed_by_one_that_finishes_the_job(world: World) -> None:
    world.report_ready()
    job_id = world.add_job(data())
    with running(world, "hang") as first:
        wait_until(hanging(world, job_id))
        first.send_signal(signal.SIGKILL)
        first.wait()
    child = int((world.state.job(job_id) / "started").read_text())
    wait_until(lambda: not alive(child))
    os.kill(int((world.state.job(job_id) / "helper").read_text()), signal.SIGKILL)
    with running(world, "finish"):
        wait_until(status_is(world, job_id, JobStatus.SUCCEEDED))
    assert world.job(job_id).attempts == 2


def test_a_trainer_asked_to_stop_ends_cleanly_and_its_job_goes_on_later(world: World) -> None:
    world.report_ready()
    job_id = world.add_job(data())
    with running(world, "hang") as first:
        wait_until(hanging(world, job_id))
        first.send_signal(signal.SIGTERM)
        assert first.wait(45.0) == 0
    assert world.job(job_id).status is JobStatus.RUNNING
    with running(world, "finish"):
        wait_until(status_is(world, job_id, JobStatus.SUCCEEDED))


def a_trainer(world: World, registry: Registry, stopping: threading.Event) -> Trainer:
    return Trainer(
        registry=registry,
        store=world.store,
        state=world.state,
        units=world.units,
        owner="test",
        supervision=Supervision(
            jobs=registry.jobs,
            starter=Starter(child_command(world.state, "finish"), os.environ),
            lease_seconds=60.0,
            stopping=stopping,
        ),
        stopping=stopping,
        dry_run=no_dry_run,
    )


def test_another_units_typo_lets_new_jobs_wait_and_tells_them_nothing(world: World) -> None:
    job_id = world.add_job(data())
    typo = world.units / "sales.yaml"
    typo.write_text("unit: sales\naliases: [sales]\nrecipe: {rnak: 8}\n")
    trainer = a_trainer(world, world.registry, threading.Event())
    assert trainer._validate_new(False)
    assert trainer._validate_new(True)
    assert world.job(job_id).status is JobStatus.VALIDATING_FILES
    assert world.messages(job_id) == []
    typo.unlink()
    assert not trainer._validate_new(True)
    assert world.job(job_id).status is JobStatus.QUEUED


def test_a_trainer_runs_as_many_jobs_at_once_as_it_may(world: World) -> None:
    world.report_ready()
    jobs = [world.add_queued_job(data(40, start=100 * at)) for at in range(3)]
    stopping = threading.Event()

    def supervision() -> Supervision:
        return Supervision(
            jobs=world.registry.jobs,
            starter=Starter(child_command(world.state, "hang"), os.environ),
            lease_seconds=60.0,
            stopping=stopping,
        )

    trainer = replace(
        a_trainer(world, world.registry, stopping),
        supervision=supervision(),
        more=[supervision()],
    )
    thread = threading.Thread(target=trainer.run)
    thread.start()
    try:
        wait_until(lambda: all(hanging(world, job_id)() for job_id in jobs[:2]))
        assert world.job(jobs[2]).status is JobStatus.QUEUED
        pids = [int((world.state.job(job_id) / "started").read_text()) for job_id in jobs[:2]]
        assert all(map(alive, pids))
    finally:
        stopping.set()
        thread.join()
    assert not any(map(alive, pids))


class FullAtFirst:
    """The port of jobs without room for the first claim; it ends the trainer at the second."""

    def __init__(self, world: World, stopping: threading.Event) -> None:
        self._jobs, self._stopping, self.claims = world.registry.jobs, stopping, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jobs, name)

    def claim(self, **_: Any) -> None:
        self.claims += 1
        if self.claims == 1:
            raise StorageFull("there is no room left for the registry")
        self._stopping.set()


def test_a_registry_without_room_for_a_moment_does_not_end_the_trainer(world: World) -> None:
    world.report_ready()
    stopping = threading.Event()
    jobs: Any = FullAtFirst(world, stopping)
    a_trainer(world, replace(world.registry, jobs=jobs), stopping).run()
    assert jobs.claims == 2


@pytest.mark.parametrize(
    ("signer", "code"), [(None, "signing_key_missing"), (Signer.made(), "signature_untrusted")]
)
def test_what_nobody_would_load_is_said_loudly_as_soon_as_the_service_is_heard(
    world: World, signer: Signer | None, code: str
) -> None:
    world.report_ready(trusted_keys=["another"])
    stopping = threading.Event()
    trainer = replace(a_trainer(world, world.registry, stopping), signer=lambda: signer)
    with capture_logs() as told:
        thread = threading.Thread(target=trainer.run)
        thread.start()
        try:
            wait_until(lambda: any(each.get("code") == code for each in told))
        finally:
            stopping.set()
            thread.join()


def refusal(world: World, *, base: str, **more: str) -> str:
    """The one line that the real trainer says when it does not start."""
    environment = more | {
        "WARDROBE_STATE": str(world.state.root),
        "WARDROBE_UNITS": str(world.units),
        "WARDROBE_BASE": base,
    }
    done = subprocess.run(
        [sys.executable, "-m", "training.worker.main"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_second_trainer_on_the_same_state_folder_is_refused_in_one_line(world: World) -> None:
    with world.state.lock("trainer"):
        assert "another `wardrobe trainer`" in refusal(world, base=str(world.units))


@pytest.mark.parametrize("base", ["", "/nowhere/at/all"])
def test_a_trainer_without_a_base_model_is_refused_in_one_line(world: World, base: str) -> None:
    assert "WARDROBE_BASE must be the base model's folder" in refusal(world, base=base)


def test_a_trainer_that_cannot_sign_what_must_be_signed_is_refused_in_one_line(
    world: World, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(public_pem(Signer.made().public))
    shared = {"WARDROBE_DATABASE_URL": "postgresql://nowhere/at-all"}
    said = refusal(world, base=str(world.units), WARDROBE_TRUSTED_KEYS=str(trusted), **shared)
    assert "WARDROBE_SIGNING_KEY_FILE" in said


def test_a_trainer_that_could_not_report_as_it_is_told_is_refused_in_one_line(
    world: World,
) -> None:
    said = refusal(world, base=str(world.units), WARDROBE_REPORT_TO="comet")
    assert "`comet` is not one of" in said


def test_sweeping_keeps_the_scratch_of_unfinished_jobs_only(world: World) -> None:
    waiting = world.add_queued_job(data())
    failed = world.add_job(data())
    world.registry.jobs.accept(failed, error=JobError(code="invalid_file", message="no"))
    for name in (waiting, failed, JobId("ftjob-unknown")):
        world.state.job(name).mkdir(parents=True)
    sweep(world.state, world.registry.jobs)
    assert [path.name for path in world.state.job("x").parent.iterdir()] == [waiting]
