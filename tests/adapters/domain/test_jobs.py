"""A job's states."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import FileId, JobId, Unit
from adapters.errors import IllegalTransition

ARROWS = {
    "validating_files": {"queued", "failed", "cancelled"},
    "queued": {"running", "paused", "cancelled"},
    "running": {"succeeded", "failed", "cancelled", "paused"},
    "paused": {"queued", "cancelled"},
    "succeeded": set(),
    "failed": set(),
    "cancelled": set(),
}


def a_job(status: JobStatus) -> Job:
    return Job(
        id=JobId("ftjob-1"),
        unit=Unit("support"),
        adapter="support",
        model="base",
        training_file=FileId("file-training"),
        validation_file=None,
        status=status,
        created_at=1.5,
        created_by="key_1",
        seed=17,
    )


@pytest.mark.parametrize("before", list(JobStatus))
@pytest.mark.parametrize("after", list(JobStatus))
def test_a_job_moves_along_the_drawn_arrows_only(before: JobStatus, after: JobStatus) -> None:
    job = a_job(before)
    if after.value in ARROWS[before.value]:
        assert job.to(after, finished_at=3.0) == replace(a_job(after), finished_at=3.0)
    else:
        with pytest.raises(IllegalTransition) as raised:
            job.to(after)
        assert raised.value.reason == "job_state"


@pytest.mark.parametrize("after", list(JobStatus))
def test_a_dry_run_ends_behind_its_validation_and_never_waits_for_a_trainer(
    after: JobStatus,
) -> None:
    job = replace(a_job(JobStatus.VALIDATING_FILES), dry_run=True)
    if after in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED):
        assert job.to(after).status is after
    else:
        with pytest.raises(IllegalTransition):
            job.to(after)


@pytest.mark.parametrize("status", list(JobStatus))
def test_finished_is_what_nothing_follows(status: JobStatus) -> None:
    assert status.finished is (not ARROWS[status.value])
