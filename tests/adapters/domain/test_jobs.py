"""A job's states."""

from __future__ import annotations

import pytest

from adapters.domain.jobs import JobStatus
from adapters.errors import IllegalTransition
from tests.adapters.registry.values import a_job

ARROWS = {
    "validating_files": {"queued", "failed", "cancelled"},
    "queued": {"running", "paused", "cancelled"},
    "running": {"succeeded", "failed", "cancelled", "paused"},
    "paused": {"queued", "cancelled"},
    "succeeded": set(),
    "failed": set(),
    "cancelled": set(),
}


@pytest.mark.parametrize("before", list(JobStatus))
@pytest.mark.parametrize("after", list(JobStatus))
def test_a_job_moves_along_the_drawn_arrows_only(before: JobStatus, after: JobStatus) -> None:
    job = a_job(status=before)
    if after.value in ARROWS[before.value]:
        assert job.to(after, finished_at=3.0) == a_job(id=job.id, status=after, finished_at=3.0)
    else:
        with pytest.raises(IllegalTransition) as raised:
            job.to(after)
        assert raised.value.reason == "job_state"


@pytest.mark.parametrize("status", list(JobStatus))
def test_finished_is_what_nothing_follows(status: JobStatus) -> None:
    assert status.finished is (not ARROWS[status.value])
