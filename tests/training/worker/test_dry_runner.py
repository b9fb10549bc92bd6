"""Processes that run dry runs, and what becomes of their jobs."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.names import Unit
from tests.training.worker.test_worker import a_trainer
from tests.training.world import UNIT, World, data, wait_until
from training.job.order import AGAIN
from training.worker.dry_runner import DryRunCrashed, DryRunner, next_in_turn


def runner(code: str, stopping: threading.Event) -> DryRunner:
    return DryRunner(lambda job_id: [sys.executable, "-c", code, job_id], os.environ, stopping)


def test_a_process_that_crashed_is_told_and_one_that_is_to_be_tried_again_is_not(
    world: World,
) -> None:
    stopping = threading.Event()
    job = world.job(world.add_job(data(), dry_run=True))
    runner("import sys; assert sys.argv[1].startswith('ftjob-')", stopping)(job)
    with pytest.raises(DryRunCrashed, match="exit code 3"):
        runner("raise SystemExit(3)", stopping)(job)
    stopping.set()  # else it waits a while before the next try
    runner(f"raise SystemExit({AGAIN})", stopping)(job)


def test_a_trainer_that_stops_ends_the_process_and_leaves_the_job(world: World) -> None:
    stopping = threading.Event()
    job_id = world.add_job(data(), dry_run=True)
    threading.Timer(0.5, stopping.set).start()
    started = time.monotonic()
    runner("import time; time.sleep(500)", stopping)(world.job(job_id))
    assert time.monotonic() - started < 300
    assert world.job(job_id).status is JobStatus.VALIDATING_FILES


def test_units_take_turns_with_their_dry_runs(world: World) -> None:
    mine = [world.job(world.add_job(data(), dry_run=True)) for _ in range(3)]
    theirs = replace(mine[2], unit=Unit("sales"))
    waiting = [mine[0], mine[1], theirs]
    assert next_in_turn(waiting, []) is mine[0]
    assert next_in_turn(waiting[1:], [UNIT]) is theirs
    assert next_in_turn([mine[1]], [UNIT, Unit("sales")]) is mine[1]
    assert next_in_turn([], [UNIT]) is None


def test_a_dry_run_that_cannot_be_made_fails_its_job_and_holds_up_no_other(world: World) -> None:
    stopping = threading.Event()
    trainer = replace(
        a_trainer(world, world.registry, stopping), dry_run=runner("raise SystemExit(1)", stopping)
    )
    broken, good = world.add_job(data(), dry_run=True), world.add_job(data())
    thread = threading.Thread(target=trainer.run)
    thread.start()
    try:
        wait_until(lambda: world.job(broken).status is JobStatus.FAILED)
        wait_until(lambda: world.job(good).status is not JobStatus.VALIDATING_FILES)
    finally:
        stopping.set()
        thread.join()
    error = world.job(broken).error
    assert error is not None
    assert error.code == "internal_error"
