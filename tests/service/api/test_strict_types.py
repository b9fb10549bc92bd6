"""What of our job objects the SDK's own types hold, where somebody has them checked strictly.

By default the SDK checks nothing. With `_strict_response_validation` it does, and then only what
OpenAI has a word for passes: what is listed as foreign here is documented as ours.
"""

from __future__ import annotations

import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import BaseModel, ValidationError

from adapters.domain.jobs import Job, JobCheckpoint, JobError, JobEvent, JobStatus
from adapters.domain.names import FileId, JobId, Unit
from adapters.domain.recipes import Hyperparameters, Method
from service.api.job_objects import wire_checkpoint, wire_event, wire_job


def a_job(status: JobStatus, method: Method) -> Job:
    return Job(
        id=JobId("ftjob-1"),
        unit=Unit("hr"),
        adapter="hr",
        model="tiny",
        training_file=FileId("file-1"),
        validation_file=None,
        status=status,
        created_at=1.5,
        created_by="key_1",
        seed=1,
        suffix=None,
        hyperparameters=Hyperparameters(method=method),
        error=JobError(code="diverged", message="at step 3") if status == "failed" else None,
    )


def foreign(model: type[BaseModel], wire: object) -> set[str]:
    """The fields that the SDK's type does not take."""
    try:
        model.model_validate(wire)
    except ValidationError as error:
        return {".".join(map(str, each["loc"])) for each in error.errors()}
    return set()


@pytest.mark.parametrize("status", list(JobStatus))
@pytest.mark.parametrize("method", list(Method))
def test_a_job_is_openais_but_for_what_openai_has_no_word_for(
    status: JobStatus, method: Method
) -> None:
    expected = {"status"} if status is JobStatus.PAUSED else set()
    expected |= {"method.type"} if method is Method.KTO else set()
    assert foreign(FineTuningJob, wire_job(a_job(status, method))) == expected


def test_events_are_openais_but_for_the_types_that_are_ours() -> None:
    def told(kind: str) -> set[str]:
        event = JobEvent(
            id=1,
            job_id=JobId("ftjob-1"),
            created_at=1.0,
            level="info",
            type=kind,
            message="said",
            data={"step": 1},
        )
        return foreign(FineTuningJobEvent, wire_event(event))

    assert [told(kind) for kind in ("message", "metrics")] == [set(), set()]
    assert [told(kind) for kind in ("gate_checks", "data_report")] == [{"type"}, {"type"}]


def test_a_checkpoint_is_openais_but_for_a_name_that_would_not_answer() -> None:
    point = JobCheckpoint(
        id=1, job_id=JobId("ftjob-1"), created_at=1.0, step=5, metrics={"train_loss": 1.0}
    )
    wire = wire_checkpoint(point, None)
    assert foreign(FineTuningJobCheckpoint, wire) == {"fine_tuned_model_checkpoint"}
    named = wire | {"fine_tuned_model_checkpoint": "support:1"}
    assert foreign(FineTuningJobCheckpoint, named) == set()
