"""Small jobs that are killed with 9 at places drawn by a seed: each of them ends, once.

Real trainer, real supervisor, real pipeline, registry and store; fine-tuner and service are toys.
Places are counted, not timed: the same on every machine. `JOB_KILLS` (10) resizes it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from adapters.domain.jobs import JobStatus
from adapters.domain.names import Digest, JobId
from adapters.domain.principals import SYSTEM
from tests.training.worker.orders import Order, carried_out, give
from tests.training.world import World, alive, data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("JOB_KILLS", "10"))
SEED = int(os.environ.get("JOB_KILLS_SEED", "1"))
PLACES = 160
"""A little more than a job has: some are killed never."""
AT_MOST = 2
"""Kills of one job: at the third death of a child its job is given up."""
LEASE = 2.0


def start(world: World) -> subprocess.Popen[bytes]:
    module = "tests.training.worker.fake_trainer"
    words = [str(world.state.root), str(world.units), str(LEASE), "mortal"]
    return subprocess.Popen([sys.executable, "-m", module, *words])


def ordered(world: World) -> list[JobId]:
    """Jobs with orders for as many kills as are wanted, of which some come to no place."""
    draw, jobs, wanted = random.Random(SEED), list[JobId](), 0
    while wanted < KILLS:
        job_id = world.add_job(data(40, start=1000 * len(jobs)))
        kills = min(draw.randint(1, AT_MOST), KILLS - wanted)
        orders = [
            Order(
                place=draw.randint(1, PLACES),
                victim=draw.choice(("child", "child", "trainer")),
            )
            for _ in range(kills)
        ]
        give(orders_of(world), job_id, orders)
        wanted += kills
        jobs.append(job_id)
    return jobs


def orders_of(world: World) -> Path:
    return world.state.root.parent / "orders"


def scratch_of(world: World) -> Path:
    return world.state.job(JobId("any")).parent


def finished(world: World, jobs: list[JobId]) -> bool:
    return all(world.job(job_id).status.finished for job_id in jobs)


def test_jobs_that_are_killed_anywhere_end_once_with_one_version_and_leave_nothing(
    world: World,
) -> None:
    world.report_ready()
    jobs = ordered(world)
    trainers = [start(world)]
    try:
        while not finished(world, jobs) or any(scratch_of(world).iterdir()):
            if trainers[-1].poll() is not None:
                assert trainers[-1].returncode == -signal.SIGKILL
                trainers.append(start(world))
            world.replica.load()
            world.replica.observe()
            time.sleep(0.05)
        trainers[-1].terminate()
        assert trainers[-1].wait() == 0
    finally:
        trainers[-1].kill()
        trainers[-1].wait()
    judge(world, jobs)
    killed = carried_out(orders_of(world))
    print(f"{len(jobs)} jobs, {killed} kills, {len(trainers) - 1} of them of the trainer")
    assert killed >= KILLS // 2


def judge(world: World, jobs: list[JobId]) -> None:
    ended = {job_id: world.job(job_id) for job_id in jobs}
    told = {job_id: (job.status, job.error) for job_id, job in ended.items()}
    assert set(told.values()) == {(JobStatus.SUCCEEDED, None)}
    versions = world.registry.versions.list(SYSTEM, adapter=None, after=None, limit=1000).items
    assert Counter(version.job_id for version in versions) == Counter(jobs)
    assert {job.fine_tuned_model for job in ended.values()} == {each.name for each in versions}
    for folder in (world.state.artifacts / "adapters").iterdir():
        world.store.fetch(Digest(folder.name))  # whole and verified, or not visible
    assert {version.digest for version in versions} <= set(world.published())
    pids = map(int, (world.state.root.parent / "pids").read_text().split())
    assert not [pid for pid in pids if is_ours(pid)]


def is_ours(pid: int) -> bool:
    """Whether a child of a job still runs under its number."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
    return b"mortal_child" in words and alive(pid)
