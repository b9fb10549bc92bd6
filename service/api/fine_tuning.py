"""`/v1/fine_tuning/jobs`: OpenAI's fine-tuning API over the job table.

The service only records and shows jobs; the trainer does them. Fields of ours carry `x_`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters.domain.jobs import Job, JobCheckpoint, JobEvent, StopRequest
from adapters.domain.names import FileId, JobId, new_job_id
from adapters.domain.principals import Principal
from adapters.domain.recipes import Hyperparameters
from adapters.domain.units import UnitConfig
from adapters.errors import InvalidRequest, NotFound
from adapters.registry.ports import Files, NewJob
from service.api.request import (
    CursorOf,
    OwnerOf,
    RuntimeOf,
    Text,
    body_of,
    idempotency_key_of,
    named_unit,
    page,
)
from service.api.route_commands import Why, WhyOf
from service.runtime import Runtime

router = APIRouter(prefix="/v1/fine_tuning/jobs")

MAX_METADATA = 16
"""Pairs of a job, and filters of a list."""
_METADATA = re.compile(r"metadata\[([^\]]{1,64})\]")


def _auto(value: object) -> object:
    return None if value == "auto" else value


class RequestedHyperparameters(BaseModel):
    """OpenAI's three, each a number or `auto`."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Annotated[int | None, BeforeValidator(_auto)] = Field(default=None, ge=1, le=50)
    batch_size: Annotated[int | None, BeforeValidator(_auto)] = Field(default=None, ge=1, le=256)
    learning_rate_multiplier: Annotated[float | None, BeforeValidator(_auto)] = Field(
        default=None, gt=0.0, le=100.0, allow_inf_nan=False
    )


class Supervised(BaseModel):
    """OpenAI's `supervised`, the only method there is."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: RequestedHyperparameters = RequestedHyperparameters()


class Method(BaseModel):
    """OpenAI's `method`."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class CreateJob(BaseModel):
    """The body of `jobs.create`."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    training_file: str = Field(min_length=1, max_length=64)
    validation_file: str | None = Field(default=None, max_length=64)
    suffix: str | None = Field(default=None, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    metadata: (
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None
    ) = Field(default=None, max_length=MAX_METADATA)
    method: Method | None = None
    hyperparameters: RequestedHyperparameters | None = None
    integrations: list[dict[str, Any]] | None = Field(default=None, max_length=5)
    x_unit: str | None = Field(default=None, max_length=40)

    def knobs(self) -> Hyperparameters:
        """`method`'s hyperparameters, else the deprecated ones at the top."""
        given = self.method.supervised.hyperparameters if self.method else self.hyperparameters
        return Hyperparameters.model_validate((given or RequestedHyperparameters()).model_dump())


@router.post("")
async def create_job(request: Request, runtime: RuntimeOf, principal: OwnerOf) -> dict[str, Any]:
    """Queues a job.

    A repeated `Idempotency-Key` answers with the first job; 409 where it asks for another one.
    """
    asked = await body_of(request, CreateJob)
    key = idempotency_key_of(request)
    create = runtime.threads.command(principal, _create, runtime, principal, asked, key)
    return wire_job(await create)


def _create(runtime: Runtime, principal: Principal, asked: CreateJob, key: str | None) -> Job:
    new = _new_job(runtime, principal, asked)
    for param in ("training_file", "validation_file"):
        _check_purpose(runtime.registry.files, principal, new, param)
    jobs = runtime.registry.jobs
    try:
        stored = jobs.create(new, principal, idempotency_key=key)
    except NotFound as missing:
        raise InvalidRequest(
            f"`{missing.param}` names no file of this unit",
            param=missing.param,
            code="file_not_found",
        ) from None
    if stored.id == new.id:
        jobs.say(stored.id, "Created fine-tuning job")
        if asked.integrations:
            words = "Integrations are ignored: nothing leaves this service"
            jobs.say(stored.id, words, level="warn")
    return stored


def _new_job(runtime: Runtime, principal: Principal, asked: CreateJob) -> NewJob:
    unit = named_unit(runtime, principal, asked.x_unit, param="x_unit")
    config = runtime.units.current.units.get(unit)
    base = runtime.table.base_name
    if asked.model != base:
        raise NotFound(
            f"`model` must be the base model, `{base}`", param="model", code="model_not_found"
        )
    return NewJob(
        id=new_job_id(),
        unit=unit,
        adapter=_adapter(config, asked.suffix),
        model=asked.model,
        training_file=FileId(asked.training_file),
        validation_file=FileId(asked.validation_file) if asked.validation_file else None,
        seed=asked.seed,
        suffix=asked.suffix,
        hyperparameters=asked.knobs(),
        metadata=asked.metadata,
    )


def _adapter(config: UnitConfig, suffix: str | None) -> str:
    """Which of the unit's adapters a job builds: the one `suffix` names, else the first."""
    if suffix is None:
        return config.aliases[0]
    if suffix not in config.aliases:
        raise InvalidRequest(
            f"`suffix` must be one of this unit's aliases: {', '.join(config.aliases)}",
            param="suffix",
        )
    return suffix


def _check_purpose(files: Files, principal: Principal, job: NewJob, param: str) -> None:
    """Raises InvalidRequest for a file that is no training data; whether it is there is decided
    where the job is stored, so that a repeated request finds its job whatever became of the file.
    """
    file_id: FileId | None = getattr(job, param)
    if file_id is None:
        return
    with suppress(NotFound):
        if files.get(file_id, principal).purpose != "fine-tune":
            raise InvalidRequest(f"`{param}` must have the purpose `fine-tune`", param=param)


@router.get("")
async def list_jobs(
    request: Request,
    runtime: RuntimeOf,
    principal: OwnerOf,
    cursor: CursorOf,
    metadata: Text = None,
) -> dict[str, Any]:
    """The caller's jobs, newest first; `metadata[k]=v` filters."""
    if metadata is not None:
        raise InvalidRequest("filter as `metadata[key]=value`", param="metadata")
    wanted = {
        match[1]: value
        for name, value in request.query_params.items()
        if (match := _METADATA.fullmatch(name))
    }
    if len(wanted) > MAX_METADATA:
        raise InvalidRequest(f"at most {MAX_METADATA} `metadata` filters", param="metadata")
    listed = await runtime.threads.read(
        principal,
        runtime.registry.jobs.list,
        principal,
        metadata=wanted or None,
        after=cursor.after,
        limit=cursor.limit,
    )
    return page([wire_job(job) for job in listed.items], listed)


@router.get("/{job_id}")
async def retrieve_job(job_id: str, runtime: RuntimeOf, principal: OwnerOf) -> dict[str, Any]:
    """One job."""
    return wire_job(await _job(runtime, principal, job_id))


async def _job(runtime: Runtime, principal: Principal, job_id: str) -> Job:
    get = runtime.registry.jobs.get
    return await runtime.threads.read(principal, get, JobId(job_id), principal)


@router.post("/{job_id}/cancel")
async def cancel_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Cancels an unfinished job; a running one stops at the trainer's next heartbeat."""
    return await _stop(runtime, principal, job_id, StopRequest.CANCEL, why)


@router.post("/{job_id}/pause")
async def pause_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Pauses a job; a running one stops behind its newest checkpoint."""
    return await _stop(runtime, principal, job_id, StopRequest.PAUSE, why)


async def _stop(
    runtime: Runtime, principal: Principal, job_id: str, stop: StopRequest, why: Why
) -> dict[str, Any]:
    request = runtime.registry.jobs.request_stop
    stopped = await runtime.threads.command(
        principal, request, JobId(job_id), stop, principal, reason=why.reason
    )
    return wire_job(stopped)


@router.post("/{job_id}/resume")
async def resume_job(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, why: WhyOf
) -> dict[str, Any]:
    """Puts a paused job back into the queue."""
    resume = runtime.registry.jobs.resume
    resumed = await runtime.threads.command(
        principal, resume, JobId(job_id), principal, reason=why.reason
    )
    return wire_job(resumed)


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, cursor: CursorOf
) -> dict[str, Any]:
    """What happened, newest first."""
    listed = await runtime.threads.read(
        principal,
        runtime.registry.jobs.events,
        JobId(job_id),
        principal,
        after=_number(cursor.after, "ftevent-"),
        limit=cursor.limit,
    )
    return page([wire_event(event) for event in listed.items], listed)


@router.get("/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str, runtime: RuntimeOf, principal: OwnerOf, cursor: CursorOf
) -> dict[str, Any]:
    """Where the validation loss was measured, newest first."""
    job = await _job(runtime, principal, job_id)
    listed = await runtime.threads.read(
        principal,
        runtime.registry.jobs.checkpoints,
        job.id,
        principal,
        after=_number(cursor.after, "ftckpt_"),
        limit=cursor.limit,
    )
    return page([wire_checkpoint(point, job) for point in listed.items], listed)


def _number(after: str | None, prefix: str) -> str | None:
    if after is None:
        return None
    number = after.removeprefix(prefix)
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidRequest("`after` must be an id of this list", param="after")
    return number


def wire_job(job: Job) -> dict[str, Any]:
    """OpenAI's fine-tuning job object."""
    resolved = job.resolved or {}
    knobs = {
        "n_epochs": resolved.get("n_epochs", job.hyperparameters.n_epochs or "auto"),
        "batch_size": resolved.get("batch_size", job.hyperparameters.batch_size or "auto"),
        "learning_rate_multiplier": job.hyperparameters.learning_rate_multiplier or "auto",
    }
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": _seconds(job.estimated_finish),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": "wardrobe",
        "result_files": list(job.result_files),
        "status": str(job.status),
        "trained_tokens": job.trained_tokens,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "seed": (job.resolved or {}).get("seed", job.seed),
        "hyperparameters": knobs,
        "method": {"type": "supervised", "supervised": {"hyperparameters": knobs}},
        "metadata": job.metadata,
        "integrations": [],
        "error": None
        if job.error is None
        else {"code": job.error.code, "message": job.error.message, "param": job.error.param},
        "x_unit": job.unit,
        "x_adapter": job.adapter,
        "x_attempts": job.attempts,
        "x_started_at": _seconds(job.started_at),
        "x_recipe": job.resolved,
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)


def wire_event(event: JobEvent) -> dict[str, Any]:
    """OpenAI's job event object."""
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.created_at),
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": event.data,
    }


def wire_checkpoint(point: JobCheckpoint, job: Job) -> dict[str, Any]:
    """OpenAI's checkpoint object."""
    return {
        "id": f"ftckpt_{point.id}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(point.created_at),
        "fine_tuned_model_checkpoint": (
            f"ft:{job.model}:{job.unit}:{job.adapter}:ckpt-step-{point.step}"
        ),
        "fine_tuning_job_id": job.id,
        "step_number": point.step,
        "metrics": {"step": point.step, **point.metrics},
    }
